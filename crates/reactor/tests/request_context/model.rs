//! Random hand-overs: each callback knows in which context it must run, and hands further work on.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::panic_any;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;
use reactor::{
    Capacity, Context, Missed, Next, PanicPolicy, Remote, RequestContext, Sender, Then,
    notification_queue,
};
use support::ms;

use crate::{Here, Watch, assert_nothing_is_current, here, on_clock, request};

/// How work is handed on.
#[derive(Clone, Copy, Debug)]
enum Way {
    After,
    Every,
    Defer,
    Post,
    Send,
    Hook,
}

/// A context that a callback makes current: its own number, or none.
#[derive(Clone, Copy, Debug)]
enum Other {
    One,
    Two,
    Nothing,
}

/// The acts of a callback.
#[derive(Clone, Debug)]
struct Step {
    /// It changes its context for the rest of the call.
    sets: Option<Other>,
    /// It hands work on, either in its context or in a scope of another one.
    hands_on: Vec<(Way, Option<Other>)>,
    panics: bool,
}

/// The steps of all callbacks, in the order of their calls, and what the model knows.
#[derive(Clone)]
struct Plan {
    steps: Rc<RefCell<VecDeque<Step>>>,
    watches: Rc<RefCell<Vec<Watch>>>,
    calls: Rc<RefCell<u32>>,
    panics: Rc<RefCell<u64>>,
    remote: Remote<Self>,
    sender: Sender<Here>,
}

impl Plan {
    /// Returns a context that nothing else has, and how a callback sees it.
    fn make(&self, other: Other) -> (RequestContext, Here) {
        let number = match other {
            Other::One => 1,
            Other::Two => 2,
            Other::Nothing => return (RequestContext::NONE, crate::NOWHERE),
        };
        let (context, watch) = request(number);
        self.watches.borrow_mut().push(watch);
        (
            context,
            Here(Some(number), Some(["one", "two"][number as usize - 1])),
        )
    }
}

/// Runs the next step of the plan in a callback that must be in the context `expected`. Returns the
/// context of its next call, if it has one.
fn run(cx: &mut Context<'_, Plan>, expected: Here, keeps: bool) -> Here {
    assert_eq!(here(), expected);
    *cx.state.calls.borrow_mut() += 1;
    let Some(step) = cx.state.steps.borrow_mut().pop_front() else {
        return expected;
    };
    let (mut now, mut next) = (expected, expected);
    if let Some(other) = step.sets {
        let (context, seen) = cx.state.make(other);
        cx.set_context(context);
        now = seen;
        next = if keeps { seen } else { expected };
    }
    for (way, within) in step.hands_on {
        match within {
            None => hand_on(cx, way, now),
            Some(other) => {
                let (context, seen) = cx.state.make(other);
                context.scope(|| hand_on(cx, way, seen));
            }
        }
        assert_eq!(here(), now, "after a scope");
    }
    if step.panics {
        *cx.state.panics.borrow_mut() += 1;
        panic_any("as the plan wants");
    }
    next
}

/// Hands on a callback that must run in the context `expected`.
fn hand_on(cx: &mut Context<'_, Plan>, way: Way, mut expected: Here) {
    match way {
        Way::After => {
            cx.registry.after(ms(1), move |cx| {
                run(cx, expected, true);
                Ok(Then::Done)
            });
        }
        Way::Every => {
            let mut calls = 0;
            cx.registry.every(ms(1), Missed::Skip, move |cx| {
                expected = run(cx, expected, true);
                calls += 1;
                Ok(if calls < 3 { Next::Keep } else { Next::Remove })
            });
        }
        Way::Defer => {
            cx.registry.defer(move |cx| {
                run(cx, expected, false);
            });
        }
        Way::Post => {
            let remote = cx.state.remote.clone();
            let run = move |cx: &mut Context<'_, Plan>| {
                run(cx, expected, false);
            };
            remote.post(run).unwrap();
        }
        Way::Send => cx.state.sender.try_send(expected).unwrap(),
        Way::Hook => {
            let mut calls = 0;
            cx.registry.after_wait(move |cx| {
                expected = run(cx, expected, true);
                calls += 1;
                Ok(if calls < 3 { Next::Keep } else { Next::Remove })
            });
        }
    }
}

fn other() -> impl Strategy<Value = Other> {
    prop_oneof![Just(Other::One), Just(Other::Two), Just(Other::Nothing)]
}

fn step() -> impl Strategy<Value = Step> {
    let way = prop_oneof![
        Just(Way::After),
        Just(Way::Every),
        Just(Way::Defer),
        Just(Way::Post),
        Just(Way::Send),
        Just(Way::Hook),
    ];
    let hands_on = prop::collection::vec((way, prop::option::of(other())), 0..4);
    (
        prop::option::of(other()),
        hands_on,
        prop::bool::weighted(0.1),
    )
        .prop_map(|(sets, hands_on, panics)| Step {
            sets,
            hands_on,
            panics,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_callback_has_the_context_in_which_it_was_handed_on(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let (mut reactor, _) = on_clock::<Plan>(PanicPolicy::RemoveHandler).unwrap();
        let (sender, receiver) = notification_queue(Capacity::Unbounded);
        // A panic would end the queue.
        reactor.consume(receiver, move |value: Option<Here>, cx| {
            if let Some(expected) = value {
                let panics = cx.state.steps.borrow().front().is_some_and(|step| step.panics);
                if !panics {
                    run(cx, expected, false);
                }
            }
            Ok(Next::Keep)
        }).unwrap();
        let mut plan = Plan {
            steps: Rc::new(RefCell::new(steps.into())),
            watches: Rc::default(),
            calls: Rc::default(),
            panics: Rc::default(),
            remote: reactor.remote().unwrap(),
            sender,
        };
        let mut turns = 0;
        while !plan.steps.borrow().is_empty() && turns < 400 {
            reactor.defer(|cx| {
                run(cx, crate::NOWHERE, false);
            });
            reactor.advance(&mut plan, ms(1)).unwrap();
            assert_nothing_is_current("after a turn");
            turns += 1;
        }
        for _ in 0..8 {
            reactor.advance(&mut plan, ms(1)).unwrap(); // what was handed on last
        }
        let panics = *plan.panics.borrow();
        prop_assert_eq!(reactor.metrics().panics, panics, "a callback had another context");
        prop_assert!(*plan.calls.borrow() > 0);
        reactor.advance(&mut plan, Duration::from_millis(10)).unwrap();
        let watches = plan.watches.take();
        let alive = watches.iter().filter(|watch| watch.is_alive()).count();
        prop_assert_eq!(alive, 0, "of {} contexts", watches.len());
    }
}
