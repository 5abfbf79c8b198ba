//! Limits on the handshakes of a loop: on those at once, and on the steps in a turn.
//!
//! A handshake costs a processor up to a thousand times as much as a message. So a loop takes a
//! limited number of steps in a turn, and connections that talk are served between them. A
//! connection whose turn has not come waits in a queue of the loop, and watches no readiness.
//!
//! Ground rule: a connection in the queue is resumed by a deferred callback, in order. The callback
//! is deferred as long as only the limit of the turn stands in the way. If it is the limit of
//! handshakes at once, the end of a handshake defers it.

use std::collections::{HashSet, VecDeque};

use reactor::{Context, Io, Key, Registry};

use super::handler::ConnectionHandler;
use super::registration::Registration;
use super::state::{Flags, State};
use super::stream::Stream;
use crate::carried::for_no_request;

/// The handshakes of a loop.
#[derive(Default)]
struct Handshakes {
    /// The turn that `steps` belongs to.
    turn: u64,
    /// The number of steps taken in the turn.
    steps: usize,
    /// The number of handshakes that have begun and not ended.
    running: usize,
    waiting: VecDeque<Key>,
    /// The connections whose handshake ends if their connect is cancelled.
    cancellable: HashSet<Key>,
    /// A callback that resumes the next connections is deferred.
    is_resuming: bool,
}

/// The reason why a step cannot be taken now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    /// Enough steps were taken in this turn.
    Turn,
    /// Enough handshakes are running.
    Running,
}

impl Handshakes {
    /// Returns why the handshake of `state` cannot go on now.
    fn obstacle(&mut self, state: &State, turn: u64) -> Option<Obstacle> {
        if self.turn != turn {
            (self.turn, self.steps) = (turn, 0);
        }
        let runs = state.flags.has(Flags::HANDSHAKE_RUNS);
        if !runs && self.running >= state.settings.max_handshakes {
            Some(Obstacle::Running)
        } else if self.steps >= state.settings.max_handshakes_per_turn {
            Some(Obstacle::Turn)
        } else {
            None
        }
    }

    fn count_step(&mut self, state: &mut State) {
        self.steps += 1;
        if !state.flags.has(Flags::HANDSHAKE_RUNS) {
            state.flags.insert(Flags::HANDSHAKE_RUNS);
            self.running += 1;
        }
    }
}

/// Takes a step of the handshake of the connection `key`, if the limits of the loop allow it.
/// Otherwise the connection waits to be resumed, and this returns `false`.
pub(super) fn may_step<S>(registry: &mut Registry<S>, key: Key, state: &mut State) -> bool {
    if state.flags.has(Flags::HANDSHAKE_WAITS) {
        return false;
    }
    let turn = registry.turn_number();
    let handshakes = registry.local::<Handshakes>();
    let Some(obstacle) = handshakes.obstacle(state, turn) else {
        handshakes.count_step(state);
        return true;
    };
    state.flags.insert(Flags::HANDSHAKE_WAITS);
    handshakes.waiting.push_back(key);
    if obstacle == Obstacle::Turn {
        resume_later(registry);
    }
    false
}

/// Holds the timeout of a handshake back until its next step, and returns `true`, if the step only
/// waits for its turn: the answer of the peer may lie in the kernel.
pub(super) fn hold_timeout<S>(registry: &mut Registry<S>, state: &mut State) -> bool {
    let runs = state.flags.has(Flags::HANDSHAKE_RUNS);
    let may_run = runs || registry.local::<Handshakes>().running < state.settings.max_handshakes;
    let holds = state.flags.has(Flags::HANDSHAKE_WAITS) && may_run;
    if let Some(times) = &mut state.times {
        times.hold_handshake(holds);
    }
    holds
}

/// Lets [`cancel`] end the connection `key` while its handshake is not complete.
pub(super) fn make_cancellable<S>(registry: &mut Registry<S>, key: Key) {
    registry.local::<Handshakes>().cancellable.insert(key);
}

/// Ends the connection `key`, if its handshake is not complete and may be cancelled.
pub(super) fn cancel<S>(registry: &mut Registry<S>, key: Key) {
    if registry.local::<Handshakes>().cancellable.remove(&key) {
        // It exists, because its end would have removed it from the set.
        let _ = registry.remove(key);
    }
}

/// Ends the handshake of the connection `key`, so that another one can begin.
pub(super) fn end<S>(registry: &mut Registry<S>, key: Key, state: &mut State) {
    if state.flags.has(Flags::LAYERED) {
        registry.local::<Handshakes>().cancellable.remove(&key);
    }
    if state.flags.take(Flags::HANDSHAKE_RUNS) {
        let handshakes = registry.local::<Handshakes>();
        handshakes.running -= 1;
        if !handshakes.waiting.is_empty() {
            resume_later(registry);
        }
    }
}

fn resume_later<S>(registry: &mut Registry<S>) {
    let handshakes = registry.local::<Handshakes>();
    if !std::mem::replace(&mut handshakes.is_resuming, true) {
        for_no_request(|| registry.defer(|cx| resume(cx)));
    }
}

/// Resumes connections that wait, as many as the limits allow.
fn resume<S>(cx: &mut Context<'_, S>) {
    cx.registry.local::<Handshakes>().is_resuming = false;
    while let Some(key) = cx.registry.local::<Handshakes>().waiting.pop_front() {
        let mut request = ResumeHandshake { obstacle: None };
        // An error means that the connection has ended.
        let _ = cx.request(key, &mut request);
        if let Some(obstacle) = request.obstacle {
            cx.registry.local::<Handshakes>().waiting.push_front(key);
            if obstacle == Obstacle::Turn {
                resume_later(cx.registry);
            }
            return;
        }
    }
}

/// A request to a connection to go on with its handshake.
pub(super) struct ResumeHandshake {
    /// The reason why the connection still waits, if it does.
    obstacle: Option<Obstacle>,
}

impl<H> Registration<H> {
    /// Resumes the handshake, if the limits allow it.
    pub(super) fn resume_handshake<S, T: Stream>(
        &mut self,
        request: &mut ResumeHandshake,
        io: &mut Io<T>,
        cx: &mut Context<'_, S>,
    ) where
        H: ConnectionHandler<S>,
    {
        let turn = cx.registry.turn_number();
        let handshakes = cx.registry.local::<Handshakes>();
        request.obstacle = handshakes.obstacle(&self.state, turn);
        if request.obstacle.is_none() {
            self.state.flags.remove(Flags::HANDSHAKE_WAITS);
            if let Some(times) = &mut self.state.times {
                times.hold_handshake(false);
            }
            self.run(io, cx);
        }
    }
}
