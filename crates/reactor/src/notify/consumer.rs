//! The loop's end of a mailbox: its registration, and the call of its entry. It is the same for
//! values, events and posted closures.

use std::any::Any;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::panic::Location;

use super::address::{LoopHub, QueueAddress};
use super::mailbox::{Batch, Mailbox, Taken};
use crate::callback::{Entry, Task};
use crate::context::Context;
use crate::error::Error;
use crate::outcome::{CloseReason, Next};
use crate::primitives::Arc;
use crate::registry::Registry;
use crate::slots::Key;
use crate::source::kind::Kind;
use crate::source::readiness::{Interest, Readiness};
use crate::turn::disposal::Disposal;

/// The receiving end of a mailbox. Once it is dropped, the mailbox accepts no value.
pub(super) struct MailboxReceiver<B: Batch> {
    pub(super) mailbox: Arc<Mailbox<B, QueueAddress>>,
}

impl<B: Batch> Drop for MailboxReceiver<B> {
    fn drop(&mut self) {
        drop(Undelivered(self.mailbox.close()));
    }
}

/// Values that have not been handled. All of them are dropped, even if destructors panic.
#[derive(Default)]
struct Undelivered<B: Batch>(B);

impl<B: Batch> Drop for Undelivered<B> {
    fn drop(&mut self) {
        let mut disposal = Disposal::default();
        disposal.drop_each(|| self.0.drop_next());
        disposal.resume();
    }
}

/// Default number of values of a queue that are handled in a turn.
const MESSAGES_AT_A_TIME: usize = 1024;

impl<S> Registry<S> {
    /// Registers `handle_next` for the values of a mailbox. It handles the first value of a batch.
    /// The batch is empty if no sender is left.
    pub(super) fn register_queue<B, F>(
        &mut self,
        receiver: MailboxReceiver<B>,
        handle_next: F,
        handler_type: &'static str,
        origin: &'static Location<'static>,
    ) -> Result<Key, (MailboxReceiver<B>, Error)>
    where
        B: Batch + 'static,
        F: FnMut(&mut B, &mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        let inserted = self
            .hub()
            .and_then(|hub| self.insert_queue_slot(origin).map(|key| (hub, key)));
        let (hub, key) = match inserted {
            Ok(inserted) => inserted,
            Err(error) => return Err((receiver, error)),
        };
        let has_something = receiver
            .mailbox
            .attach(Arc::new(QueueAddress::new(hub, key)));
        let batch = Undelivered::default();
        let consumer = Consumer {
            receiver,
            batch,
            turn: 0,
            handled: 0,
            handle_next,
            handler_type,
        };
        self.fill_queue(key, Box::new(consumer), has_something);
        Ok(key)
    }

    /// Sets the maximum number of values of a queue that are handled in one
    /// [turn](crate::Reactor::turn). A limit of 0 counts as 1. Values beyond the limit are handled
    /// in the next turn, and the loop does not sleep before it. A flood of values therefore cannot
    /// keep sources and timers from running. The setting has no effect on a source that is not a
    /// queue. Default: 1024.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the registration has ended.
    pub fn set_max_messages_per_turn(&mut self, key: Key, messages: usize) -> Result<(), Error> {
        if !self.contains(key) {
            return Err(Error::StaleKey(key));
        }
        self.inbox.queue_limits.insert(key, messages.max(1));
        Ok(())
    }

    /// Counts the next value of a queue, unless the queue has been paused or removed. Returns
    /// `true` if the value is to be handled.
    #[inline]
    fn begin_value<B: Batch>(&mut self, queue: Key) -> bool {
        match self.sources.get_mut(queue) {
            Some(slot) if slot.wanted.intersects(Readiness::READABLE) => {
                slot.calls += 1;
                self.metrics.calls += u64::from(!B::RUN_LATER);
                true
            }
            _ => false,
        }
    }

    /// Uncounts the call of a queue's entry: its values count as calls instead.
    pub(crate) fn uncount_call(&mut self, queue: Key) {
        self.metrics.calls -= 1;
        if let Some(slot) = self.sources.get_mut(queue) {
            slot.calls -= 1;
        }
    }

    fn queue_limit(&self, key: Key) -> usize {
        if self.inbox.queue_limits.is_empty() {
            return MESSAGES_AT_A_TIME;
        }
        self.inbox
            .queue_limits
            .get(&key)
            .copied()
            .unwrap_or(MESSAGES_AT_A_TIME)
    }

    /// Returns the hub of this loop, made when the first queue needs it.
    pub(super) fn hub(&mut self) -> Result<Arc<LoopHub>, Error> {
        if let Some(hub) = &self.inbox.hub {
            return Ok(Arc::clone(hub));
        }
        let hub = Arc::new(LoopHub::new(self.sys.wake()?));
        self.inbox.hub = Some(Arc::clone(&hub));
        self.turn.needs_full_turn = true;
        Ok(hub)
    }
}

/// The entry of a queue.
struct Consumer<B: Batch, F> {
    receiver: MailboxReceiver<B>,
    /// Values that have been taken from the mailbox.
    batch: Undelivered<B>,
    /// The number of the turn of the last call, by [`Metrics::turns`](crate::Metrics::turns).
    /// `handled` counts the values of that turn. A queue may be called twice in a turn: first for
    /// values left over, then for values that a timer sends.
    turn: u64,
    handled: usize,
    handle_next: F,
    handler_type: &'static str,
}

impl<B: Batch, F> Consumer<B, F> {
    /// Takes values from the mailbox if no taken value is left.
    fn refill(&mut self) -> Taken {
        if self.batch.0.len() > 0 {
            return Taken::Values;
        }
        self.receiver.mailbox.take(&mut self.batch.0)
    }
}

impl<S, B, F> Entry<S> for Consumer<B, F>
where
    B: Batch + 'static,
    F: FnMut(&mut B, &mut Context<'_, S>) -> io::Result<Next> + 'static,
{
    fn call(&mut self, _armed: Interest, cx: &mut Context<'_, S>) -> Readiness {
        let key = cx.key();
        cx.registry.uncount_call(key);
        if !cx.readiness().is_readable() {
            return Readiness::EMPTY; // a timeout
        }
        if self.turn != cx.registry.metrics.turns {
            (self.turn, self.handled) = (cx.registry.metrics.turns, 0);
        }
        // The limit holds for the turn, also if the queue is called twice in it.
        for _ in self.handled..cx.registry.queue_limit(key) {
            let last = match self.refill() {
                Taken::Values => false,
                Taken::Nothing => return Readiness::EMPTY,
                Taken::Busy => return Readiness::READABLE,
                Taken::Ended => true,
            };
            // The handler may have removed or paused the queue, or a paused queue may be called for
            // its timeout.
            if !cx.registry.begin_value::<B>(key) {
                self.receiver.mailbox.offer_room();
                return Readiness::READABLE;
            }
            self.handled += 1;
            let result = (self.handle_next)(&mut self.batch.0, cx);
            self.receiver.mailbox.set_taken(self.batch.0.len());
            let reason = match result {
                Ok(Next::Remove) => CloseReason::ByHandler,
                Err(error)
                    if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
                {
                    CloseReason::Failed(error)
                }
                _ if last => CloseReason::ByHandler,
                _ => {
                    cx.registry.leave_context_of_value(key);
                    continue;
                }
            };
            return cx.registry.turn.end_running(reason);
        }
        // At the limit: a queue with values left stays ready, and is called next turn.
        if self.refill() == Taken::Nothing {
            return Readiness::EMPTY;
        }
        self.receiver.mailbox.offer_room();
        Readiness::READABLE
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn handler_type(&self) -> &'static str {
        self.handler_type
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn kind(&self) -> Kind {
        Kind::Queue
    }

    fn shut(&self) {
        self.receiver.mailbox.shut();
    }

    fn close(
        self: Box<Self>,
        reason: CloseReason,
        disposal: &mut Disposal,
    ) -> Option<Box<dyn Task<S>>> {
        let Self {
            receiver,
            batch,
            handle_next,
            ..
        } = *self;
        receiver.mailbox.shut(); // first, so that no value is added while values are dropped
        disposal.drop_one(batch);
        disposal.drop_one(receiver);
        disposal.drop_one(handle_next);
        disposal.drop_one(reason);
        None
    }
}
