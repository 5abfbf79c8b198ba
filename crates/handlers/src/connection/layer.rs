//! Layered streams: what a connection does for a stream that keeps something between two calls. See
//! [`Stream`](Stream#layered-streams).
//!
//! The connection looks at what the stream keeps at the end of each call. Output becomes the flag
//! [`Flags::HOLDS_OUTPUT`]. Input makes the source count as readable, so that the loop calls again
//! next turn, as it does for a source with bytes in the kernel.
//!
//! Ground rule: nothing here costs a bare stream an instruction of its steady path. Where the type
//! of the stream is known, [`Stream::LAYERED`] removes the code. Elsewhere a flag is tested
//! together with others.

use std::io;
use std::os::fd::AsFd;

use reactor::{Context, Interest, Io, Next};

use super::connection::Connection;
use super::dispatch::Dispatch;
use super::handler::ConnectionHandler;
use super::handshakes;
use super::reason::CloseReason;
use super::state::{ConnectionMetrics, Flags, Phase, State, Writing};
use super::stream::Stream;
use crate::error::{is_nothing_done, named_on};

/// The facts of which at least one changes if a call has done anything for a layered stream.
#[derive(PartialEq)]
struct Progress {
    counters: ConnectionMetrics,
    phase: Phase,
    writing: Writing,
    is_handshaking: bool,
    buffered_output: usize,
    has_read_ended: bool,
}

impl<S, T: Stream, H: ConnectionHandler<S>> Dispatch<'_, S, T, H> {
    /// Returns `true` while the handshake is not complete.
    #[inline(always)]
    pub(super) const fn is_handshaking(&self) -> bool {
        T::LAYERED && self.state.flags.has(Flags::HANDSHAKING)
    }

    /// Returns `true` if the stream can be read without the kernel.
    #[inline(always)]
    pub(super) fn has_buffered_input(&self) -> bool {
        T::LAYERED && self.io.get_ref().has_buffered_input()
    }

    /// Returns `true` if a stream that has nothing left to read has come to its end, and not only
    /// its socket.
    #[cold]
    pub(super) fn is_layer_at_end(&mut self) -> bool {
        let (stream, io) = self.io.parts_mut();
        matches!(stream.try_read(io, &mut [0]), Ok(0))
    }

    /// Handles an event of a layered stream. If the event has led to nothing and the source still
    /// counts as ready, the kernel is asked again, so that the loop can back off.
    pub(super) fn on_event_layered(
        mut self,
        input: &mut [u8],
        cx: &mut Context<'_, S>,
    ) -> io::Result<Next> {
        let before = self.progress();
        let next = self.reborrow().on_event_slow(input, cx)?;
        #[cfg(feature = "simulation")]
        if self.state.counters.read > before.counters.read {
            crate::simulation::delivered();
        }
        if matches!(next, Next::Keep) && before == self.progress() && self.is_ready() {
            self.io.parts_mut().1.forget_readiness();
        }
        Ok(next)
    }

    fn progress(&self) -> Progress {
        Progress {
            counters: self.state.counters,
            phase: self.state.phase(),
            writing: self.state.writing(),
            is_handshaking: self.is_handshaking(),
            buffered_output: self.io.get_ref().buffered_output(),
            has_read_ended: self.state.flags.has(Flags::READ_ENDED),
        }
    }

    /// Returns `true` if the loop would call again next turn.
    fn is_ready(&self) -> bool {
        let (ready, wanted) = (self.io.readiness(), self.state.interest());
        let reads = ready.is_readable() || ready.is_read_closed();
        let writes = ready.is_writable() || ready.is_write_closed();
        wanted.contains(Interest::READABLE) && reads
            || wanted.contains(Interest::WRITABLE) && writes
    }

    /// Takes the steps of the handshake that are possible now.
    #[cold]
    pub(super) fn advance_handshake(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        if !handshakes::may_step(cx.registry, self.key.key(), self.state) {
            return Ok(());
        }
        let (stream, io) = self.io.parts_mut();
        match stream.try_handshake(io) {
            Ok(()) => {
                self.state.end_handshake();
                handshakes::end(cx.registry, self.key.key(), self.state);
                if self.state.times.is_none() {
                    cx.registry.set_timeout(self.key.key(), None)?;
                }
                Ok(())
            }
            Err(error) if is_nothing_done(&error) => Ok(()),
            Err(error) => Err(named_on(self.io.as_fd(), "handshake", error)),
        }
    }

    /// Ends a call of a layered stream.
    pub(super) fn update_layered(mut self, cx: &mut Context<'_, S>) -> io::Result<Next> {
        self.look_at_layer();
        let wants_input = || self.io.get_ref().wants(Interest::READABLE) == Interest::READABLE;
        if self.state.is_steady() && wants_input() {
            return Ok(Next::Keep);
        }
        self.update_registration_slow(cx)
    }

    /// Records what the stream holds.
    fn look_at_layer(&mut self) {
        let (stream, io) = self.io.parts_mut();
        let (can_send, holds_output) = (self.state.can_send(), stream.buffered_output() > 0);
        self.state.set_holds_output(can_send && holds_output);
        if can_send && !holds_output {
            self.state.count_all_sent();
        }
        if stream.has_buffered_input() {
            io.mark_readable();
        }
    }

    /// Returns the interest that the loop must watch, as the stream wants it.
    pub(super) fn interest_of_layer(&mut self) -> Interest {
        self.look_at_layer(); // a step of the close may have left output
        let wanted = if self.is_handshaking() {
            Interest::NONE
        } else {
            self.state.wanted_interest()
        };
        let errors = if wanted.contains(Interest::PRIORITY) {
            Interest::PRIORITY
        } else {
            Interest::NONE
        };
        let wanted = if self.state.flags.has(Flags::HANDSHAKE_WAITS) {
            Interest::NONE
        } else {
            self.io.get_ref().wants(wanted.without(Interest::PRIORITY)) | errors
        };
        // Without any interest, no error would be reported.
        if wanted.is_none() {
            Interest::PRIORITY
        } else {
            wanted
        }
    }
}

impl<S> Connection<'_, S> {
    /// Returns how many bytes a layered stream holds for the kernel. Output that it still holds
    /// after a failure of its socket is lost, as the queue is, and does not count.
    pub(super) fn held_output(&self) -> usize {
        if self.state.flags.has(Flags::LAYERED) && self.state.can_send() {
            self.stream.buffered_output()
        } else {
            0
        }
    }

    /// Sends the output that a layered stream holds. Returns `true` if the stream takes more.
    #[inline]
    pub(super) fn flush_layer(&mut self) -> bool {
        let flags = Flags::HANDSHAKING.union(Flags::HOLDS_OUTPUT);
        !self.state.flags.has(flags) || self.flush_held()
    }

    #[cold]
    fn flush_held(&mut self) -> bool {
        if self.state.flags.has(Flags::HANDSHAKING) {
            return false;
        }
        let before = self.stream.buffered_output();
        let flushed = self.stream.flush();
        let left = self.stream.buffered_output();
        if left < before {
            self.state.count_flushed();
        }
        match flushed {
            Ok(()) => {
                self.state.set_holds_output(left > 0);
                if left == 0 {
                    self.state.count_all_sent();
                }
            }
            Err(error) if is_nothing_done(&error) => {}
            Err(error) => self.write_failed(Err(error)),
        }
        !self.state.flags.has(Flags::HOLDS_OUTPUT)
    }
}

/// Does the last work on a layered stream, just before it is closed. If the handler has closed the
/// connection and everything was sent, the peer gets the end of the stream.
pub(super) fn end_layer<T: Stream>(io: &mut Io<T>, state: &mut State) {
    let (stream, io) = io.parts_mut();
    if !state.can_send() || state.flags.has(Flags::HANDSHAKING) {
        return;
    }
    if stream.buffered_output() == 0 {
        state.count_all_sent();
    }
    let is_closed = matches!(
        state.reason,
        Some(CloseReason::Closed | CloseReason::TimedOut(_))
    );
    if !is_closed {
        return;
    }
    // For example the tickets of a session whose handler has written nothing.
    if state.flags.has(Flags::HOLDS_OUTPUT) && stream.try_flush(io).is_ok() {
        state.set_holds_output(false);
    }
    if !state.would_truncate() {
        // An error needs no handling: without its end the stream does not look whole.
        let _ = stream.try_shutdown(io);
        state.set_writing(Writing::Ended);
    }
}
