//! The actions of callbacks: they hand on work, and change contexts.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use std::sync::mpsc::TrySendError;

use reactor::{Key, Next, RequestContext, Then};
use simulation::random;

use super::{Cx, Here, kept};
use crate::draw::{duration, once_in, panic, size};
use crate::mark::{current_number, expect_current};

/// The ways in which callbacks of this file and of `mod.rs` are reached.
pub(super) const WAYS: &[&str] = &[
    "a queue",
    "an event",
    "a post of a thread",
    "a call",
    "a timer",
    "a timer that runs again",
    "a deferred callback",
    "a post",
    "room in a queue",
    "a hook",
    "an idle callback",
    "a job",
    "the end of a job",
];

const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// Every callback: expects its context, and acts.
pub(crate) fn arrive(way: &'static str, here: &mut Here, cx: &mut Cx<'_>) {
    expect_current(&here.current, way);
    let shared = Rc::clone(&cx.state.shared);
    count(&mut shared.arrived.borrow_mut(), way);
    simulation::note(&format!("{way} of {:?}", current_number()));
    pause();
    for _ in 0..size(4) {
        act(cx, here);
        expect_current(&here.current, way);
    }
    pause();
    expect_current(&here.current, way);
    if shared.panics && once_in(40) {
        panic();
    }
}

fn count(arrived: &mut BTreeMap<&'static str, u64>, way: &'static str) {
    *arrived.entry(way).or_default() += 1;
}

/// Lets other threads run.
fn pause() {
    if once_in(4) {
        simulation::sleep(duration(Duration::from_millis(2)));
    }
}

pub(super) fn act(cx: &mut Cx<'_>, here: &mut Here) {
    if !cx.state.shared.spend() {
        return;
    }
    match random(16) {
        0 | 1 => arm(cx, here),
        2 => defer(cx, here),
        3 | 4 => post(cx, here),
        5 | 6 => send(cx, here),
        7 => add_job(cx, here),
        8 => add_hook(cx, here),
        9 => drop(cx.state.shared.draw_event().set()),
        10 => cancel(cx),
        11 => replace_own(cx, here),
        12 => replace_by_key(cx),
        13 => act_in_scope(cx, here),
        14 => act_in_span(cx, here),
        _ => act_without(cx, here),
    }
}

fn arm(cx: &mut Cx<'_>, here: &Here) {
    let kept = kept(&here.current);
    let (of_timer, mut way) = (Rc::clone(&kept), "a timer");
    let timer = cx.registry.after(duration(LONGEST_DELAY), move |cx| {
        arrive(way, &mut Here::of(&of_timer), cx);
        way = "a timer that runs again";
        Ok(if once_in(2) {
            Then::Done
        } else {
            Then::After(duration(LONGEST_DELAY))
        })
    });
    cx.state.timers.push((timer, kept));
}

fn defer(cx: &mut Cx<'_>, here: &Here) {
    let expected = here.current.clone();
    let key = cx.registry.defer(move |cx| {
        arrive("a deferred callback", &mut Here::once(&expected), cx);
    });
    cx.state.deferred.push(key);
}

fn post(cx: &Cx<'_>, here: &Here) {
    let expected = here.current.clone();
    // Refused by a loop that has ended.
    let _ = cx.state.shared.draw_remote().post(move |cx| {
        arrive("a post", &mut Here::once(&expected), cx);
    });
}

fn send(cx: &Cx<'_>, here: &Here) {
    let (sender, expected) = (cx.state.shared.draw_sender(), here.current.clone());
    let Err(TrySendError::Full(expected)) = sender.try_send(expected) else {
        return;
    };
    let _ = sender.on_room(&cx.state.remote, move |cx| {
        arrive("room in a queue", &mut Here::once(&expected), cx);
    });
}

fn add_job(cx: &Cx<'_>, here: &Here) {
    let (in_job, at_end) = (here.current.clone(), here.current.clone());
    let job = move || {
        expect_current(&in_job, "a job");
        simulation::sleep(duration(Duration::from_millis(20)));
        expect_current(&in_job, "a job");
    };
    let submitted = cx.state.pool.submit(job, move |_, cx| {
        let shared = Rc::clone(&cx.state.shared);
        count(&mut shared.arrived.borrow_mut(), "a job");
        arrive("the end of a job", &mut Here::once(&at_end), cx);
    });
    if once_in(8)
        && let Ok(job) = submitted
    {
        let _ = job.cancel();
    }
}

fn add_hook(cx: &mut Cx<'_>, here: &Here) {
    let (kind, of_hook, mut left) = (random(3), kept(&here.current), 1 + size(4));
    let way = if kind == 2 {
        "an idle callback"
    } else {
        "a hook"
    };
    let hook = move |cx: &mut Cx<'_>| {
        arrive(way, &mut Here::of(&of_hook), cx);
        left -= 1;
        Ok(if left == 0 { Next::Remove } else { Next::Keep })
    };
    let _hook = match kind {
        0 => cx.registry.before_wait(hook),
        1 => cx.registry.after_wait(hook),
        _ => cx.registry.idle(hook),
    };
}

/// Cancels a timer or a deferred callback. It may have ended.
fn cancel(cx: &mut Cx<'_>) {
    if once_in(2) {
        let place = random(cx.state.timers.len() as u64) as usize;
        if place < cx.state.timers.len() {
            let (timer, _) = cx.state.timers.swap_remove(place);
            let _ = cx.registry.cancel(timer);
        }
    } else if let Some(key) = cx.state.deferred.pop() {
        let _ = cx.registry.cancel_deferred(key);
    }
}

/// Replaces the context of the callback that runs, and of its further calls.
pub(super) fn replace_own(cx: &mut Cx<'_>, here: &mut Here) {
    if here.is_scope && cx.key() != Key::NULL {
        return; // current only in the scope, although the handler may be called once more
    }
    let context = if once_in(4) {
        RequestContext::NONE
    } else {
        cx.state.shared.fresh()
    };
    cx.set_context(context.clone());
    here.kept.replace(context.clone());
    here.current = context;
}

/// Replaces the context of a timer, or of a registration whose handler is not running. The current
/// context stays.
fn replace_by_key(cx: &mut Cx<'_>) {
    let fresh = cx.state.shared.fresh();
    if once_in(2) {
        let place = random(cx.state.timers.len() as u64) as usize;
        let Some((timer, kept)) = cx.state.timers.get(place) else {
            return;
        };
        if let Ok(context) = cx.registry.timer_context(*timer) {
            assert_eq!(
                context.span(),
                kept.borrow().span(),
                "the context of a timer"
            );
            cx.registry
                .set_timer_context(*timer, fresh.clone())
                .unwrap();
            kept.replace(fresh);
        }
        return;
    }
    let place = random(cx.state.registrations.len() as u64) as usize;
    let Some((key, kept)) = cx.state.registrations.iter().nth(place) else {
        return;
    };
    if *key == cx.key() {
        return; // the handler of a connection may be called once more in this call
    }
    if let Ok(context) = cx.registry.context(*key) {
        assert_eq!(
            context.span(),
            kept.borrow().span(),
            "the context of a registration"
        );
        cx.registry.set_context(*key, fresh.clone()).unwrap();
        kept.replace(fresh);
    }
}

/// Acts in a scope within the callback. A context that is set in a scope is current until its end.
fn act_in_scope(cx: &mut Cx<'_>, here: &mut Here) {
    let fresh = cx.state.shared.fresh();
    let mut inner = Here {
        current: fresh.clone(),
        kept: Rc::clone(&here.kept),
        is_scope: true,
    };
    fresh.scope(|| {
        for _ in 0..size(4) {
            act(cx, &mut inner);
            expect_current(&inner.current, "a scope");
        }
        if cx.state.shared.panics && once_in(40) {
            panic();
        }
    });
}

/// Acts in a span that was entered by other means than a context. It is carried too.
fn act_in_span(cx: &mut Cx<'_>, here: &Here) {
    let span = tracing::info_span!("within", number = random(1000));
    let inner = Here {
        current: here.current.with_span(span.clone()),
        kept: Rc::clone(&here.kept),
        is_scope: true,
    };
    span.in_scope(|| match random(3) {
        0 => arm(cx, &inner),
        1 => defer(cx, &inner),
        _ => post(cx, &inner),
    });
}

/// Acts on behalf of nobody.
fn act_without(cx: &mut Cx<'_>, here: &Here) {
    let inner = Here {
        current: RequestContext::NONE,
        kept: Rc::clone(&here.kept),
        is_scope: true,
    };
    RequestContext::NONE.scope(|| match random(3) {
        0 => arm(cx, &inner),
        1 => post(cx, &inner),
        _ => send(cx, &inner),
    });
}
