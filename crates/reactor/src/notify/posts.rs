//! Posts: closures on their way from any thread to the loop, without an allocation for each.
//!
//! The captures of closures of one type lie side by side in a lane, a queue of that type. Tickets
//! say which closure is next among all lanes, in the order of posting. Each ticket names a type,
//! and stands for the first closure in the lane of that type. A ticket is a box of a value without
//! a size, which takes no memory.
//!
//! A box for each closure would be allocated on one core and freed on another. These two operations
//! take longer than the rest of a post. Closures of any type in one buffer would need `unsafe`,
//! here or in a crate.
//!
//! INVARIANT (tickets): a lane holds as many closures as there are tickets of its type, in the same
//! order. Tickets and closures go in, move on and are dropped together: in [`Posts`], under the
//! lock of the mailbox, then among the deferred callbacks and in `LoopInbox::captures`.

use std::any::type_name;
use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::panic::Location;

use super::address::QueueAddress;
use super::captures::Captures;
use super::mailbox::{Accept, Batch, Mailbox};
use crate::callback::Deferred;
use crate::callback::Task;
use crate::context::Context;
use crate::outcome::Next;
use crate::primitives::Arc;
use crate::registry::Registry;
use crate::request_context::Carried;
use crate::slots::Key;

/// The mailbox to which closures for a loop are posted.
pub(crate) type PostBox<S> = Arc<Mailbox<Posts<S>, QueueAddress>>;

/// A closure, the place in the source where it was posted, and the context of its caller.
pub(super) struct Post<F> {
    pub(super) callback: F,
    pub(super) origin: &'static Location<'static>,
    pub(super) context: Carried,
}

/// Closures in the order of posting.
pub(crate) struct Posts<S> {
    tickets: VecDeque<Post<Box<dyn Ticket<S>>>>,
    captures: Captures,
}

impl<S> Default for Posts<S> {
    fn default() -> Self {
        Self {
            tickets: VecDeque::new(),
            captures: Captures::default(),
        }
    }
}

impl<S> Batch for Posts<S> {
    const RUN_LATER: bool = true;

    fn len(&self) -> usize {
        self.tickets.len()
    }

    fn capacity(&self) -> usize {
        self.tickets.capacity()
    }

    fn drop_next(&mut self) -> bool {
        drop(self.tickets.pop_front()); // its context may hold values of the user
        self.captures.drop_next()
    }
}

impl<S, F: FnOnce(&mut Context<'_, S>) + Send + 'static> Accept<Post<F>> for Posts<S> {
    #[inline]
    fn accept(&mut self, post: Post<F>) {
        self.captures.put(post.callback);
        self.tickets.push_back(Post {
            callback: Box::new(TicketFor::<F>(PhantomData)),
            origin: post.origin,
            context: post.context,
        });
    }
}

/// Stands for the next closure of a type.
trait Ticket<S>: Send {
    /// Moves the closure from `captures` to the deferred callbacks.
    fn hand_over(
        &self,
        captures: &mut Captures,
        registry: &mut Registry<S>,
        origin: &'static Location<'static>,
        context: Carried,
    );
}

/// The ticket of an `F`, on its way and among the deferred callbacks.
struct TicketFor<F>(PhantomData<fn(F)>);

impl<S, F: FnOnce(&mut Context<'_, S>) + Send + 'static> Ticket<S> for TicketFor<F> {
    fn hand_over(
        &self,
        captures: &mut Captures,
        registry: &mut Registry<S>,
        origin: &'static Location<'static>,
        context: Carried,
    ) {
        if let Some(callback) = captures.take::<F>() {
            registry.inbox.captures.put(callback);
            registry.inbox.handed_over.count_one();
            let task = Box::new(Self(PhantomData));
            registry.deferred.push_back(Deferred {
                task,
                origin: Some(origin),
                key: Key::NULL,
                context,
            });
        }
    }
}

impl<S, F: FnOnce(&mut Context<'_, S>) + 'static> Task<S> for TicketFor<F> {
    fn run(self: Box<Self>, cx: &mut Context<'_, S>) {
        if let Some(callback) = cx.registry.inbox.captures.take::<F>() {
            cx.registry.inbox.handed_over.is_running = true;
            callback(cx);
            cx.registry.inbox.handed_over.end_run();
        }
    }

    fn type_name(&self) -> &'static str {
        type_name::<F>()
    }
}

/// Moves the next posted closure to the deferred callbacks. The closure does not run from its
/// queue: a panic would end the queue, and the other closures with it.
pub(super) fn hand_over<S>(posts: &mut Posts<S>, cx: &mut Context<'_, S>) -> io::Result<Next> {
    if let Some(Post {
        callback: ticket,
        origin,
        context,
    }) = posts.tickets.pop_front()
    {
        ticket.hand_over(&mut posts.captures, cx.registry, origin, context);
    }
    Ok(Next::Keep)
}
