//! Types that go to other threads, types that stay on the thread of the loop, and types that are
//! shown. Checked by the compiler.

use std::rc::Rc;

use reactor::{
    AddError, Builder, CallError, Capacity, CloseReason, Context, Error, Event, EventFd, Failure,
    HookKey, Interest, Io, KeepAlive, Key, Kind, LoopGone, LoopPool, LoopThread, ManualClock,
    Metrics, Missed, Next, PanicPolicy, Priority, Reactor, Readiness, Receiver, Registry, Remote,
    SendTimeoutError, Sender, SetOutcome, Signalled, Spin, Then, TimerKey, TryPostError, Waker,
};

/// Fails to compile for a type that is not `Send`, or not `Sync`.
const fn goes_anywhere<T: Send + Sync>() {}

/// Fails to compile for a type that is `Send` or `Sync`: it is ambiguous then which `_` is meant.
macro_rules! stays_on_its_thread {
    ($($type:ty),* $(,)?) => { $(
        const _: () = <$type as UnlessSend<_>>::OK;
        const _: () = <$type as UnlessSync<_>>::OK;
    )* };
}

trait UnlessSend<Candidate> {
    const OK: () = ();
}
impl<T: ?Sized> UnlessSend<()> for T {}
impl<T: ?Sized + Send> UnlessSend<u8> for T {}

trait UnlessSync<Candidate> {
    const OK: () = ();
}
impl<T: ?Sized> UnlessSync<()> for T {}
impl<T: ?Sized + Sync> UnlessSync<u8> for T {}

/// A state that never leaves its loop, as most states.
type State = Rc<()>;

#[test]
fn handles_to_a_loop_go_to_any_thread_for_any_state() {
    goes_anywhere::<(Remote<State>, LoopThread<State>, LoopPool<State>)>();
    goes_anywhere::<(Waker, KeepAlive, Event, EventFd)>();
    goes_anywhere::<(Sender<Vec<u8>>, Receiver<Vec<u8>>)>();
    // A value is on one thread at a time.
    goes_anywhere::<(Sender<std::cell::Cell<u8>>, Receiver<std::cell::Cell<u8>>)>();
}

#[test]
fn errors_keys_and_policies_go_to_any_thread() {
    goes_anywhere::<(
        Error,
        Failure,
        AddError<()>,
        CallError,
        LoopGone,
        SendTimeoutError<()>,
        TryPostError<()>,
    )>();
    goes_anywhere::<(
        Key,
        TimerKey,
        HookKey,
        CloseReason,
        Metrics,
        Kind,
        Interest,
        Readiness,
        Priority,
    )>();
    goes_anywhere::<(
        Capacity,
        Missed,
        Next,
        Then,
        PanicPolicy,
        Spin,
        SetOutcome,
        Signalled,
    )>();
}

#[test]
fn a_loop_and_its_manual_clock_stay_on_their_thread() {
    stays_on_its_thread!(
        Reactor<()>,
        Registry<()>,
        Context<'static, ()>,
        ManualClock,
        Sender<Rc<()>>,
        Receiver<Rc<()>>
    );
    // The registration stays on its thread, not a source.
    goes_anywhere::<Io<std::net::TcpStream>>();
}

/// Fails to compile for a type that is not `Debug`.
const fn is_shown<T: std::fmt::Debug>() {}

#[test]
fn every_type_is_shown_for_any_state() {
    /// It has no trait that a type could inherit.
    struct Bare;

    const {
        is_shown::<Builder<Bare>>();
        is_shown::<Context<'_, Bare>>();
        is_shown::<LoopPool<Bare>>();
        is_shown::<LoopThread<Bare>>();
        is_shown::<Reactor<Bare>>();
        is_shown::<Registry<Bare>>();
        is_shown::<Remote<Bare>>();
        is_shown::<(Sender<Bare>, Receiver<Bare>)>();
    }
}
