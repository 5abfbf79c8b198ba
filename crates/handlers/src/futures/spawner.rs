//! Spawning from other threads.

use std::fmt;
use std::future::Future;
use std::panic::Location;

use reactor::{Context, Error, LoopGone, Registry, Remote};

use super::executor;
use super::spawn::spawn_from;

/// A handle to a loop by which other threads spawn tasks.
///
/// A task need not be `Send`, so a thread sends a closure that makes the future on the loop.
pub struct Spawner<S> {
    remote: Remote<S>,
}

impl<S: 'static> Spawner<S> {
    /// Returns a spawner for this loop.
    ///
    /// # Errors
    /// - [`Error::Full`] at the limit of registrations.
    /// - [`Error::Loop`] if no eventfd can be created.
    /// - [`Error::Os`] if epoll refuses the eventfd.
    pub fn new(registry: &mut Registry<S>) -> Result<Self, Error> {
        executor::of_loop(registry)?;
        Ok(Self {
            remote: registry.remote()?,
        })
    }

    /// Posts `make` to the loop. The loop calls it with a context, which has the state, and spawns
    /// the future that it returns. The list of tasks shows the line of this call.
    ///
    /// To pass a result back, let the future send it, or await it on the loop.
    ///
    /// # Errors
    /// [`LoopGone`] if the loop is gone.
    ///
    /// ```
    /// use handlers::futures::Spawner;
    /// use reactor::Reactor;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::<u32>::new()?;
    /// let spawner = Spawner::new(&mut reactor)?;
    /// let alive = reactor.remote()?.keep_alive(); // until the thread has posted
    /// let thread = std::thread::spawn(move || {
    ///     let spawned = spawner.spawn(|_cx| async { 42 }, |answer, cx| *cx.state = answer);
    ///     drop(alive);
    ///     spawned
    /// });
    /// let mut answer = 0;
    /// reactor.run(&mut answer)?;
    /// thread.join().expect("it does not panic")?;
    /// assert_eq!(answer, 42);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn spawn<M, F, C>(&self, make: M, then: C) -> Result<(), LoopGone>
    where
        M: FnOnce(&mut Context<'_, S>) -> F + Send + 'static,
        F: Future + 'static,
        C: FnOnce(F::Output, &mut Context<'_, S>) + Send + 'static,
    {
        let origin = Location::caller();
        self.remote.post_from(origin, move |cx| {
            let future = make(cx);
            if let Err(error) = spawn_from(origin, cx.registry, future, then) {
                tracing::error!(%origin, %error, "a task could not be spawned");
            }
        })
    }

    /// Returns the handle of the loop by which this spawner posts.
    pub const fn remote(&self) -> &Remote<S> {
        &self.remote
    }
}

impl<S> Clone for Spawner<S> {
    fn clone(&self) -> Self {
        Self {
            remote: self.remote.clone(),
        }
    }
}

impl<S> fmt::Debug for Spawner<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawner").finish_non_exhaustive()
    }
}
