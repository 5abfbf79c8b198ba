//! One call of a connection, by the loop or by a visitor: what is done in it, and in which order the handler is called.
//!
//! Between most calls of most connections nothing is queued, nobody is paused and no rate counts: they are
//! [steady](Core::is_steady). What a message costs them is inlined into [`Call::ready`], in one straight line: a read, the
//! handler's callback, a write. Everything else is outlined. It is called cold also where it is not rare, a connection with
//! a timeout: that is how the compiler learns which way the line goes, without which it gives up inlining half way.

use std::io::{self, ErrorKind, IoSlice};
use std::mem::take;

use reactor::{Context, Io, Next};

use super::core::{Core, Phase, Writing};
use super::gathered::Gathered;
use super::key::{ConnectionKey, Visitor};
use super::lent::Connection;
use super::stream::{Stream, is_end_of_terminal};
use super::{CloseReason, ConnectionHandler, Timeout, run_later};
use crate::error::is_nothing_done;

/// A connection keeps so much room for what its handler leaves, or four times as much as that is.
const ROOM_KEPT: usize = 64 * 1024;

pub(super) struct Call<'a, S, T, H> {
    pub(super) io: &'a mut Io<T>,
    pub(super) core: &'a mut Core,
    pub(super) gathered: &'a mut Gathered,
    /// `None` while nobody has answered.
    pub(super) handler: Option<&'a mut H>,
    pub(super) key: ConnectionKey<S>,
    pub(super) is_visit: bool,
}

/// What a handler is called for, beside data.
pub(super) enum Occasion {
    Open,
    Drain,
    Timeout(Timeout),
    End(Vec<u8>),
    Finish,
    Failure(io::Error),
}

impl<S, T: Stream, H: ConnectionHandler<S>> Call<'_, S, T, H> {
    /// Does all that can be done now, and says what is waited for next.
    #[inline(always)]
    pub(super) fn ready(mut self, scratch: &mut [u8], cx: &mut Context<'_, S>) -> io::Result<Next> {
        if !self.core.is_steady() || cx.readiness().is_timeout() {
            return self.ready_in_full(scratch, cx);
        }
        let most = scratch.len().min(self.core.settings.bytes_per_turn);
        let delivers = true; // who is steady reads for the handler alone
        match self.read_once(&mut scratch[..most], delivers, cx)? {
            Some(read) => self.read_on(read, scratch, cx),
            None => self.settle(cx),
        }
    }

    /// The same, beginning with what may be due before anything is read.
    #[cold]
    #[inline(never)]
    pub(super) fn ready_in_full(mut self, scratch: &mut [u8], cx: &mut Context<'_, S>) -> io::Result<Next> {
        self.catch_up(cx)?;
        self.read_on(0, scratch, cx)
    }

    /// With the deferred callbacks: opens, or does what may be due. What there is to read is the next event's, but for a new
    /// connection, of which no event may tell.
    pub(super) fn run_deferred(mut self, scratch: &mut [u8], cx: &mut Context<'_, S>) -> io::Result<Next> {
        let opens = self.core.phase == Phase::Opening;
        self.catch_up(cx)?;
        if opens { self.read_on(0, scratch, cx) } else { self.settle(cx) }
    }

    pub(super) fn visit(mut self, visitor: Visitor<'_, S>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        self.begin(cx)?;
        if self.core.phase == Phase::Over {
            return self.settle(cx); // it has ended as it opened, and there is nothing to lend
        }
        let flushed_later = self.core.flushes_later;
        visitor(&mut self.lend(), cx); // what it writes is queued, or has left: in a visit nothing is gathered
        self.heed_removal(cx);
        if self.core.flushes_later && !flushed_later {
            run_later::<S, T, H>(cx.registry, self.key.key());
        }
        self.settle(cx)
    }

    #[inline]
    fn lend(&mut self) -> Connection<'_, S> {
        let Self { io, core, gathered, key, is_visit, .. } = self;
        Connection { stream: *io, core, gathered, key: *key, is_visit: *is_visit }
    }

    /// What may be due before anything is read.
    fn catch_up(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        self.begin(cx)?;
        if self.core.is_unread(cx.readiness()) {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if cx.readiness().is_timeout() {
            self.time_out(cx)?;
        }
        self.core.flushes_later = false;
        if self.core.wants_to_write() && self.lend().flush_queue() {
            self.tell(Occasion::Drain, cx)?;
        }
        if self.core.owes_what_was_left() {
            self.deliver_behind_rest(&[], cx)?;
        }
        Ok(())
    }

    /// Tells a connection the time, and a new one to its handler.
    fn begin(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        if let Some(times) = &mut self.core.times {
            times.begin(cx.now(), cx.registry.turn_number());
        }
        if self.core.phase == Phase::Opening {
            self.core.phase = Phase::Open;
            self.tell(Occasion::Open, cx)?;
        }
        Ok(())
    }

    fn time_out(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        self.core.untimed = true;
        let waits = self.core.waits();
        let end_of_turn = |turn| cx.registry.end_of_turn(turn);
        match self.core.times.as_mut().and_then(|times| times.take_passed(&self.core.settings, waits, end_of_turn)) {
            Some(Timeout::Close) => self.core.end(CloseReason::TimedOut(Timeout::Close)),
            Some(timeout) => {
                self.tell(Occasion::Timeout(timeout), cx)?;
                self.core.end_timed_out(timeout);
            }
            None => {} // a rate has bytes again, or it was put off
        }
        Ok(())
    }

    /// Reads as much as a turn has room for beside what has been read, and settles.
    #[cold]
    #[inline(never)]
    fn read_on(mut self, read: usize, scratch: &mut [u8], cx: &mut Context<'_, S>) -> io::Result<Next> {
        let mut budget = self.core.settings.bytes_per_turn.saturating_sub(read); // the handler may have changed it
        while let most @ 1.. = self.core.may_read(budget.min(scratch.len())) {
            let delivers = self.core.delivers();
            let Some(read) = self.read_once(&mut scratch[..most], delivers, cx)? else { break };
            budget -= read;
        }
        self.settle(cx)
    }

    /// Reads, and hands over what has come. Gives how much that was, or `None` if there is no more for now.
    #[inline(always)]
    fn read_once(&mut self, scratch: &mut [u8], delivers: bool, cx: &mut Context<'_, S>) -> io::Result<Option<usize>> {
        match T::read(self.io, scratch) {
            Ok(bytes) if bytes > 0 => {
                self.core.note_read(bytes, cx);
                if delivers {
                    self.deliver(&scratch[..bytes], cx)?;
                }
                Ok(self.io.readiness().is_readable().then_some(bytes))
            }
            nothing => self.note_nothing(nothing, cx),
        }
    }

    /// After a read that has brought nothing.
    #[cold]
    fn note_nothing(&mut self, nothing: io::Result<usize>, cx: &mut Context<'_, S>) -> io::Result<Option<usize>> {
        match nothing {
            // Where the socket has failed, its end is that of what came before, and whole only if the peer had said so.
            Ok(_) if !self.core.is_end_whole() => self.core.end_failed(),
            Ok(_) => {
                self.core.read_ended = true;
                self.end(cx)?;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_end_of_terminal(self.io, &error) => {
                self.core.read_ended = true;
                self.end(cx)?;
            }
            Err(_) if self.core.writing == Writing::Failed => self.core.end_failed(),
            // All that was to be said has been said, and is on its way.
            Err(_) if self.core.phase == Phase::Lingering => self.core.end(CloseReason::Finished),
            Err(error) => return Err(error),
        }
        Ok(Some(0))
    }

    /// The peer has ended its direction.
    pub(super) fn end(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        self.begin(cx)?; // no byte has told the time
        if self.core.phase == Phase::Open {
            let rest = take(&mut self.core.unconsumed);
            self.tell(Occasion::End(rest), cx)?;
        }
        Ok(())
    }

    /// Gives the handler what it has left and `data` behind it, and keeps what it leaves of that.
    #[inline(always)]
    fn deliver(&mut self, data: &[u8], cx: &mut Context<'_, S>) -> io::Result<()> {
        if !self.core.unconsumed.is_empty() {
            return self.deliver_behind_rest(data, cx);
        }
        self.core.redeliver = false;
        let consumed = self.on_data(data, cx)?;
        if consumed < data.len() { self.keep(data[consumed..].to_vec()) } else { Ok(()) }
    }

    #[cold]
    #[inline(never)]
    fn deliver_behind_rest(&mut self, data: &[u8], cx: &mut Context<'_, S>) -> io::Result<()> {
        self.core.redeliver = false; // all of it is given now
        let mut rest = take(&mut self.core.unconsumed);
        rest.extend_from_slice(data);
        let consumed = self.on_data(&rest, cx)?;
        rest.drain(..consumed);
        self.keep(rest)
    }

    /// Keeps what the handler has left; without that the buffer goes: an idle connection holds none. Room that a long message has
    /// taken goes with it.
    #[cold]
    #[inline(never)]
    fn keep(&mut self, mut rest: Vec<u8>) -> io::Result<()> {
        if self.core.phase != Phase::Open || rest.is_empty() {
            return Ok(()); // closed, with an answer perhaps that is on its way: the rest is for nobody
        }
        let max = self.core.settings.unconsumed_max;
        if rest.len() > max {
            let text = format!("the handler has left {} bytes, more than unconsumed_max, {max}", rest.len());
            return Err(io::Error::new(ErrorKind::QuotaExceeded, text));
        }
        if rest.capacity() > ROOM_KEPT.max(4 * rest.len()) {
            rest.shrink_to(ROOM_KEPT.min(2 * rest.len()));
        }
        self.core.unconsumed = rest;
        Ok(())
    }

    #[inline(always)]
    fn on_data(&mut self, data: &[u8], cx: &mut Context<'_, S>) -> io::Result<usize> {
        let consumed = self.call(cx, |handler, connection, cx| handler.on_data(data, connection, cx))?;
        debug_assert!(consumed <= data.len(), "a handler has consumed {consumed} of {} bytes", data.len());
        Ok(consumed.min(data.len()))
    }

    /// Calls the handler for anything but data.
    #[cold]
    #[inline(never)]
    pub(super) fn tell(&mut self, occasion: Occasion, cx: &mut Context<'_, S>) -> io::Result<()> {
        self.call(cx, |handler, connection, cx| match &occasion {
            Occasion::Open => handler.on_open(connection, cx),
            Occasion::Drain => handler.on_drain(connection, cx),
            Occasion::Timeout(timeout) => handler.on_timeout(*timeout, connection, cx),
            Occasion::End(rest) => handler.on_end(rest, connection, cx),
            Occasion::Finish => handler.on_finish(connection, cx),
            Occasion::Failure(error) => handler.on_failure(error, connection, cx),
        })
    }

    /// Calls the handler, sends what it has written, and gives what it has answered unless that says that nothing was done.
    #[inline(always)]
    fn call<R: Default>(
        &mut self,
        cx: &mut Context<'_, S>,
        callback: impl FnOnce(&mut H, &mut Connection<'_, S>, &mut Context<'_, S>) -> io::Result<R>,
    ) -> io::Result<R> {
        let Self { io, core, gathered, handler: Some(handler), key, is_visit } = self else { return Ok(R::default()) };
        core.calling = true;
        let mut connection = Connection { stream: *io, core, gathered, key: *key, is_visit: *is_visit };
        let answer = callback(handler, &mut connection, cx);
        self.core.calling = false;
        self.end_callback(); // also the last words of who gives up
        let answer = match answer {
            Err(error) if is_nothing_done(&error) => R::default(),
            answer => answer?,
        };
        self.heed_removal(cx);
        Ok(answer)
    }

    /// What was gathered leaves, or is queued.
    #[inline(always)]
    fn end_callback(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        if self.core.outbox.is_some() || self.core.untimed {
            return self.send_gathered();
        }
        match T::write(self.io, &[IoSlice::new(self.gathered.bytes())]) {
            Ok(sent) if sent == self.gathered.bytes().len() => {
                self.gathered.clear();
                self.core.note_written(sent);
            }
            tried => self.conclude(tried),
        }
    }

    #[cold]
    #[inline(never)]
    fn send_gathered(&mut self) {
        self.lend().send_gathered();
    }

    #[cold]
    #[inline(never)]
    fn conclude(&mut self, tried: io::Result<usize>) {
        self.lend().conclude(tried);
    }

    /// Who has removed the registration from within a callback is called no more.
    #[inline]
    fn heed_removal(&mut self, cx: &Context<'_, S>) {
        if !cx.registry.contains(self.key.key()) {
            self.core.end(CloseReason::Closed);
        }
    }

    /// Tells the loop what to call for next, or that it is over.
    #[inline]
    fn settle(self, cx: &mut Context<'_, S>) -> io::Result<Next> {
        if self.core.is_steady() { Ok(Next::Keep) } else { self.settle_change(cx) }
    }

    #[cold]
    #[inline(never)]
    fn settle_change(mut self, cx: &mut Context<'_, S>) -> io::Result<Next> {
        self.begin_finish(cx)?;
        if self.has_finished() {
            self.lend().begin_closing();
        } else if self.core.ends_when_answered && self.core.answers_owed == 0 {
            self.lend().shutdown();
        }
        self.lend().advance_end();
        self.settle_failure(cx)?;
        let Self { core, key, .. } = self;
        let key = key.key();
        if core.phase == Phase::Over {
            return match core.reason.take() {
                Some(CloseReason::Failed(error)) => Err(error),
                reason => {
                    core.reason = reason;
                    Ok(Next::Remove)
                }
            };
        }
        // What was left while the handler was paused or full is not waited for: the source may never be ready again.
        if core.owes_what_was_left() {
            run_later::<S, T, H>(cx.registry, key);
        }
        let wanted = core.wanted();
        if wanted != core.interest {
            cx.registry.set_interest(key, wanted)?;
            core.interest = wanted;
        }
        let waits = core.waits();
        core.untimed = false;
        if let Some(times) = &mut core.times {
            times.begin(cx.now(), cx.registry.turn_number());
            cx.registry.set_timeout(key, times.next(&core.settings, waits))?;
            core.untimed = times.have_rates();
        }
        Ok(Next::Keep)
    }
}
