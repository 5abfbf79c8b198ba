//! The context of a request in these tests: a number, and a span with the same number.

use std::sync::Once;

use reactor::RequestContext;
use tracing::Span;

/// The number of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number(pub(crate) u64);

/// Counts spans for all simulations of the process. Without it no span is ever current.
pub(crate) fn listen_to_spans() {
    static LISTENS: Once = Once::new();
    LISTENS.call_once(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry())
            .expect("no other subscriber in this binary");
    });
}

/// Returns the context of request `number`, with a span of its own.
pub(crate) fn context_of(number: u64) -> RequestContext {
    let span = tracing::info_span!(parent: None, "request", number);
    RequestContext::NONE.with_span(span).with(Number(number))
}

/// Returns the number of the current request.
pub(crate) fn current_number() -> Option<u64> {
    let current = RequestContext::current();
    current.get::<Number>().map(|number| number.0)
}

/// Asserts that `expected` is current, and no other value and no other span.
#[track_caller]
pub(crate) fn expect_current(expected: &RequestContext, place: &str) {
    let number = expected.get::<Number>().map(|number| number.0);
    assert_eq!(current_number(), number, "the number in {place}");
    let span = expected.span().and_then(Span::id);
    assert_eq!(Span::current().id(), span, "the span in {place}");
}
