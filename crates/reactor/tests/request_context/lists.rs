//! The lists of a loop show the name of a context.

use std::time::Duration;

use reactor::{Interest, Next, PanicPolicy, RequestContext, Then};

use crate::{Result, on_clock, request};

#[test]
fn registrations_and_timers_show_the_name_of_their_context() -> Result {
    let (mut reactor, _) = on_clock::<()>(PanicPolicy::Propagate)?;
    let of_value = RequestContext::NONE.with(7_u8);
    let mut peers = Vec::new();
    for context in [request(1).0, of_value, RequestContext::NONE] {
        context.scope(|| -> Result {
            let (reader, writer) = std::io::pipe()?;
            peers.push(writer);
            reactor.add(reader, Interest::READABLE, |_, _| Ok(Next::Keep))?;
            reactor.after(Duration::from_secs(1), |_| Ok(Then::Done));
            Ok(())
        })?;
    }
    let names = [Some("one"), Some("u8"), None];
    let sources: Vec<_> = reactor
        .registrations()
        .map(|source| source.context)
        .collect();
    let timers: Vec<_> = reactor.timers().map(|timer| timer.context).collect();
    assert_eq!((sources, timers), (names.to_vec(), names.to_vec()));
    let lines: Vec<_> = reactor
        .registrations()
        .map(|source| source.to_string())
        .collect();
    let of_timers: Vec<_> = reactor.timers().map(|timer| timer.to_string()).collect();
    for lines in [lines, of_timers] {
        assert!(
            lines[0].ends_with(", in one") && lines[1].ends_with(", in u8"),
            "{lines:?}"
        );
        assert!(!lines[2].contains(", in "), "{lines:?}");
    }
    Ok(())
}

#[test]
fn a_slot_that_is_used_again_does_not_show_the_context_before() -> Result {
    let (mut reactor, _) = on_clock::<()>(PanicPolicy::Propagate)?;
    for context in [request(1).0, RequestContext::NONE] {
        let (reader, _writer) = std::io::pipe()?;
        let (key, timer) = context.scope(|| -> Result<_> {
            let key = reactor.add(reader, Interest::READABLE, |_, _| Ok(Next::Keep))?;
            Ok((
                key,
                reactor.after(Duration::from_secs(1), |_| Ok(Then::Done)),
            ))
        })?;
        assert_eq!(reactor.context(key)?.name(), context.name());
        assert_eq!(reactor.timer_context(timer)?.name(), context.name());
        reactor.remove(key)?;
        reactor.cancel(timer)?;
        assert!(reactor.context(key).is_err() && reactor.timer_context(timer).is_err());
        assert!(reactor.set_context(key, RequestContext::NONE).is_err());
        assert!(
            reactor
                .set_timer_context(timer, RequestContext::NONE)
                .is_err()
        );
    }
    Ok(())
}
