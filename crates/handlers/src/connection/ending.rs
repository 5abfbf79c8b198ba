//! How a connection ends: by a finish, once its handler has been given what has come; by a socket that has failed, likewise.
//!
//! Ground rule: nothing is over while the kernel has bytes of the peer. Silence of one wait does not say that it has none,
//! where more sources are ready than a wait reports: so the socket is polled.

use std::io::{self, ErrorKind};

use reactor::Context;
use socket2::SockRef;

use super::call::{Call, Occasion};
use super::core::{Pending, Phase, Writing};
use super::stream::Stream;
use super::{ConnectionHandler, ask_kernel_first, run_later};
use crate::socket::has_input;

impl<S, T: Stream, H: ConnectionHandler<S>> Call<'_, S, T, H> {
    /// Asks the handler of a connection that is to finish what it still has to send. A visitor does not call it.
    pub(super) fn begin_finish(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        if (self.core.finishing, self.core.phase) != (Pending::Asked, Phase::Open) {
            return Ok(());
        }
        if self.is_visit {
            run_later::<S, T, H>(cx.registry, self.key.key());
            return Ok(());
        }
        self.core.finishing = Pending::Awaited;
        ask_kernel_first::<S, T, H>(cx.registry, self.key.key());
        self.tell(Occasion::Finish, cx)
    }

    /// Where the socket takes no more: ends the connection once the handler has been given what has come.
    pub(super) fn settle_failure(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        if let Some(error) = self.failure_at_rest() {
            self.core.fail(error);
        }
        if self.core.writing != Writing::Failed || self.core.phase == Phase::Over {
            return Ok(());
        }
        if self.core.phase != Phase::Open || self.core.read_ended {
            self.core.end_failed();
            return Ok(());
        }
        if self.core.paused {
            self.settle_failure_while_paused(cx)?;
        }
        if !self.core.paused && !self.io.readiness().is_readable() {
            self.end_if_drained(cx);
        }
        Ok(())
    }

    /// The same for a handler that is paused, which would not learn of it by reading: it is told, or where nothing but an end is left
    /// to read has that now. A visitor does not call it.
    fn settle_failure_while_paused(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        let is_drained = self.core.unconsumed.is_empty() && !T::has_unread(self.io);
        if self.core.failure_is_told && !is_drained {
            return Ok(());
        }
        if self.is_visit {
            run_later::<S, T, H>(cx.registry, self.key.key());
            return Ok(());
        }
        if is_drained {
            if self.core.is_end_whole() && self.io.readiness().is_read_closed() {
                self.core.read_ended = true;
                self.end(cx)?;
            }
            self.core.end_failed();
            return Ok(());
        }
        self.core.failure_is_told = true;
        let error = self.core.failure_again();
        run_later::<S, T, H>(cx.registry, self.key.key()); // for what it asks for
        self.tell(Occasion::Failure(error), cx)
    }

    /// Nothing is known to be left to read: that is the end, if the kernel has been asked since the socket failed.
    fn end_if_drained(&mut self, cx: &mut Context<'_, S>) {
        match self.core.failing {
            Pending::Due if has_input(self.io) => {} // the event that tells it is still to come
            Pending::Due => self.core.end_failed(),
            Pending::No => {
                self.core.failing = Pending::Awaited;
                ask_kernel_first::<S, T, H>(cx.registry, self.key.key());
            }
            Pending::Asked | Pending::Awaited => {}
        }
    }

    /// The error of a connection that reads nothing at the moment: a reset, an end of patience of the kernel's.
    ///
    /// A peer whose own direction had come to its end before it was gone has sent something whole: that is found by reading.
    fn failure_at_rest(&self) -> Option<io::Error> {
        let ready = self.io.readiness();
        let may_have_failed = self.core.rests() && self.core.writing != Writing::Failed;
        if !may_have_failed || !ready.is_error() && !ready.is_write_closed() {
            return None;
        }
        let error = SockRef::from(&*self.io).take_error().ok()??; // what is no socket has none
        let is_whole = error.kind() == ErrorKind::BrokenPipe && !self.core.read_ended;
        if is_whole { None } else { Some(error) }
    }

    /// Whether it is to be closed in order, and its handler has been given all that there is, and owes no answer.
    pub(super) fn has_finished(&self) -> bool {
        let core = &*self.core;
        let is_due = (core.finishing, core.phase) == (Pending::Due, Phase::Open);
        let may_come = || {
            let is_left = !core.unconsumed.is_empty() && core.redeliver;
            is_left || !core.read_ended && (self.io.readiness().is_readable() || has_input(self.io))
        };
        is_due && core.answers_owed == 0 && !core.full && (core.paused || !may_come())
    }
}
