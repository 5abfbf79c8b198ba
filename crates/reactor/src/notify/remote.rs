//! `Remote`: closures from any thread into a loop; `Waker`: a turn, and nothing else.

use std::any::type_name;
use std::fmt;
use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::thread;

use super::calls::{CallError, Calls};
use super::consumer::{LoopHub, MailboxReceiver};
use super::mailbox::Mailbox;
use super::posts::{Post, PostBox, hand_over};
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
pub struct Remote<S> {
    posts: PostBox<S>,
    calls: Arc<Calls>,
    hub: Arc<LoopHub>,
}

/// The loop is gone: its reactor has been dropped, or the registration named "remote" was removed from it. What was to be
/// posted has been dropped too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopGone;

impl<S: 'static> Remote<S> {
    /// Runs `callback` on the loop. No system call, unless the loop sleeps, and no allocation, once closures of its type have been
    /// posted some times: the loop keeps buffers for each type, up to 64 KiB each.
    ///
    /// # Errors
    /// [`LoopGone`], and the closure has been dropped.
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
    pub fn post_from<F>(&self, origin: &'static Location<'static>, callback: F) -> Result<(), LoopGone>
    where
        F: FnOnce(&mut Context<'_, S>) + Send + 'static,
    {
        let told = self.posts.push(Post { callback, origin }).map_err(|_| LoopGone)?;
        if let Some(address) = told {
            address.notify();
        }
        Ok(())
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
    #[track_caller]
    pub fn call<F, R>(&self, callback: F) -> Result<R, CallError>
    where
        F: FnOnce(&mut Context<'_, S>) -> R + Send + 'static,
        R: Send + 'static,
    {
        if thread::current().id() == self.hub.loop_thread() {
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
        tracing::debug!(origin = %Location::caller(), "another thread asks the loop to stop");
        let posted = self.post(|cx| cx.registry.stop());
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
        let origin = Location::caller();
        self.hub.keep_alive();
        self.hub.holders.note(origin);
        KeepAlive { hub: Arc::clone(&self.hub), origin }
    }

    /// What wakes the loop without knowing its state.
    pub fn waker(&self) -> Waker {
        Waker { hub: Arc::clone(&self.hub) }
    }
}

impl<S> Clone for Remote<S> {
    fn clone(&self) -> Self {
        Self { posts: Arc::clone(&self.posts), calls: Arc::clone(&self.calls), hub: Arc::clone(&self.hub) }
    }
}

impl<S> fmt::Debug for Remote<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("pending", &self.pending()).finish_non_exhaustive()
    }
}

/// Wakes a loop, from any thread and from a signal handler.
#[derive(Clone, Debug)]
pub struct Waker {
    hub: Arc<LoopHub>,
}

impl Waker {
    /// Wakes the loop so that it takes a turn whose hooks all begin after this call. Call it after changing state that a hook
    /// reads.
    ///
    /// A loop that sleeps ends its sleep. A loop that is at a turn takes another one without sleeping, at whatever place of the turn
    /// this comes, also from one of its own callbacks. Wakes that come together are coalesced into one turn.
    ///
    /// Safe in a signal handler: a few atomic operations, and one `write` if the loop sleeps (`signal-safety(7)`); no
    /// lock and no allocation.
    pub fn wake(&self) {
        self.hub.wake();
    }
}

/// As long as it lives, [`Reactor::run`](crate::Reactor::run) does not end for want of registrations. For any thread.
#[derive(Debug)]
pub struct KeepAlive {
    hub: Arc<LoopHub>,
    origin: &'static Location<'static>,
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.hub.holders.forget(self.origin);
        self.hub.release();
    }
}

impl fmt::Display for LoopGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the loop is gone: its reactor, or its registration \"remote\", has been dropped")
    }
}

impl std::error::Error for LoopGone {}

/// So that `?` passes it on from a handler, as [`BrokenPipe`](io::ErrorKind::BrokenPipe).
impl From<LoopGone> for io::Error {
    fn from(gone: LoopGone) -> Self {
        Self::new(io::ErrorKind::BrokenPipe, gone)
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
        let hub = self.hub()?;
        if let Some((key, posts, calls)) = &self.posts
            && self.contains(*key)
        {
            return Ok(Remote { posts: Arc::clone(posts), calls: Arc::clone(calls), hub });
        }
        self.handed_over.count_at(&hub);
        let posts = Arc::new(Mailbox::new(usize::MAX));
        let receiver = MailboxReceiver { mailbox: Arc::clone(&posts) };
        let key = self
            .register_queue(receiver, hand_over, type_name::<Remote<S>>(), Location::caller())
            .map_err(|(_, error)| error)?;
        self.set_background(key)?;
        self.set_name(key, "remote")?;
        let calls = Arc::<Calls>::default();
        self.posts = Some((key, Arc::clone(&posts), Arc::clone(&calls)));
        Ok(Remote { posts, calls, hub })
    }
}

impl<S> Registry<S> {
    /// Answers the calls that wait for a closure, if `queue` is where they come in.
    pub(crate) fn lose_calls(&self, queue: Key) {
        if let Some((key, _, calls)) = &self.posts
            && *key == queue
        {
            calls.cancel_all();
        }
    }
}
