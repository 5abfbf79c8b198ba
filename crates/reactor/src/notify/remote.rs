//! `Remote`: closures from any thread into a loop.

use std::any::type_name;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::thread::ThreadId;

use super::address::LoopHub;
use super::calls::{CallError, Calls};
use super::consumer::MailboxReceiver;
use super::mailbox::{Mailbox, Refused};
use super::post_error::{LoopGone, TryPostError};
use super::posts::{Post, PostBox, hand_over};
use super::waker::{KeepAlive, Waker};
use crate::context::Context;
use crate::error::Error;
use crate::registry::Registry;
use crate::slots::Key;

/// A handle to a loop for other threads: posts closures to it, calls into it, wakes and stops it.
///
/// What is posted runs in the order of posting of each thread, up to 1024 at a time, with the deferred callbacks; the panic
/// policy holds for each closure. What has been accepted runs as long as the loop runs; what is left when
/// the [`Reactor`](crate::Reactor) is dropped is dropped with it. It does not keep the loop alive: see
/// [`keep_alive`](Self::keep_alive).
#[doc(alias("Handle", "uv_async_t"))]
pub struct Remote<S> {
    posts: PostBox<S>,
    calls: Arc<Calls>,
    hub: Arc<LoopHub>,
    max_pending_posts: usize,
}

impl<S: 'static> Remote<S> {
    /// Runs `callback` on the loop. No system call, unless the loop sleeps, and no allocation, once closures of its type have been
    /// posted some times: the loop keeps buffers for each type, up to 64 KiB each.
    ///
    /// # Errors
    /// [`LoopGone`], and the closure has been dropped.
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

    /// Posts `callback` as [`post`](Self::post) does, and shows `origin` as its place in the source, in logs and lists.
    ///
    /// It is for a library of handlers, which posts now a closure that a line of its user's has asked for earlier.
    ///
    /// # Errors
    /// [`LoopGone`], and the closure has been dropped.
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

    /// Posts `callback` as [`post`](Self::post) does, unless as many closures are [pending](Self::pending) as
    /// [`Builder::max_pending_posts`](crate::Builder::max_pending_posts) allows.
    ///
    /// The limit is for posts that a flood of work may cause. Closures of `post`, [`call`](Self::call) and
    /// [`stop`](Self::stop) count, and are never refused for it: a library's answer and the order to stop arrive
    /// however full it is. A closure that the loop takes over at this moment may count twice.
    ///
    /// # Errors
    /// The closure back: [`TryPostError::Full`] at the limit, [`TryPostError::Gone`] if the loop is gone.
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
    /// remote.try_post(callback)?; // it was given back, and there is room now
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

    /// Runs `callback` on the loop, waits for it, and gives what it gives.
    ///
    /// Waits as long as the loop is busy, and for ever if nobody runs it. A loop that is dropped, or loses its registration
    /// "remote", answers with [`CallError::Lost`] before it drops anything else, so a handler or a state may own the calling thread
    /// and join it when it is dropped.
    ///
    /// Two loops that call each other at the same time wait for ever, since each serves nothing while it waits. A loop asks another one
    /// by [`post`](Self::post), with a closure that posts the answer back.
    ///
    /// # Errors
    /// [`CallError`].
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
        // A closure that is refused answers as it is dropped.
        let _ = self.post(move |cx| {
            if responder.begin() {
                let result = callback(cx);
                responder.answer(result);
            }
        });
        caller.wait()
    }

    /// Lets [`Reactor::run`](crate::Reactor::run) return at the end of the turn that this arrives in. It arrives after what the
    /// same thread has posted before.
    ///
    /// # Errors
    /// [`LoopGone`].
    #[track_caller]
    pub fn stop(&self) -> Result<(), LoopGone> {
        let origin = Location::caller();
        tracing::debug!(%origin, "another thread asks the loop to stop");
        let posted = self.post(move |cx| cx.registry.stop_from(origin));
        if posted.is_err() {
            self.hub.stop(); // its queue may be gone, and the loop not
        }
        posted
    }
}

impl<S> Remote<S> {
    /// Lets the loop take a turn: [`Waker::wake`].
    pub fn wake(&self) {
        self.hub.wake();
    }

    /// Returns the thread of the loop: the one on which its [`Reactor`](crate::Reactor) was built. It runs there or not
    /// at all, since a `Reactor` is not `Send`. Known before the loop runs, between its runs and after its end.
    pub fn loop_thread(&self) -> ThreadId {
        self.hub.loop_thread()
    }

    /// Returns `true` on the [thread of the loop](Self::loop_thread), in a callback of it and outside.
    ///
    /// There, [`call`](Self::call) and [`Sender::send_within`](crate::Sender::send_within) are refused.
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

    /// Whether the loop is gone, as [`LoopGone`] means it.
    pub fn is_gone(&self) -> bool {
        self.posts.is_closed()
    }

    /// Returns how many closures the loop has accepted that have not run to their end: those on their way, those that wait in
    /// the loop, and the one that is running. By the time it is looked at, they may be more or fewer.
    ///
    /// Zero says that all that was posted before has run, or was dropped with the loop. Counts the closures of all
    /// remotes of the loop. After [`call`](Self::call) has returned, its closure may count for a moment more. O(1), a lock.
    pub fn pending(&self) -> usize {
        // In this order: a closure that is just handed over may be seen twice, and never not at all.
        self.posts.len() + self.hub.handed_over()
    }

    /// Keeps [`Reactor::run`](crate::Reactor::run) from ending for want of registrations, until the token is dropped.
    /// [`Registry::reasons_to_run`] shows this line meanwhile.
    #[must_use = "it keeps the loop alive until it is dropped"]
    #[track_caller]
    pub fn keep_alive(&self) -> KeepAlive {
        KeepAlive::new(Arc::clone(&self.hub), Location::caller())
    }

    /// What wakes the loop without knowing its state.
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
    /// A handle for other threads. The first one makes a queue, registered in the background as "remote":
    /// [`len`](Self::len) counts it.
    ///
    /// # Errors
    /// As [`consume`](Self::consume).
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
    /// Returns the key of the queue of all [remotes](Self::remote), or `None` before the first of them and after its
    /// removal.
    ///
    /// The queue is a registration like any other: by its key it is named, paused, given a
    /// [priority](Self::set_priority) or a [limit for each turn](Self::set_max_messages_per_turn), and set into the
    /// foreground, where it keeps [`Reactor::run`](crate::Reactor::run) from ending. When it is removed, all remotes
    /// are refused with [`LoopGone`]. While it is paused, calls wait and [`stop`](Remote::stop) does too, and so does the drop of a
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

    /// Answers the calls that wait for a closure, if `queue` is where they come in.
    pub(crate) fn answer_lost_calls(&self, queue: Key) {
        if let Some((key, _, calls)) = &self.inbox.posts
            && *key == queue
        {
            calls.cancel_all();
        }
    }
}
