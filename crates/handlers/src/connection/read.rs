//! Reading: from the socket to the handler. Unconsumed bytes are kept for the next call.

use std::io::{self, ErrorKind};
use std::mem::take;
use std::os::fd::AsFd;

use reactor::{Context, Next};

use super::dispatch::{Callback, Dispatch};
use super::handler::ConnectionHandler;
use super::reason::CloseReason;
use super::state::{Flags, Phase, Writing};
use super::stream::{Stream, is_end_of_terminal};
use crate::error::named_on;

/// The most capacity that a connection keeps for unconsumed bytes, unless four times their number
/// is more. A larger buffer is shrunk.
const CAPACITY_KEPT: usize = 64 * 1024;

impl<S, T: Stream, H: ConnectionHandler<S>> Dispatch<'_, S, T, H> {
    /// Reads as much as one turn allows, of which `read` bytes were read already. Then updates the
    /// registration.
    #[cold]
    #[inline(never)]
    pub(super) fn read_on(
        mut self,
        read: usize,
        input: &mut [u8],
        cx: &mut Context<'_, S>,
    ) -> io::Result<Next> {
        // The limit is looked up here, because the handler may have changed the options.
        let mut budget = self.state.settings.max_bytes_per_turn.saturating_sub(read);
        while let most @ 1.. = self.state.read_allowance(budget.min(input.len())) {
            let delivers = self.state.delivers();
            let Some(read) = self.read_once(&mut input[..most], delivers, cx)? else {
                break;
            };
            budget -= read;
        }
        self.update_registration(cx)
    }

    /// Reads once and delivers the bytes. Returns their number, or `None` if there are no more for
    /// now.
    #[inline(always)]
    pub(super) fn read_once(
        &mut self,
        input: &mut [u8],
        delivers: bool,
        cx: &mut Context<'_, S>,
    ) -> io::Result<Option<usize>> {
        let (stream, io) = self.io.parts_mut();
        if !delivers {
            stream.discard_received();
        }
        match stream.try_read(io, input) {
            Ok(bytes) if bytes > 0 => {
                self.state.count_read(bytes, cx);
                if delivers {
                    self.deliver(&input[..bytes], cx)?;
                }
                let may_go_on = self.io.readiness().is_readable() || self.has_buffered_input();
                Ok(may_go_on.then_some(bytes))
            }
            nothing => self.after_empty_read(nothing, cx),
        }
    }

    /// Handles a read that has returned no bytes.
    #[cold]
    fn after_empty_read(
        &mut self,
        nothing: io::Result<usize>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<Option<usize>> {
        match nothing {
            // If the socket has failed, the last bytes are followed by an end of stream. The stream
            // is complete only if the peer had closed its write side before the failure.
            Ok(_) if !self.state.is_end_whole() => self.state.end_with_failure(),
            Ok(_) => {
                self.state.flags.insert(Flags::READ_ENDED);
                self.end_of_input(cx)?;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_end_of_terminal(self.io, &error) => {
                self.state.flags.insert(Flags::READ_ENDED);
                self.end_of_input(cx)?;
            }
            Err(_) if self.state.writing() == Writing::Failed => self.state.end_with_failure(),
            // Everything was sent and is in transit, so a read error is no failure.
            Err(_) if self.state.phase() == Phase::Lingering => {
                self.state.end(CloseReason::Finished)
            }
            Err(error) => return Err(named_on(self.io.as_fd(), "read", error)),
        }
        Ok(Some(0))
    }

    /// Notifies the handler that the peer has closed its write side.
    pub(super) fn end_of_input(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        self.open_if_new(cx)?; // sets the time: no byte has done so
        if self.state.phase() == Phase::Open {
            let callback = Callback::End(take(&mut self.state.unconsumed));
            self.notify(&callback, cx)?;
            if let (Phase::Opening, Callback::End(rest)) = (self.state.phase(), callback) {
                self.state.unconsumed = rest; // for the handler that replaces this one
            }
        }
        Ok(())
    }

    /// Calls the handler with the unconsumed bytes. If the end of the stream came after them,
    /// reports that too.
    pub(super) fn redeliver(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        self.state.flags.remove(Flags::REDELIVER);
        if !self.state.unconsumed.is_empty() {
            self.deliver_after_unconsumed(&[], cx)?;
        }
        if self.state.delivers() && self.state.flags.take(Flags::END_AGAIN) {
            self.end_of_input(cx)?;
        }
        Ok(())
    }

    /// Calls the handler with its unconsumed bytes and `data` after them. Keeps the bytes that the
    /// handler does not consume.
    #[inline(always)]
    fn deliver(&mut self, data: &[u8], cx: &mut Context<'_, S>) -> io::Result<()> {
        if !self.state.unconsumed.is_empty() {
            return self.deliver_after_unconsumed(data, cx);
        }
        self.state.flags.remove(Flags::REDELIVER);
        let consumed = self.on_data(data, cx)?;
        if consumed < data.len() {
            self.keep_unconsumed(data[consumed..].to_vec())
        } else {
            Ok(())
        }
    }

    #[cold]
    #[inline(never)]
    fn deliver_after_unconsumed(&mut self, data: &[u8], cx: &mut Context<'_, S>) -> io::Result<()> {
        self.state.flags.remove(Flags::REDELIVER); // all of it is delivered now
        let mut rest = take(&mut self.state.unconsumed);
        rest.extend_from_slice(data);
        let consumed = self.on_data(&rest, cx)?;
        rest.drain(..consumed);
        self.keep_unconsumed(rest)
    }

    /// Keeps the unconsumed bytes. If there are none, the buffer is freed: an idle connection holds
    /// no buffer. Once a long message is consumed, the capacity that it has taken is freed.
    #[cold]
    #[inline(never)]
    fn keep_unconsumed(&mut self, mut rest: Vec<u8>) -> io::Result<()> {
        let is_replaced = self.state.phase() == Phase::Opening;
        if self.state.phase() != Phase::Open && !is_replaced || rest.is_empty() {
            // No handler takes the rest: the connection is closed or closing.
            return Ok(());
        }
        let max = self.state.settings.max_buffered_input;
        if rest.len() > max && !is_replaced {
            let text = format!(
                "the handler left {} bytes unconsumed: max_buffered_input is {max}",
                rest.len()
            );
            return Err(io::Error::new(ErrorKind::QuotaExceeded, text));
        }
        if rest.capacity() > CAPACITY_KEPT.max(4 * rest.len()) {
            rest.shrink_to(CAPACITY_KEPT.min(2 * rest.len()));
        }
        self.state.unconsumed = rest;
        Ok(())
    }

    #[inline(always)]
    fn on_data(&mut self, data: &[u8], cx: &mut Context<'_, S>) -> io::Result<usize> {
        let consumed = self.call(cx, |handler, connection, cx| {
            handler.on_data(data, connection, cx)
        })?;
        debug_assert!(
            consumed <= data.len(),
            "a handler returned {consumed} consumed bytes of {}",
            data.len()
        );
        Ok(consumed.min(data.len()))
    }
}
