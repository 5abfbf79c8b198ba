//! Reading: from the socket to the handler, and what becomes of the bytes that it does not consume.

use std::io::{self, ErrorKind};
use std::mem::take;

use reactor::{Context, Next};

use super::dispatch::{Callback, Dispatch};
use super::handler::ConnectionHandler;
use super::reason::CloseReason;
use super::state::{Flags, Phase, Writing};
use super::stream::{Stream, is_end_of_terminal};

/// A connection keeps this much capacity for unconsumed bytes, or four times as much as they need.
const CAPACITY_KEPT: usize = 64 * 1024;

impl<S, T: Stream, H: ConnectionHandler<S>> Dispatch<'_, S, T, H> {
    /// Reads as much as a turn has room for beside the `read` bytes, and updates the registration.
    #[cold]
    #[inline(never)]
    pub(super) fn read_on(
        mut self,
        read: usize,
        input: &mut [u8],
        cx: &mut Context<'_, S>,
    ) -> io::Result<Next> {
        let mut budget = self.state.settings.max_bytes_per_turn.saturating_sub(read); // the handler may have changed it
        while let most @ 1.. = self.state.read_allowance(budget.min(input.len())) {
            let delivers = self.state.delivers();
            let Some(read) = self.read_once(&mut input[..most], delivers, cx)? else {
                break;
            };
            budget -= read;
        }
        self.update_registration(cx)
    }

    /// Reads, and delivers what has come. Returns how much that was, or `None` if there is no more for now.
    #[inline(always)]
    pub(super) fn read_once(
        &mut self,
        input: &mut [u8],
        delivers: bool,
        cx: &mut Context<'_, S>,
    ) -> io::Result<Option<usize>> {
        match T::read(self.io, input) {
            Ok(bytes) if bytes > 0 => {
                self.state.count_read(bytes, cx);
                if delivers {
                    self.deliver(&input[..bytes], cx)?;
                }
                Ok(self.io.readiness().is_readable().then_some(bytes))
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
            // Where the socket has failed, its end is that of what came before, and whole only if the peer had said so.
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
            // Everything was sent, and is on its way.
            Err(_) if self.state.phase() == Phase::Lingering => {
                self.state.end(CloseReason::Finished)
            }
            Err(error) => return Err(error),
        }
        Ok(Some(0))
    }

    /// Notifies the handler that the peer has ended its direction.
    pub(super) fn end_of_input(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        self.open_if_new(cx)?; // no byte has set the time
        if self.state.phase() == Phase::Open {
            let callback = Callback::End(take(&mut self.state.unconsumed));
            self.notify(&callback, cx)?;
            if let (Phase::Opening, Callback::End(rest)) = (self.state.phase(), callback) {
                self.state.unconsumed = rest; // for the handler that replaces this one
            }
        }
        Ok(())
    }

    /// Gives the handler what was left, and an end that came after it.
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

    /// Gives the handler what it has left and `data` after it, and keeps what it leaves of that.
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
        self.state.flags.remove(Flags::REDELIVER); // all of it is given now
        let mut rest = take(&mut self.state.unconsumed);
        rest.extend_from_slice(data);
        let consumed = self.on_data(&rest, cx)?;
        rest.drain(..consumed);
        self.keep_unconsumed(rest)
    }

    /// Keeps what the handler has left. Where that is nothing the buffer is freed: an idle connection holds none.
    /// Capacity that a long message has taken is freed with it.
    #[cold]
    #[inline(never)]
    fn keep_unconsumed(&mut self, mut rest: Vec<u8>) -> io::Result<()> {
        let is_replaced = self.state.phase() == Phase::Opening;
        if self.state.phase() != Phase::Open && !is_replaced || rest.is_empty() {
            return Ok(()); // closed, with an answer perhaps that is on its way: no handler takes the rest
        }
        let max = self.state.settings.max_buffered_input;
        if rest.len() > max && !is_replaced {
            let text = format!(
                "the handler has left {} bytes, more than max_buffered_input, {max}",
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
            "a handler has consumed {consumed} of {} bytes",
            data.len()
        );
        Ok(consumed.min(data.len()))
    }
}
