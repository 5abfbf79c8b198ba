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
use crate::slots::Key;

/// A handle to a loop for other threads. It posts closures to the loop, calls into it, wakes it and
/// stops it.
///
/// Closures of one thread run in the order in which that thread posted them. At most 1024 run at a
/// time, with the deferred callbacks. The panic policy applies to each closure. An accepted closure
/// runs if the loop goes on running. Closures that have not run when the
/// [`Reactor`](crate::Reactor) is dropped are dropped with it. A `Remote` does not keep the loop
/// alive: see [`keep_alive`](Self::keep_alive).
#[doc(alias("Handle", "uv_async_t"))]
pub struct Remote<S> {
    posts: PostBox<S>,
    calls: Arc<Calls>,
    hub: Arc<LoopHub>,
    max_pending_posts: usize,
}

impl<S: 'static> Remote<S> {
    /// Posts `callback`, which then runs on the loop.
    ///
    /// # Cost
    /// No system call, unless the loop sleeps. No allocation once closures of the same type have
    /// been posted a few times: the loop keeps a buffer for each type, of at most 64 KiB.
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

    /// Posts `callback` as [`post`](Self::post) does, with `origin` as its source location in logs
    /// and lists.
    ///
    /// Use it in a handler library that posts a closure later than the user's call that requested
    /// it.
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
        self.post_or_return(origin, callback).map_err(|_| LoopGone)
    }

    /// Posts `callback`, or returns it if the loop is gone.
    #[inline]
    pub(super) fn post_or_return<F>(
        &self,
        origin: &'static Location<'static>,
        callback: F,
    ) -> Result<(), F>
    where
        F: FnOnce(&mut Context<'_, S>) + Send + 'static,
    {
        let told = self
            .posts
            .push(Post { callback, origin })
            .map_err(|(post, _)| post.callback)?;
        if let Some(address) = told {
            address.notify();
        }
        Ok(())
    }

    /// Posts `callback` as [`post`](Self::post) does, unless the limit of
    /// [`Builder::max_pending_posts`](crate::Builder::max_pending_posts) is reached. The limit
    /// applies to the number of [pending](Self::pending) closures.
    ///
    /// Use it where a flood of work could otherwise cause any number of posts. Closures of `post`,
    /// [`call`](Self::call) and [`stop`](Self::stop) count towards the limit, but are never refused
    /// for it: a library's answer and a request to stop arrive however full the loop is. A closure
    /// that the loop is taking over at this moment may count twice.
    ///
    /// # Errors
    /// Both return the closure.
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
    /// Blocks until the loop has run the closure; blocks forever if the loop is not running. If the
    /// loop is dropped or its registration "remote" is removed, waiting callers get
    /// [`CallError::Lost`] before anything else is dropped. So a handler or a state may own the
    /// calling thread and join it when it is dropped.
    ///
    /// Two loops that call each other at the same time block forever, since neither serves calls
    /// while it waits. If one loop needs an answer from another, use [`post`](Self::post) with a
    /// closure that posts the answer back.
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

    /// Makes [`Reactor::run`](crate::Reactor::run) return at the end of the turn in which this
    /// request is processed. Closures posted earlier by the same thread run first. The request is
    /// not lost if the registration "remote" is removed before it is processed.
    ///
    /// # Errors
    /// [`LoopGone`] if the loop is gone.
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

    /// Returns the thread of the loop, on which its [`Reactor`](crate::Reactor) was built. The loop
    /// never runs on another thread, since a `Reactor` is not `Send`. The thread is known before
    /// the loop runs, between its runs and after its end.
    pub fn loop_thread(&self) -> ThreadId {
        self.hub.loop_thread()
    }

    /// Returns `true` on the [thread of the loop](Self::loop_thread), in a callback of the loop and
    /// outside.
    ///
    /// On that thread, [`call`](Self::call) and [`Sender::send_within`](crate::Sender::send_within)
    /// are refused.
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

    /// Returns the number of accepted closures that have not finished running. It counts closures
    /// on their way, closures that wait in the loop, and the one that is running. The number may
    /// have changed by the time you use it.
    ///
    /// Zero means that all closures posted before have run, or were dropped with the loop. Their
    /// effects are visible then, without further synchronization. The closures of all remotes of
    /// the loop count. After [`call`](Self::call) has returned, its closure may count for a moment
    /// longer.
    ///
    /// # Cost
    /// O(1), one lock.
    pub fn pending(&self) -> usize {
        // In this order: a closure that is being handed over may be seen twice, and never not at
        // all.
        self.posts.len() + self.hub.handed_over()
    }

    /// Returns a token. Until it is dropped, [`Reactor::run`](crate::Reactor::run) does not return
    /// for want of registrations, and [`Registry::reasons_to_run`] shows the source location of
    /// this call.
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

    /// Returns a handle that wakes the loop and does not need the type of its state.
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
    /// Returns a handle to this loop for other threads. The first call makes a queue, registered in
    /// the background as "remote". [`len`](Self::len) counts that registration.
    ///
    /// # Errors
    /// - [`Error::Full`] at the limit of registrations.
    /// - [`Error::Loop`] if no eventfd can be created: `EMFILE`, `ENFILE`, `ENOMEM`.
    /// - [`Error::Os`] if the eventfd cannot be watched.
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
    /// The queue is a registration like any other. Its key can be:
    ///
    /// - named and paused;
    /// - given a [priority](Self::set_priority) or a [limit for each
    ///   turn](Self::set_max_messages_per_turn);
    /// - set into the foreground, where it keeps [`Reactor::run`](crate::Reactor::run) from
    ///   returning.
    ///
    /// When the queue is removed, all remotes are refused with [`LoopGone`]. While it is paused,
    /// calls and [`stop`](Remote::stop) wait, and so does the drop of a
    /// [`LoopThread`](crate::LoopThread).
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
