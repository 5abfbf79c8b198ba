//! The end of a connection whose socket has failed: its handler is first given what has come.
//!
//! Ground rule: nothing is over while the kernel has bytes of the peer. Silence of one wait does not say that it has
//! none, where more sources are ready than a wait reports: so the socket is polled.

use std::io::{self, ErrorKind};

use reactor::Context;
use socket2::SockRef;

use crate::connection::dispatch::{Callback, Dispatch};
use crate::connection::handler::ConnectionHandler;
use crate::connection::later::{ask_kernel_first, run_later};
use crate::connection::state::{Flags, Pending, Phase, Writing};
use crate::connection::stream::Stream;
use crate::socket::has_input;

impl<S, T: Stream, H: ConnectionHandler<S>> Dispatch<'_, S, T, H> {
    /// Ends a connection whose socket takes no more, once the handler was given what has come.
    pub(in crate::connection) fn handle_failure(
        &mut self,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        if let Some(error) = self.error_while_not_reading() {
            self.state.fail_writing(error);
        }
        if self.state.writing() != Writing::Failed
            || matches!(self.state.phase(), Phase::Opening | Phase::Over)
        {
            return Ok(());
        }
        if self.state.phase() != Phase::Open || self.state.flags.has(Flags::READ_ENDED) {
            self.state.end_with_failure();
            return Ok(());
        }
        if self.state.flags.has(Flags::PAUSED) {
            self.handle_failure_while_paused(cx)?;
        }
        if !self.state.flags.has(Flags::PAUSED) && !self.io.readiness().is_readable() {
            self.end_if_input_drained(cx);
        }
        Ok(())
    }

    /// Handles the failure for a handler that is paused, which does not learn of it by reading: it is notified. Where
    /// only an end is left to read, it is given that now. From outside, the notification is deferred.
    fn handle_failure_while_paused(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        let is_drained = self.state.unconsumed.is_empty() && !T::has_unread(self.io);
        if self.state.flags.has(Flags::FAILURE_NOTIFIED) && !is_drained {
            return Ok(());
        }
        if self.from_outside {
            run_later::<S, T, H>(cx.registry, self.key.key());
            return Ok(());
        }
        if is_drained {
            if self.state.is_end_whole() && self.io.readiness().is_read_closed() {
                self.state.flags.insert(Flags::READ_ENDED);
                self.end_of_input(cx)?;
            }
            self.state.end_with_failure();
            return Ok(());
        }
        self.state.flags.insert(Flags::FAILURE_NOTIFIED);
        let error = self.state.copy_of_failure();
        run_later::<S, T, H>(cx.registry, self.key.key()); // for what it asks for
        self.notify(&Callback::Failure(error), cx)
    }

    /// Ends the connection where nothing is known to be left to read, if the kernel was asked since the socket failed.
    fn end_if_input_drained(&mut self, cx: &mut Context<'_, S>) {
        match self.state.failing {
            Pending::Due if has_input(self.io) => {} // the event that tells it is still to come
            Pending::Due => self.state.end_with_failure(),
            Pending::No => {
                self.state.failing = Pending::Awaited;
                ask_kernel_first::<S, T, H>(cx.registry, self.key.key());
            }
            Pending::Asked | Pending::Awaited => {}
        }
    }

    /// Returns the error of a connection that reads nothing at the moment: a reset, a timeout of the kernel.
    ///
    /// A peer that ended its direction before it was gone has sent something whole: that is found by reading.
    fn error_while_not_reading(&self) -> Option<io::Error> {
        let ready = self.io.readiness();
        let may_have_failed =
            self.state.is_not_reading() && self.state.writing() != Writing::Failed;
        if !may_have_failed || !ready.is_error() && !ready.is_write_closed() {
            return None;
        }
        let error = SockRef::from(&*self.io).take_error().ok()??; // what is no socket has none
        let is_whole =
            error.kind() == ErrorKind::BrokenPipe && !self.state.flags.has(Flags::READ_ENDED);
        if is_whole { None } else { Some(error) }
    }
}
