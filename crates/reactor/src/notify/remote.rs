//! `Remote`: closures from any thread into a loop.

use std::any::type_name;
use std::fmt;
use std::panic::Location;

use super::address::LoopHub;
use super::calls::{CallError, Calls};
use super::consumer::MailboxReceiver;
use super::mailbox::{Mailbox, Refused};
use super::post_error::{LoopGone, TryPostError};
use super::posts::{Post, PostBox, hand_over};
use super::waker::{KeepAlive, Waker};
use crate::context::Context;
use crate::error::Error;
use crate::primitives::{Arc, ThreadId};
use crate::registry::Registry;
use crate::request_context::Carried;
use crate::slots::Key;

/// A handle to a loop for other threads. It posts closures to the loop, calls into it, wakes it and
/// stops it.
///
/// Make one by [`Registry::remote`].
///
/// Closures of one thread run in the order in which that thread posted them. They run among the
/// [deferred](Registry::defer) callbacks, and at most 1024 posted closures run in a
/// [turn](crate::Reactor::turn). The [panic policy](crate::PanicPolicy) of the loop applies to each
/// closure. An accepted closure runs, unless the loop takes no more turns. If the
/// [`Reactor`](crate::Reactor) is dropped first, the closure is dropped with it.
///
/// A `Remote` does not keep [`Reactor::run`](crate::Reactor::run) from returning: see
/// [`keep_alive`](Self::keep_alive).
#[doc(alias("Handle", "uv_async_t"))]
pub struct Remote<S> {
    posts: PostBox<S>,
    calls: Arc<Calls>,
    hub: Arc<LoopHub>,
    max_pending_posts: usize,
}

impl<S: 'static> Remote<S> {
    /// Posts `callback` to the loop and returns. The loop runs it in one of its next
    /// [turns](crate::Reactor::turn).
    ///
    /// # Cost
    /// - No system call while the loop is awake. The first thread that finds the loop asleep makes
    ///   one `write`.
    /// - One lock. The first post after the loop has found no posted closures takes a second lock.
    /// - No allocation once closures of the same type have been posted a few times: the loop keeps
    ///   a buffer of at most 64 KiB for each type.
    ///
    /// # Errors
    /// [`LoopGone`] if the loop is gone. The closure has been dropped.
    ///
    /// ```
    /// use reactor::Reactor;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::<Vec<&str>>::new()?;
    /// let remote = reactor.remote()?;
    /// let alive = remote.keep_alive(); // until the worker has posted
    /// let worker = std::thread::spawn(move || {
    ///     remote.post(|cx| cx.state.push("from a worker")).expect("the loop runs");
    ///     drop(alive);
    /// });
    /// let mut words = Vec::new();
    /// reactor.run(&mut words)?;
    /// worker.join().expect("it does not panic");
    /// assert_eq!(words, ["from a worker"]);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias(
        "runInEventBaseThread",
        "call_soon_threadsafe",
        "ev_async_send",
        "uv_async_send",
        "spawn"
    ))]
    #[track_caller]
    pub fn post<F>(&self, callback: F) -> Result<(), LoopGone>
    where
        F: FnOnce(&mut Context<'_, S>) + Send + 'static,
    {
        self.post_from(Location::caller(), callback)
    }

    /// Posts `callback` as [`post`](Self::post) does. Logs and lists show `origin` as the place
    /// where the closure was posted.
    ///
    /// Use it in a library that posts a closure on behalf of its user: the user has called the
    /// library earlier, and the post follows from that call. Pass the location of the user's call.
    ///
    /// # Errors
    /// [`LoopGone`] if the loop is gone. The closure has been dropped.
    #[inline]
    pub fn post_from<F>(
        &self,
        origin: &'static Location<'static>,
        callback: F,
    ) -> Result<(), LoopGone>
    where
        F: FnOnce(&mut Context<'_, S>) + Send + 'static,
    {
        self.post_or_return(origin, callback, Carried::current())
            .map_err(|_| LoopGone)
    }

    /// Posts `callback` with `context`, or returns both if the loop is gone.
    #[inline]
    pub(super) fn post_or_return<F>(
        &self,
        origin: &'static Location<'static>,
        callback: F,
        context: Carried,
    ) -> Result<(), (F, Carried)>
    where
        F: FnOnce(&mut Context<'_, S>) + Send + 'static,
    {
        let address = self
            .posts
            .push(Post {
                callback,
                origin,
                context,
            })
            .map_err(|(post, _)| (post.callback, post.context))?;
        if let Some(address) = address {
            address.notify();
        }
        Ok(())
    }

    /// Posts `callback` as [`post`](Self::post) does, unless the limit of
    /// [`Builder::max_pending_posts`](crate::Builder::max_pending_posts) is reached. The limit
    /// applies to the number of [pending](Self::pending) closures.
    ///
    /// Use it where the number of posts could otherwise grow without bound. A `post`, a
    /// [`call`](Self::call) and a [`stop`](Self::stop) each count as one closure, but are never
    /// refused because of the limit. A request to stop, or an answer that a library posts,
    /// therefore arrives even if the limit is reached. A closure that the loop takes out of its
    /// queue during this call may be counted twice. The call may then return [`TryPostError::Full`]
    /// although the limit is not reached.
    ///
    /// # Errors
    /// Each error contains the closure.
    ///
    /// - [`TryPostError::Full`] at the limit.
    /// - [`TryPostError::Gone`] if the loop is gone.
    ///
    /// ```
    /// use reactor::{Reactor, TryPostError};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::<u32>::builder().max_pending_posts(1).build()?;
    /// let remote = reactor.remote()?;
    /// remote.try_post(|cx| *cx.state += 1)?;
    /// let Err(TryPostError::Full { callback, .. }) = remote.try_post(|cx| *cx.state += 10) else {
    ///     unreachable!("one is pending")
    /// };
    /// let mut state = 0;
    /// reactor.run(&mut state)?;
    /// remote.try_post(callback)?; // the error returned it, and there is room now
    /// reactor.run(&mut state)?;
    /// assert_eq!(state, 11);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn try_post<F>(&self, callback: F) -> Result<(), TryPostError<F>>
    where
        F: FnOnce(&mut Context<'_, S>) + Send + 'static,
    {
        let (post, max_pending_posts) = (
            Post {
                callback,
                origin: Location::caller(),
                context: Carried::current(),
            },
            self.max_pending_posts,
        );
        match self
            .posts
            .push_below(max_pending_posts, || self.hub.handed_over(), post)
        {
            Ok(address) => {
                address.into_iter().for_each(|address| address.notify());
                Ok(())
            }
            Err((Post { callback, .. }, Refused::Full)) => Err(TryPostError::Full {
                callback,
                max_pending_posts,
            }),
            Err((Post { callback, .. }, Refused::Closed)) => Err(TryPostError::Gone(callback)),
        }
    }

    /// Runs `callback` on the loop, waits for it, and returns its result.
    ///
    /// Blocks until the loop has run the closure. Blocks forever if the loop takes no
    /// [turns](crate::Reactor::turn). A call that waits fails with [`CallError::Lost`] when the
    /// reactor is dropped or the registration "remote" is removed. It fails before any handler or
    /// source is dropped, so the destructor of a handler may join the calling thread. The
    /// destructor of the state may join it too, if the state is dropped after the reactor.
    ///
    /// Two loops that call each other at the same time block forever, since a loop runs no closures
    /// while it waits for a call. If one loop needs an answer from another, use
    /// [`post`](Self::post) with a closure that posts the answer back.
    ///
    /// # Errors
    /// - [`CallError::OnLoopThread`] on the thread of the loop, at once.
    /// - [`CallError::Lost`] if the loop is gone, or ends before the closure runs.
    /// - [`CallError::Panicked`] if the closure panicked.
    ///
    /// ```
    /// use reactor::LoopThread;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let counter = LoopThread::spawn("counter", |_registry| Ok(40))?;
    /// let count = counter.remote().call(|cx| {
    ///     *cx.state += 2;
    ///     *cx.state
    /// })?;
    /// assert_eq!(count, 42);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("runInEventBaseThreadAndWait"))]
    #[track_caller]
    pub fn call<F, R>(&self, callback: F) -> Result<R, CallError>
    where
        F: FnOnce(&mut Context<'_, S>) -> R + Send + 'static,
        R: Send + 'static,
    {
        if self.hub.is_loop_thread() {
            return Err(CallError::OnLoopThread);
        }
        let (caller, responder) = self.calls.begin();
        // If the post is refused, the responder in the closure answers when the closure is dropped.
        let _ = self.post(move |cx| {
            if responder.begin() {
                let result = callback(cx);
                responder.answer(result);
            }
        });
        caller.wait()
    }

    /// Makes [`Reactor::run`](crate::Reactor::run) return at the end of the turn in which the loop
    /// receives this request. Closures that the same thread posted earlier are run first. The
    /// request is not lost if the registration "remote" is removed before the loop receives it.
    ///
    /// # Errors
    /// [`LoopGone`] if the loop is gone. If the reactor still exists and only its registration
    /// "remote" was removed, this call returns the error and stops the loop nevertheless.
    ///
    /// ```
    /// use reactor::Reactor;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// let remote = reactor.remote()?;
    /// let _alive = remote.keep_alive(); // the loop runs until it is stopped
    /// let worker = std::thread::spawn(move || remote.stop());
    /// reactor.run(&mut ())?;
    /// assert!(worker.join().expect("it does not panic").is_ok());
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn stop(&self) -> Result<(), LoopGone> {
        let origin = Location::caller();
        tracing::debug!(%origin, "another thread asks the loop to stop");
        let request = StopRequest {
            hub: Arc::clone(&self.hub),
            is_fulfilled: false,
        };
        self.post(move |cx| request.fulfil(cx.registry, origin))
    }
}

/// A request to stop. If it is dropped on its way, it stops the loop without a message: the queue
/// may be gone while the loop still runs.
struct StopRequest {
    hub: Arc<LoopHub>,
    is_fulfilled: bool,
}

impl StopRequest {
    fn fulfil<S>(mut self, registry: &mut Registry<S>, origin: &'static Location<'static>) {
        self.is_fulfilled = true;
        registry.stop_from(origin);
    }
}

impl Drop for StopRequest {
    fn drop(&mut self) {
        if !self.is_fulfilled {
            self.hub.stop();
        }
    }
}

impl<S> Remote<S> {
    /// Wakes the loop so that it takes a turn: see [`Waker::wake`].
    pub fn wake(&self) {
        self.hub.wake();
    }

    /// Returns the thread on which the [`Reactor`](crate::Reactor) was built. The loop never runs
    /// on another thread, since a `Reactor` is not `Send`. The result is the same before the loop
    /// runs, between two runs, and after the end of the loop.
    pub fn loop_thread(&self) -> ThreadId {
        self.hub.loop_thread()
    }

    /// Returns `true` if called on the [thread of the loop](Self::loop_thread), whether in a
    /// callback of the loop or outside of callbacks.
    ///
    /// On the thread of the loop, [`call`](Self::call) returns an error.
    /// [`Sender::send_within`](crate::Sender::send_within) to a queue of this loop also returns an
    /// error there.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = reactor::Reactor::<()>::new()?;
    /// let remote = reactor.remote()?;
    /// assert!(remote.is_loop_thread());
    /// let elsewhere = std::thread::spawn(move || remote.is_loop_thread());
    /// assert!(!elsewhere.join().expect("it does not panic"));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "isInEventBaseThread")]
    pub fn is_loop_thread(&self) -> bool {
        self.hub.is_loop_thread()
    }

    /// Returns `true` if the loop is gone, as [`LoopGone`] defines it.
    pub fn is_gone(&self) -> bool {
        self.posts.is_closed()
    }

    /// Returns the number of closures that the loop has accepted and has not finished. A closure
    /// that is running is counted too. The number may have changed by the time you use it.
    ///
    /// Closures posted through any remote of the loop are counted. Zero means that each closure
    /// posted before this call has run, or was dropped with the loop. The effects of these closures
    /// are visible then, without further synchronization. The closure of a [`call`](Self::call) may
    /// still be counted for a moment after the call has returned.
    ///
    /// # Cost
    /// O(1), one lock.
    pub fn pending(&self) -> usize {
        // In this order: a closure that is being handed over may be counted twice, but is never
        // missed.
        self.posts.len() + self.hub.handed_over()
    }

    /// Returns a token. Until the token is dropped, [`Reactor::run`](crate::Reactor::run) does not
    /// return [`Exit::NothingLeft`](crate::Exit::NothingLeft), and [`Registry::reasons_to_run`]
    /// shows the source location of this call.
    ///
    /// ```
    /// use reactor::Reactor;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// let alive = reactor.remote()?.keep_alive();
    /// assert_eq!(reactor.reasons_to_run().count(), 1);
    /// std::thread::spawn(move || drop(alive)); // work elsewhere has ended
    /// reactor.run(&mut ())?; // returns after that
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "it keeps the loop alive until it is dropped"]
    #[track_caller]
    pub fn keep_alive(&self) -> KeepAlive {
        KeepAlive::new(Arc::clone(&self.hub), Location::caller())
    }

    /// Returns a [`Waker`], which wakes the loop. Its type does not depend on the type of the
    /// loop's state.
    pub fn waker(&self) -> Waker {
        Waker::new(Arc::clone(&self.hub))
    }
}

impl<S> Clone for Remote<S> {
    fn clone(&self) -> Self {
        Self {
            posts: Arc::clone(&self.posts),
            calls: Arc::clone(&self.calls),
            hub: Arc::clone(&self.hub),
            max_pending_posts: self.max_pending_posts,
        }
    }
}

impl<S> fmt::Debug for Remote<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}

impl<S: 'static> Registry<S> {
    /// Returns a handle to this loop for other threads. The first call makes a queue for the posted
    /// closures, and registers it under the name "remote", in the
    /// [background](Self::set_background). [`len`](Self::len) counts this registration.
    ///
    /// # Errors
    /// - [`Error::Full`] at the limit of registrations.
    /// - [`Error::Loop`] if no eventfd can be created: `EMFILE`, `ENFILE`, `ENOMEM`.
    /// - [`Error::Os`] if epoll refuses the eventfd.
    #[track_caller]
    pub fn remote(&mut self) -> Result<Remote<S>, Error> {
        let (hub, max_pending_posts) = (self.hub()?, self.inbox.max_pending_posts);
        if let Some((key, posts, calls)) = &self.inbox.posts
            && self.contains(*key)
        {
            return Ok(Remote {
                posts: Arc::clone(posts),
                calls: Arc::clone(calls),
                hub,
                max_pending_posts,
            });
        }
        self.inbox.handed_over.count_at(&hub);
        let posts = Arc::new(Mailbox::new(usize::MAX));
        let receiver = MailboxReceiver {
            mailbox: Arc::clone(&posts),
        };
        let key = self
            .register_queue(
                receiver,
                hand_over,
                type_name::<Remote<S>>(),
                Location::caller(),
            )
            .map_err(|(_, error)| error)?;
        self.set_background(key)?;
        self.set_name(key, "remote")?;
        let calls = Arc::<Calls>::default();
        self.inbox.posts = Some((key, Arc::clone(&posts), Arc::clone(&calls)));
        Ok(Remote {
            posts,
            calls,
            hub,
            max_pending_posts,
        })
    }
}

impl<S> Registry<S> {
    /// Returns the key of the queue of all [remotes](Self::remote). Returns `None` before the first
    /// remote is made, and after the queue was removed.
    ///
    /// The queue is a registration like any other. It can be:
    ///
    /// - named, and paused by an interest of [`Interest::NONE`](crate::Interest::NONE);
    /// - given a [priority](Self::set_priority) or a [limit for each
    ///   turn](Self::set_max_messages_per_turn);
    /// - set into the [foreground](Self::set_foreground): [`Reactor::run`](crate::Reactor::run)
    ///   then keeps running while the queue exists.
    ///
    /// After the queue has been removed, posts through any remote return [`LoopGone`]. While the
    /// queue is paused, calls wait, a [`stop`](Remote::stop) has no effect yet, and the drop of a
    /// [`LoopThread`](crate::LoopThread) waits.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = reactor::Reactor::<()>::new()?;
    /// assert_eq!(reactor.remote_key(), None);
    /// let _remote = reactor.remote()?;
    /// let queue = reactor.remote_key().expect("a remote has been made");
    /// reactor.set_name(queue, "orders of other threads")?;
    /// reactor.set_max_messages_per_turn(queue, 64)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn remote_key(&self) -> Option<Key> {
        self.inbox
            .posts
            .as_ref()
            .map(|(key, ..)| *key)
            .filter(|key| self.contains(*key))
    }

    /// Answers the calls that wait for a closure, if `queue` is the queue through which they came.
    pub(crate) fn answer_lost_calls(&self, queue: Key) {
        if let Some((key, _, calls)) = &self.inbox.posts
            && *key == queue
        {
            calls.cancel_all();
        }
    }
}
