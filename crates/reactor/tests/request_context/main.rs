//! The context of a request travels: what is current when work is handed on is current in its
//! callback, and nothing is current after it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

mod destructors;
mod lists;
mod log;
mod matrix;
mod model;
mod replaced;
mod spans;
mod threads;
mod ways;

use std::sync::{Arc, OnceLock};

use reactor::{ManualClock, PanicPolicy, Reactor, RequestContext};
use support::ms;
use tracing::{Span, info_span};

use log::Log;

type Result<T = ()> = support::Result<T>;

/// Returns the log of all threads.
fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        tracing::subscriber::set_global_default(log.clone()).expect("it is the only one");
        log
    })
}

/// The value of a context: the number of a request.
#[derive(Debug)]
struct Request(
    u32,
    #[expect(dead_code, reason = "its owners are counted")] Arc<()>,
);

/// The number and the span of the context that is current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Here(Option<u32>, Option<&'static str>);

const NOWHERE: Here = Here(None, None);
const IN_ONE: Here = Here(Some(1), Some("one"));
const IN_TWO: Here = Here(Some(2), Some("two"));

/// Returns what is current, as a log line and as a callback see it.
#[track_caller]
fn here() -> Here {
    let context = RequestContext::current();
    let span = Span::current().metadata().map(|span| span.name());
    let carried = context
        .span()
        .and_then(Span::metadata)
        .map(|span| span.name());
    assert_eq!(
        span, carried,
        "the span of the context is the one of tracing"
    );
    Here(context.get::<Request>().map(|request| request.0), span)
}

/// The owners of a context, counted: those of its value, and the handles of its span.
struct Watch {
    owners: Arc<()>,
    span: tracing::span::Id,
}

impl Watch {
    fn is_alive(&self) -> bool {
        let is_open = log().is_open(&self.span);
        assert_eq!(
            is_open,
            Arc::strong_count(&self.owners) > 1,
            "value and span"
        );
        is_open
    }
}

/// Returns a context with the value and the span of a request, and its watch.
fn request(number: u32) -> (RequestContext, Watch) {
    log();
    let span = match number {
        1 => info_span!(parent: None, "one"),
        _ => info_span!(parent: None, "two"),
    };
    let (owners, id) = (Arc::new(()), span.id().expect("the log knows all spans"));
    let context = RequestContext::NONE.with(Request(number, Arc::clone(&owners)));
    (context.with_span(span), Watch { owners, span: id })
}

/// Asserts that nothing is current on this thread, neither a context nor a span.
#[track_caller]
fn assert_nothing_is_current(why: &str) {
    assert_eq!(here(), NOWHERE, "{why}");
    assert!(log().entered().is_empty(), "{why}: {:?}", log().entered());
}

/// Returns a loop whose time the test drives.
fn on_clock<S>(policy: PanicPolicy) -> Result<(Reactor<S>, ManualClock)> {
    let clock = ManualClock::new();
    let builder = Reactor::builder().clock(clock.clone()).on_panic(policy);
    Ok((builder.slow_after(ms(500)).build()?, clock))
}
