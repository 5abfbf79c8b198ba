//! A daemon of one loop, from its start to its end.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use reactor::{Context, Reactor, Remote};

use crate::simulation::{Handle, process, wait_until};

/// A process that runs one loop. The test has a key of what the loop serves and a
/// [`Remote`], and ends the loop through them.
///
/// `S` is the state of the loop. `K` is what the test needs to reach the daemon, for example a
/// `ServerKey` of `handlers`.
///
/// ```
/// use std::time::Duration;
///
/// use reactor::{Missed, Next};
/// use simulation::{Daemon, Seeds};
///
/// Seeds::new(0..20).check(|| {
///     let daemon = Daemon::start("counter", |reactor| {
///         let timer = reactor.every(Duration::from_secs(1), Missed::Skip, |cx| {
///             *cx.state += 1;
///             Ok(Next::Keep)
///         });
///         Ok((0, timer))
///     });
///     simulation::sleep(Duration::from_secs(60));
///     let (count, _reactor) = daemon.end(|timer, cx| cx.registry.cancel(timer).expect("it runs"));
///     assert!(count <= 60);
/// });
/// ```
pub struct Daemon<S: 'static, K> {
    process: Handle<(S, Reactor<S>)>,
    remote: Remote<S>,
    key: K,
}

impl<S: 'static, K: 'static> Daemon<S, K> {
    /// Starts a process, named `name`, which makes a loop, calls `set_up` and runs the loop until
    /// it ends. Blocks until `set_up` has returned.
    ///
    /// `set_up` registers the parts of the daemon. It returns the state of the loop, and the key.
    ///
    /// # Panics
    /// Outside of a simulation. The process panics, and the run therefore fails, if `set_up` or
    /// [`Reactor::run`] returns an error.
    #[track_caller]
    #[expect(clippy::expect_used, reason = "documented: the run fails")]
    pub fn start(
        name: &str,
        set_up: impl FnOnce(&mut Reactor<S>) -> io::Result<(S, K)> + 'static,
    ) -> Self {
        let started = Rc::new(RefCell::new(None));
        let starts = Rc::clone(&started);
        let process = process(name, move || {
            let mut reactor = Reactor::new().expect("a loop");
            let (mut state, key) = set_up(&mut reactor).expect("the parts of the daemon");
            let remote = reactor.remote().expect("a remote of the loop");
            starts.replace(Some((remote, key)));
            reactor.run(&mut state).expect("a loop without an error");
            (state, reactor)
        });
        wait_until(|| started.borrow().is_some());
        let (remote, key) = started.take().expect("the process has started");
        Self {
            process,
            remote,
            key,
        }
    }

    /// Returns the key that `set_up` has returned.
    pub const fn key(&self) -> &K {
        &self.key
    }

    /// Returns a remote of the loop.
    pub const fn remote(&self) -> &Remote<S> {
        &self.remote
    }

    /// Calls `end` on the loop, and then blocks until the loop has ended, as [`join`](Self::join)
    /// does.
    ///
    /// `end` makes the loop end, for example by a stop of its server or by
    /// [`Registry::stop`](reactor::Registry::stop). If the loop has ended already, `end` is not
    /// called.
    ///
    /// # Panics
    /// Outside of a simulation, and if the simulation ends first.
    pub fn end(self, end: impl FnOnce(K, &mut Context<'_, S>) + Send + 'static) -> (S, Reactor<S>)
    where
        K: Send,
    {
        let Self {
            process,
            remote,
            key,
        } = self;
        let _ = remote.post(move |cx| end(key, cx)); // refused by a loop that has ended
        process.join()
    }

    /// Blocks until the loop has ended. Returns its state, and the loop itself for a check of what
    /// is left, for example by [`Registry::registrations`](reactor::Registry::registrations).
    ///
    /// # Panics
    /// Outside of a simulation, and if the simulation ends first.
    pub fn join(self) -> (S, Reactor<S>) {
        self.process.join()
    }

    /// Kills the process, as [`Handle::kill`] does.
    ///
    /// # Panics
    /// Outside of a simulation, and if called by a thread of the same process.
    pub fn kill(self) {
        self.process.kill();
    }

    /// Stops the process for `time`, as [`Handle::stop`] does.
    ///
    /// # Panics
    /// Outside of a simulation.
    pub fn stop(&self, time: Duration) {
        self.process.stop(time);
    }
}

impl<S, K> fmt::Debug for Daemon<S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Daemon").finish_non_exhaustive()
    }
}
