//! The end of a call: the loop gets a new interest and a new timeout, or the connection ends.

use std::io;

use reactor::{Context, Next};

use super::dispatch::{Callback, Dispatch};
use super::handler::ConnectionHandler;
use super::later::run_later;
use super::reason::CloseReason;
use super::state::{Flags, Phase, Writing};
use super::stream::Stream;

impl<S, T: Stream, H: ConnectionHandler<S>> Dispatch<'_, S, T, H> {
    /// Updates the registration with the events to wait for, or ends it.
    #[inline]
    pub(super) fn update_registration(self, cx: &mut Context<'_, S>) -> io::Result<Next> {
        if T::LAYERED {
            self.update_layered(cx)
        } else if self.state.is_steady() {
            Ok(Next::Keep)
        } else {
            self.update_registration_slow(cx)
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn update_registration_slow(mut self, cx: &mut Context<'_, S>) -> io::Result<Next> {
        if self.state.flags.has(Flags::AWAITS_MARK) {
            self.report_sent(cx)?;
        }
        self.start_graceful_close(cx)?;
        if self.is_graceful_close_due() {
            self.connection().begin_closing();
        } else if self.state.flags.has(Flags::SHUTDOWN_WHEN_ANSWERED)
            && self.state.pending_responses == 0
        {
            self.connection().shutdown();
        }
        self.connection().advance_close();
        self.handle_failure(cx)?;
        if self.state.phase() == Phase::Over {
            return self.remove();
        }
        self.take_if_flushed(cx);
        // If the handler was paused or its queue was full, unconsumed bytes are delivered later
        // without waiting for an event. A new handler is called without an event too: the source
        // may never be ready again.
        let opens = self.state.phase() == Phase::Opening && !self.is_handshaking();
        if self.state.must_redeliver() || opens {
            run_later::<S, T, H>(cx.registry, self.key.key());
        }
        self.update_interest(cx)?;
        self.update_timeout(cx)?;
        Ok(Next::Keep)
    }

    /// Notifies the handler of the marks that are reached. The notification is deferred if the call
    /// comes from outside. It is also deferred for a mark that the handler sets in this callback: a
    /// handler that writes and sets a mark each time does not hold up the loop.
    fn report_sent(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        let takes_bytes = self.state.writing() != Writing::Failed; // otherwise writes are dropped
        let is_open = self.state.phase() == Phase::Open;
        if !is_open || !takes_bytes || !self.state.has_reached_mark() {
            return Ok(());
        }
        if !self.from_outside
            && let Some(position) = self.state.take_reached_marks()
        {
            self.notify(&Callback::Sent(position), cx)?;
        }
        if self.state.has_reached_mark() {
            run_later::<S, T, H>(cx.registry, self.key.key());
        }
        Ok(())
    }

    /// Ends the registration. Returns the error if the connection has failed.
    fn remove(self) -> io::Result<Next> {
        match self.state.reason.take() {
            Some(CloseReason::Failed(error)) => Err(error),
            reason => {
                self.state.reason = reason;
                Ok(Next::Remove)
            }
        }
    }

    fn update_interest(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        let wanted = if T::LAYERED {
            self.interest_of_layer()
        } else {
            self.state.wanted_interest()
        };
        if wanted != self.state.interest() {
            cx.registry.set_interest(self.key.key(), wanted)?;
            self.state.set_interest(wanted);
        }
        Ok(())
    }

    fn update_timeout(&mut self, cx: &mut Context<'_, S>) -> io::Result<()> {
        let waits = self.state.waits();
        let mut is_due_again = false;
        if let Some(times) = &mut self.state.times {
            times.set_now(cx.now(), cx.registry.turn_number());
            cx.registry.set_timeout(
                self.key.key(),
                times.next_timeout(&self.state.settings, waits),
            )?;
            is_due_again = times.have_rates();
        }
        self.state.flags.set(Flags::NEEDS_UPDATE, is_due_again);
        Ok(())
    }
}
