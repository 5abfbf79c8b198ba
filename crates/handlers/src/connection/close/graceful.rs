//! The graceful close: the handler is called with the input that has arrived, and its responses are
//! sent.

use std::io;
use std::os::fd::AsFd;

use reactor::Context;

use crate::connection::dispatch::{Callback, Dispatch};
use crate::connection::handler::ConnectionHandler;
use crate::connection::later::{ask_kernel_first, run_later};
use crate::connection::state::{Flags, Pending, Phase};
use crate::connection::stream::Stream;
use crate::sockets::has_input;

impl<S, T: Stream, H: ConnectionHandler<S>> Dispatch<'_, S, T, H> {
    /// Notifies the handler of a graceful close, so that it writes what it still has to send. If
    /// the call comes from outside, the notification is deferred.
    pub(in crate::connection) fn start_graceful_close(
        &mut self,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        if (self.state.graceful_close(), self.state.phase()) != (Pending::Asked, Phase::Open) {
            return Ok(());
        }
        if self.from_outside {
            run_later::<S, T, H>(cx.registry, self.key.key());
            return Ok(());
        }
        self.state.set_graceful_close(Pending::Awaited);
        ask_kernel_first::<S, T, H>(cx.registry, self.key.key());
        self.notify(&Callback::GracefulClose, cx)
    }

    /// Returns `true` if a graceful close can begin: the handler was called with all input that has
    /// arrived, and none of its responses is pending.
    pub(in crate::connection) fn is_graceful_close_due(&self) -> bool {
        let state = &*self.state;
        let is_due = (state.graceful_close(), state.phase()) == (Pending::Due, Phase::Open);
        let may_come = || {
            let is_left = !state.unconsumed.is_empty() && state.flags.has(Flags::REDELIVER);
            is_left
                || !state.flags.has(Flags::READ_ENDED)
                    && (self.io.readiness().is_readable() || has_input(self.io.as_fd()))
        };
        let is_served = || state.flags.has(Flags::PAUSED) || !may_come();
        let is_taken = state.flags.has(Flags::TAKEN_WHEN_FLUSHED);
        is_due
            && !is_taken
            && state.pending_responses == 0
            && !state.flags.has(Flags::QUEUE_FULL)
            && is_served()
    }
}
