//! The claim of an [`Async`](super::Async) on its place in the table of sources.

use std::io::{self, ErrorKind};
use std::panic::Location;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Waker;

use super::readiness::{Advice, Direction, SourceState};
use super::shared::SharedSource;
use super::watch;
use crate::futures::local::Local;
use crate::futures::of_thread;
use crate::futures::requests::{Message, Request, SourceKey};
use crate::futures::waiter::Waiter;
use crate::futures::waker::Shared;

/// The place of a source in the table of its loop, from the first wait on.
#[derive(Debug)]
pub(super) struct Registered {
    place: OnceLock<Place>,
}

#[derive(Debug)]
struct Place {
    key: SourceKey,
    shared: Arc<Shared>,
    /// The task that waits for the loop to let go of the source.
    released: Arc<Mutex<Option<Waker>>>,
}

impl Registered {
    pub(super) const fn new() -> Self {
        Self {
            place: OnceLock::new(),
        }
    }

    pub(super) fn is_registered(&self) -> bool {
        self.place.get().is_some()
    }

    /// Returns `true` if an operation may succeed. It is attempted too if nothing is known of it.
    pub(super) fn may_attempt(&self, direction: Direction) -> io::Result<bool> {
        match self.with_state(|state| state.advise(direction)) {
            Some(Advice::Fail(error)) => Err(error),
            Some(Advice::Wait) => Ok(false),
            Some(Advice::Attempt) | None => Ok(true),
        }
    }

    /// Returns `true` if a direction is known to be ready.
    pub(super) fn is_known_ready(&self, direction: Direction) -> io::Result<bool> {
        self.may_attempt(direction)?;
        let is_known = self.with_state(|state| state.is_known_ready(direction));
        Ok(is_known.unwrap_or(false))
    }

    /// Records that an operation would block. Returns `true` if the loop cannot watch the source,
    /// since it is always ready.
    pub(super) fn set_blocked(&self, direction: Direction) -> bool {
        self.with_state(|state| {
            state.set_blocked(direction);
            state.is_always_ready()
        })
        .unwrap_or(false)
    }

    /// Records that an operation was short, which proves that the next one would block.
    pub(super) fn set_short(&self, direction: Direction) {
        self.with_state(|state| state.set_short(direction));
    }

    /// Lets the task of `waker` wait for a direction. `source` returns the source if it is not
    /// known to the loop yet.
    pub(super) fn wait(
        &self,
        direction: Direction,
        waker: &Waker,
        source: impl FnOnce() -> SharedSource,
        origin: &'static Location<'static>,
    ) -> io::Result<()> {
        if self.place.get().is_none() {
            self.add(source(), origin)?;
        }
        let waited = self.place.get().and_then(|place| {
            let local = of_thread::find(&place.shared)?;
            wait(&local, place.key, direction, waker);
            Some(())
        });
        match waited {
            Some(()) => Ok(()),
            None => Err(unsupported("its loop runs on another thread, or is gone")),
        }
    }

    /// Adds the source to the table of the loop whose task is polled.
    fn add(&self, source: SharedSource, origin: &'static Location<'static>) -> io::Result<()> {
        let local = of_thread::current()
            .ok_or_else(|| unsupported("no task of a loop is polled on this thread"))?;
        let released = source.released();
        let added = local
            .sources
            .borrow_mut()
            .add(SourceState::new(source, origin));
        let place = Place {
            key: added.ok_or(ErrorKind::OutOfMemory)?,
            shared: Arc::clone(&local.shared),
            released,
        };
        // If another thread was faster, its place is used.
        if let Err(place) = self.place.set(place) {
            drop(watch::end(&local, place.key));
        }
        Ok(())
    }

    /// Ends the registration. Returns where a task can wait for the loop to let go of the source.
    pub(super) fn end(&mut self) -> Option<Arc<Mutex<Option<Waker>>>> {
        let Place {
            key,
            shared,
            released,
        } = self.place.take()?;
        let ended = of_thread::with(&shared, |local| watch::end(local, key));
        if ended.is_none() {
            // Its loop runs on another thread, or is gone.
            shared.send(Message::Request(Request::ForgetSource(key)));
        }
        Some(released)
    }

    fn with_state<R>(&self, use_it: impl FnOnce(&mut SourceState) -> R) -> Option<R> {
        let place = self.place.get()?;
        of_thread::with(&place.shared, |local| {
            local.sources.borrow_mut().get_mut(place.key).map(use_it)
        })?
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.end();
    }
}

/// Lets a task wait on the thread of its loop.
fn wait(local: &Local, key: SourceKey, direction: Direction, waker: &Waker) {
    let waiter = Waiter::of(waker, local); // outside of the borrow, as the drop of the replaced one
    let mut sources = local.sources.borrow_mut();
    let (is_new, _replaced) = match sources.get_mut(key) {
        Some(state) => state.wait(direction, waiter),
        None => return,
    };
    drop(sources);
    if is_new {
        local.request(Request::Watch(key));
    }
}

#[cold]
fn unsupported(reason: &str) -> io::Error {
    let text = format!("a source cannot wait here: {reason}");
    io::Error::new(ErrorKind::Unsupported, text)
}
