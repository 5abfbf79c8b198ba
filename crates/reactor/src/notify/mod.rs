//! Notification: how other threads reach a loop.
//!
//! ```text
//!   senders                                        the loop
//!   Sender::try_send ──▶ Mailbox of the queue ──▶ taken whole, handled up to a limit a turn
//!        │ the first value since it was emptied
//!        ▼
//!   Hub: the queue's key on a list, the gate asked ──▶ keys collected once a turn
//!        │ only if the gate says that the loop sleeps
//!        ▼
//!   write to the eventfd ──▶ ends the wait
//!
//!   a sender that waits for room ◀── Mailbox: when values have been handled,
//!                                    as many senders as there is room for
//! ```
//!
//! A registered queue is a source like any other, except that the kernel does not know it. It has a
//! key, a priority, and an interest that pauses it. It is called for values left over and for new
//! values, up to its limit a turn.
//!
//! Source: folly's NotificationQueue, which writes its eventfd only when the consumer sleeps.
//! Unlike folly, all queues of a loop share one eventfd, which is never read: it is edge-triggered,
//! so each write is an event of its own.

pub(crate) mod address;
pub(crate) mod calls;
pub(crate) mod captures;
pub(crate) mod consumer;
pub(crate) mod gate;
pub(crate) mod holders;
pub(crate) mod hub;
pub(crate) mod inbox;
pub(crate) mod mailbox;
pub(crate) mod on_room;
pub(crate) mod post_error;
pub(crate) mod posts;
pub(crate) mod queue;
pub(crate) mod remote;
pub(crate) mod room;
pub(crate) mod send_error;
pub(crate) mod sender;
pub(crate) mod waker;
