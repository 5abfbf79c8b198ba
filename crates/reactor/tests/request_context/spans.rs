//! Spans of two subscribers, and spans beside values.

use std::time::Duration;

use reactor::{PanicPolicy, RequestContext};
use tracing::subscriber::with_default;
use tracing::{Span, info_span};

use crate::log::Log;
use crate::{Result, assert_nothing_is_current, log, on_clock};

fn span_of(log: &Log) -> Span {
    with_default(log.clone(), || info_span!(parent: None, "request"))
}

#[test]
fn a_span_is_entered_with_the_subscriber_that_made_it() -> Result {
    log();
    let (one, two) = (Log::default(), Log::default());
    let (mut reactor, _) = on_clock::<Vec<Vec<&str>>>(PanicPolicy::Propagate)?;
    let (seen_by_one, seen_by_two) = (one.clone(), two.clone());
    RequestContext::NONE.with_span(span_of(&one)).scope(|| {
        reactor.defer(move |cx| {
            cx.state
                .extend([seen_by_one.entered(), seen_by_two.entered()])
        });
    });
    let mut seen = Vec::new();
    with_default(two.clone(), || {
        reactor.turn(&mut seen, Some(Duration::ZERO))
    })?;
    assert_eq!(seen, [vec!["request"], vec![]]);
    assert!(one.entered().is_empty() && two.entered().is_empty());
    assert_nothing_is_current("of the third subscriber");
    Ok(())
}

#[test]
fn an_equal_id_of_another_subscriber_is_another_span() {
    log();
    let (one, two) = (Log::default(), Log::default());
    let of_one = span_of(&one);
    with_default(two, || {
        let of_two = info_span!(parent: None, "other");
        assert_eq!(of_one.id(), of_two.id(), "each subscriber counts from 1");
        RequestContext::NONE.with_span(of_one).scope(|| {
            let current = of_two.in_scope(RequestContext::current);
            let name = current
                .span()
                .and_then(Span::metadata)
                .map(|span| span.name());
            assert_eq!(name, Some("other"));
        });
    });
}

#[test]
fn a_value_and_a_span_that_was_entered_are_carried_together() -> Result {
    log();
    let (mut reactor, _) = on_clock::<Vec<(Option<u8>, Option<&str>)>>(PanicPolicy::Propagate)?;
    let see = || {
        let context = RequestContext::current();
        (context.get().copied(), context.name())
    };
    RequestContext::NONE.with(7_u8).scope(|| {
        reactor.defer(move |cx| cx.state.push(see()));
        let _entered = info_span!(parent: None, "entered").entered();
        reactor.defer(move |cx| cx.state.push(see()));
    });
    let _entered = info_span!(parent: None, "around the loop").entered();
    let mut seen = Vec::new();
    reactor.turn(&mut seen, Some(Duration::ZERO))?;
    assert_eq!(seen, [(Some(7), Some("u8")), (Some(7), Some("entered"))]);
    assert_eq!(log().entered(), ["around the loop"], "restored");
    Ok(())
}
