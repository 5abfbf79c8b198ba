//! The end of a connection whose socket has failed. The handler is first called with the rest of
//! the input.
//!
//! Ground rule: the connection does not end while the kernel has bytes of the peer. There can be
//! such bytes even if a wait reports nothing for the socket, because more sources can be ready than
//! one wait reports. So the socket is polled.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

use reactor::Context;

use crate::connection::dispatch::{Callback, Dispatch};
use crate::connection::handler::ConnectionHandler;
use crate::connection::later::{ask_kernel_first, run_later};
use crate::connection::state::{Flags, Pending, Phase, Writing};
use crate::connection::stream::Stream;
use crate::error::named_on;
use crate::sockets::{has_input, take_error};

impl<S, T: Stream, H: ConnectionHandler<S>> Dispatch<'_, S, T, H> {
    /// Ends a connection whose socket takes no more bytes, once the handler was called with the
    /// rest of the input.
    pub(in crate::connection) fn handle_failure(
        &mut self,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        if let Some(error) = self.error_while_not_reading() {
            self.state.fail_writing(error);
        }
        if self.state.writing() != Writing::Failed
            || self.state.phase() == Phase::Over
            || self.state.phase() == Phase::Opening && !self.is_handshaking()
        {
            return Ok(());
        }
        // Nothing is left to wait for: a closing connection discards input, a stream that has ended
        // has none, and input after a change of protocol is not for this handler.
        let gets_none = Flags::READ_ENDED.union(Flags::TAKEN_WHEN_FLUSHED);
        if self.state.phase() != Phase::Open || self.state.flags.has(gets_none) {
            self.state.end_with_failure();
            return Ok(());
        }
        if self.state.flags.has(Flags::PAUSED) {
            self.handle_failure_while_paused(cx)?;
        }
        // Checked again, because the handler may have resumed or paused reading in `on_failure`.
        if !self.state.flags.has(Flags::PAUSED) && !self.io.readiness().is_readable() {
            self.end_if_input_drained(cx);
        }
        Ok(())
    }

    /// Handles the failure while reading is paused. The handler does not learn of the failure by
    /// reading, so it is notified. If only an end of stream is left to read, that is delivered now.
    /// If the call comes from outside, all this is deferred.
    fn handle_failure_while_paused(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        let is_drained = self.state.unconsumed.is_empty()
            && !self.has_buffered_input()
            && !self.io.get_ref().has_unread();
        if self.state.flags.has(Flags::FAILURE_NOTIFIED) && !is_drained {
            return Ok(());
        }
        if self.from_outside {
            run_later::<S, T, H>(cx.registry, self.key.key());
            return Ok(());
        }
        if is_drained {
            if self.state.is_end_whole() && self.is_at_end() {
                self.state.flags.insert(Flags::READ_ENDED);
                self.end_of_input(cx)?;
            }
            self.state.end_with_failure();
            return Ok(());
        }
        self.state.flags.insert(Flags::FAILURE_NOTIFIED);
        let error = self.state.copy_of_failure();
        // Handles later what the handler asks for in `on_failure`.
        run_later::<S, T, H>(cx.registry, self.key.key());
        self.notify(&Callback::Failure(error), cx)
    }

    /// Returns `true` if a stream that has nothing left to read has come to its end.
    fn is_at_end(&mut self) -> bool {
        self.io.readiness().is_read_closed() && (!T::LAYERED || self.is_layer_at_end())
    }

    /// Ends the connection if nothing is known to be left to read, and the kernel was asked since
    /// the socket failed.
    fn end_if_input_drained(&mut self, cx: &mut Context<'_, S>) {
        match self.state.failing {
            Pending::Due if has_input(self.io.as_fd()) => {} // its event is still to come
            Pending::Due => self.state.end_with_failure(),
            Pending::No => {
                self.state.failing = Pending::Awaited;
                ask_kernel_first::<S, T, H>(cx.registry, self.key.key());
            }
            Pending::Asked | Pending::Awaited => {}
        }
    }

    /// Returns the error of a connection that reads nothing at the moment, such as a reset or a
    /// timeout of the kernel.
    ///
    /// If the peer closed its write side before it was gone, its data is complete, and this returns
    /// `None`: reading finds the end.
    fn error_while_not_reading(&self) -> Option<io::Error> {
        let ready = self.io.readiness();
        let may_have_failed = (self.state.is_not_reading() || self.is_handshaking())
            && self.state.writing() != Writing::Failed;
        if !may_have_failed || !ready.is_error() && !ready.is_write_closed() {
            return None;
        }
        let error = take_error(self.io.as_fd()).ok()??; // only sockets have one
        let is_whole =
            error.kind() == ErrorKind::BrokenPipe && !self.state.flags.has(Flags::READ_ENDED);
        (!is_whole).then(|| named_on(self.io.as_fd(), "SO_ERROR", error))
    }
}
