//! A trial: a daemon, several clients, and what happens to the daemon meanwhile.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use handlers::{Address, ListenOptions, Listener, ServerKey};
use reactor::{Reactor, Registry, Remote};
use simulation::{Faults, Handle, Seeds};

use crate::laws::Book;
use crate::peers::{End, Habit, Promise, Script, Told, talk};
use crate::streams::Stream;

/// The network and the machine of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum World {
    /// Fast, without faults: times are exact.
    Calm,
    /// Nothing is lost, nothing is on time.
    Slow,
    /// Everything goes wrong now and then.
    Faulty,
}

impl World {
    pub(crate) fn seeds(self, count: u64) -> Seeds {
        self.seeds_from(0..count)
    }

    pub(crate) fn seeds_from(self, seeds: Range<u64>) -> Seeds {
        let faults = match self {
            Self::Calm => Faults::none(),
            Self::Slow => Faults::slow(),
            Self::Faulty => Faults::all(),
        };
        Seeds::new(seeds)
            .faults(faults)
            .time_max(Duration::from_secs(30 * 24 * 3600))
    }
}

/// Makes a test of a closure for each world, which returns what one seed does.
macro_rules! in_every_world {
    ($name:ident, $seeds:expr, $trial:expr) => {
        mod $name {
            use super::*;

            fn check(world: World) {
                world.seeds($seeds).check(move || $trial(world));
            }

            #[test]
            fn when_all_is_well() {
                check(World::Calm);
            }

            #[test]
            fn when_all_is_slow() {
                check(World::Slow);
            }

            #[test]
            fn when_all_goes_wrong() {
                check(World::Faulty);
            }
        }
    };
}
pub(crate) use in_every_world;

/// Makes tests of a closure for each world and each stream, which returns what one seed does.
macro_rules! over_every_stream {
    ($name:ident, $seeds:expr, $trial:expr) => {
        mod $name {
            use super::*;
            use crate::streams::Stream;

            crate::trial::in_every_world!(over_tcp, $seeds, |world| $trial(world, Stream::Bare));
            crate::trial::in_every_world!(over_tls, $seeds, |world| $trial(world, Stream::Tls));
        }
    };
}
pub(crate) use over_every_stream;

/// The time by which a calm world is late.
pub(crate) const SLACK: Duration = Duration::from_millis(5);
/// The grace of a stop that is long enough for every answer.
const LONG_GRACE: Duration = Duration::from_secs(3600);

/// The fate of a daemon.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It is stopped when its clients have ended.
    Lives,
    /// It is stopped gracefully.
    Stops {
        after: Duration,
        grace: Duration,
    },
    /// It stands still for a while, as by `SIGSTOP`.
    StandsStill {
        after: Duration,
        time: Duration,
    },
    Dies {
        after: Duration,
    },
}

impl Fate {
    fn draw() -> Self {
        let millis = |end| Duration::from_millis(simulation::random(end));
        // Before, during and after the connects of the clients.
        let after = match simulation::random(3) {
            0 => Duration::from_micros(simulation::random(3000)),
            1 => millis(200),
            _ => millis(30_000),
        };
        match simulation::random(8) {
            0 | 1 => Self::Lives,
            2..=4 => {
                let grace = match simulation::random(3) {
                    0 => Duration::ZERO,
                    1 => millis(5000),
                    _ => LONG_GRACE,
                };
                Self::Stops { after, grace }
            }
            5 | 6 => Self::StandsStill {
                after,
                time: millis(100_000),
            },
            _ => Self::Dies { after },
        }
    }
}

/// A closure that stops a running daemon gracefully.
type Stop = Rc<dyn Fn(Duration)>;

/// Stops a loop gracefully through its remote.
pub(crate) type StopBy<S> = Box<dyn Fn(&Remote<S>, Duration)>;

/// A daemon in a process of its own.
pub(crate) struct Daemon {
    process: Handle<()>,
    stop: Stop,
}

/// Runs a loop until nothing is left, and checks that. `set_up` returns how the daemon is stopped.
fn run<S: 'static>(
    book: &Book,
    ready: &RefCell<Option<Stop>>,
    set_up: impl FnOnce(&mut Registry<S>) -> (S, StopBy<S>),
) {
    let mut reactor = Reactor::<S>::new().expect("a loop");
    let (mut state, stop) = set_up(&mut reactor);
    let remote = reactor.remote().expect("a remote");
    ready.replace(Some(Rc::new(move |grace| stop(&remote, grace))));
    let ended = reactor.run(&mut state);
    book.expect(ended.is_ok(), || format!("run returned {ended:?}"));
    book.expect_nothing_left(&reactor);
}

impl Daemon {
    /// Starts a daemon. `set_up` registers its parts and returns its state, and how it is stopped.
    pub(crate) fn start<S: 'static>(
        name: &str,
        book: &Book,
        set_up: impl FnOnce(&mut Registry<S>) -> (S, StopBy<S>) + 'static,
    ) -> Self {
        let ready = Rc::new(RefCell::new(None));
        let (book, is_ready) = (book.clone(), Rc::clone(&ready));
        let process = simulation::process(name, move || {
            run(&book, &is_ready, set_up);
        });
        simulation::wait_until(|| ready.borrow().is_some());
        let stop = ready.take().expect("it is ready");
        Self { process, stop }
    }

    /// Stops the daemon gracefully.
    pub(crate) fn stop(&self, grace: Duration) {
        (self.stop)(grace);
    }

    /// Stops the process for `time`, as `SIGSTOP` and `SIGCONT` do.
    pub(crate) fn stand_still(&self, time: Duration) {
        self.process.stop(time);
    }

    /// Kills the process, as `SIGKILL` does.
    pub(crate) fn kill(self) {
        self.process.kill();
    }

    pub(crate) fn join(self) {
        self.process.join();
    }
}

/// Returns a closure that stops a server through its loop.
pub(crate) fn stop_server<S: 'static>(server: ServerKey<S>) -> StopBy<S> {
    Box::new(move |remote, grace| {
        // A loop that has ended needs no stop.
        let _ = remote.post(move |cx| server.stop(cx.registry, grace));
    })
}

/// Opens a listener. Tries again when the simulation is out of descriptors.
pub(crate) fn listen(options: &ListenOptions, address: SocketAddr) -> Listener {
    patiently(|| options.clone().bind(&Address::Tcp(address)))
}

/// Calls `attempt` until it succeeds.
pub(crate) fn patiently<R>(mut attempt: impl FnMut() -> io::Result<R>) -> R {
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(error) => simulation::note(&format!("{:?}", error.kind())),
        }
        simulation::sleep(Duration::from_millis(1));
    }
}

/// Draws a time up to 34 s. Short times are about as likely as long ones.
pub(crate) fn draw_time() -> Duration {
    Duration::from_micros(simulation::random(1 << simulation::random(26)))
}

/// Properties of a daemon that its trial assumes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Assumptions {
    pub(crate) world: World,
    pub(crate) stream: Stream,
    /// The daemon answers what has arrived before a stop, if the grace is long enough. With a limit
    /// on its connections it may have no room in time.
    pub(crate) answers_at_stop: bool,
    /// The longest time that the daemon computes in one callback.
    pub(crate) computes: Duration,
}

impl Assumptions {
    /// Returns `true` if nothing ends a connection but its client.
    fn is_unharmed(&self, fate: Fate) -> bool {
        let fails = matches!(fate, Fate::Stops { .. } | Fate::Dies { .. });
        // The time of a handshake passes while the daemon stands still.
        let stands_still = self.world != World::Calm || matches!(fate, Fate::StandsStill { .. });
        let times_out = self.stream == Stream::Tls && stands_still;
        !fails && !times_out && self.world != World::Faulty
    }
}

/// Plays some clients against a daemon at `address`, while its fate comes about. Checks the laws.
pub(crate) fn try_out(
    daemon: Daemon,
    address: SocketAddr,
    book: &Book,
    script: impl Fn() -> Script,
    assumed: Assumptions,
) {
    let fate = Fate::draw();
    simulation::note(&format!("{fate:?}"));
    let clients: Vec<_> = (0..1 + simulation::random(5))
        .map(|number| {
            let (script, book) = (script(), book.clone());
            let delay = Duration::from_micros(simulation::random(30_000));
            simulation::process(&format!("client {number}"), move || {
                simulation::sleep(delay);
                let told = talk(assumed.stream, address, Habit::draw(), &script, &book);
                simulation::note(&format!("{:?}: {:?}", told.habit, told.end));
                (script, told)
            })
        })
        .collect();
    let mut stopped: Option<(Instant, Duration)> = None;
    let was_killed = matches!(fate, Fate::Dies { .. });
    let process = match fate {
        Fate::Lives => Some(daemon),
        Fate::Stops { after, grace } => {
            simulation::sleep(after);
            stopped = Some((simulation::now(), grace));
            daemon.stop(grace);
            Some(daemon)
        }
        Fate::StandsStill { after, time } => {
            simulation::sleep(after);
            daemon.stand_still(time);
            Some(daemon)
        }
        Fate::Dies { after } => {
            simulation::sleep(after);
            daemon.kill();
            None
        }
    };
    // A stop is over after its grace, whatever the clients do.
    if let (Some((at, grace)), World::Calm) = (stopped, assumed.world) {
        let bound = grace + assumed.computes + SLACK;
        let ended_at = Rc::new(RefCell::new(None));
        let (ended, daemon) = (Rc::clone(&ended_at), process.expect("it was stopped"));
        let watcher = simulation::thread("watcher", move || {
            daemon.join();
            ended.replace(Some(simulation::now()));
        });
        finish(clients, book, assumed, stopped, fate);
        watcher.join();
        let took = ended_at.take().expect("it has ended") - at;
        book.expect(took <= bound, || {
            format!("the stop took {took:?} with a grace of {grace:?}")
        });
    } else {
        finish(clients, book, assumed, stopped, fate);
        if let Some(daemon) = process {
            if stopped.is_none() {
                daemon.stop(Duration::from_secs(1));
            }
            daemon.join();
        }
    }
    book.check(was_killed);
}

/// Waits for the clients, and checks what they got.
fn finish(
    clients: Vec<Handle<(Script, Told)>>,
    book: &Book,
    assumed: Assumptions,
    stopped: Option<(Instant, Duration)>,
    fate: Fate,
) {
    let was_killed = matches!(fate, Fate::Dies { .. });
    let answered_until = stopped.filter(|(_, grace)| {
        *grace >= LONG_GRACE && assumed.world == World::Calm && assumed.answers_at_stop
    });
    for client in clients {
        let (script, told) = client.join();
        let promise = Promise {
            is_unharmed: assumed.is_unharmed(fate),
            was_killed,
            answered_until: answered_until.map(|(at, _)| at - SLACK),
        };
        told.check(&script, promise, book);
        if script.is_stream
            && let (End::Clean, Some(local)) = (&told.end, told.local)
            && !was_killed
            && book.knows(local)
        {
            // A server that sends back what it is given has sent all of it before a clean end.
            let given = book.given(local).len();
            book.expect(told.received.len() == given, || {
                format!(
                    "{local}: {} bytes of {given} that the server had",
                    told.received.len()
                )
            });
        }
    }
}
