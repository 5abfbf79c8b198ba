//! The world of a simulation: the threads, their descriptors, the network, the time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use reactor::Kind;
use reactor::simulation::{Reports, System, ThreadNumber};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use crate::descriptors::Descriptors;
use crate::draw::nanos;
use crate::epoll::Epoll;
use crate::names::Names;
use crate::network::{Network, Socket, SocketId};
use crate::threads::{Body, Condition, Thread, is_unwinding, suspend};

/// The wall-clock time at which every simulation begins: 2026-01-01, 00:00 UTC.
const WALL_STARTED: Duration = Duration::from_secs(1_767_225_600);
/// The time that a system call takes, at least.
const CALL_NS: u64 = 100;
/// After so many waits in a row that do nothing, a loop spins.
const IDLE_WAITS_MAX: u32 = 200;

/// The number of a process.
pub(crate) type ProcessNumber = usize;

#[derive(Debug, Default)]
pub(crate) struct Process {
    /// No thread of a stopped process runs before this time.
    pub(crate) stopped_until: u64,
    /// The number of its stops. A wait that is stopped ends with `EINTR`, without reports, when the
    /// process goes on: signal(7).
    stops: u64,
    /// The calls of the process have no effect any more, and its threads are about to end.
    pub(crate) is_killed: bool,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) network: Network,
    pub(crate) names: Names,
    started: Instant,
    pub(crate) threads: Vec<Thread>,
    pub(crate) processes: Vec<Process>,
    pub(crate) current: ThreadNumber,
    /// Threads that were started and have not run yet.
    pub(crate) spawned: Vec<(ThreadNumber, Body)>,
    /// Whether a process was killed whose threads have not ended.
    pub(crate) has_killed: bool,
    /// Counts what has happened. A blocked thread looks again when something has.
    pub(crate) progress: u64,
    epolls: BTreeMap<u64, Epoll>,
    next_epoll: u64,
    descriptors: Descriptors,
    pub(crate) failure: Option<String>,
}

/// One simulated machine. All of it is on one thread.
#[derive(Debug)]
pub(crate) struct World {
    state: RefCell<State>,
}

impl World {
    pub(crate) fn new(network: Network) -> io::Result<Rc<Self>> {
        Ok(Rc::new(Self {
            state: RefCell::new(State {
                network,
                names: Names::default(),
                started: Instant::now(),
                threads: Vec::new(),
                processes: Vec::new(),
                current: 0,
                spawned: Vec::new(),
                has_killed: false,
                progress: 0,
                epolls: BTreeMap::new(),
                next_epoll: 0,
                descriptors: Descriptors::new()?,
                failure: None,
            }),
        }))
    }

    /// Borrows the state. No code of a user runs meanwhile, and no thread is suspended.
    pub(crate) fn with<R>(&self, access: impl FnOnce(&mut State) -> R) -> R {
        access(&mut self.state.borrow_mut())
    }

    /// Does a system call of the present thread: time passes, the thread may lose the processor.
    pub(crate) fn call<R>(&self, call: impl FnOnce(&mut State) -> R) -> R {
        if !is_unwinding() && self.with(State::draw_pause) {
            suspend();
        }
        self.with(|state| {
            state.progress += 1;
            state.pass(CALL_NS);
            call(state)
        })
    }

    pub(crate) fn on_socket<R>(
        &self,
        fd: RawFd,
        what: &str,
        call: impl FnOnce(&mut Network, SocketId) -> Result<R, Errno>,
    ) -> io::Result<R> {
        self.call(|state| {
            let socket = state.descriptors.socket(fd).ok_or(Errno::BADF)?;
            if state.is_killed() {
                return Err(Errno::BADF.into());
            }
            state.forget_idle_waits();
            let called = call(&mut state.network, socket);
            let errno = called
                .as_ref()
                .err()
                .map_or(0, |errno| -errno.raw_os_error());
            state.record(what, socket, i64::from(errno));
            state.spread_changes();
            Ok(called?)
        })
    }

    /// Does a system call of a peer, on a socket without a descriptor.
    pub(crate) fn peer_call<R>(&self, call: impl FnOnce(&mut Network) -> R) -> R {
        self.with(|state| {
            state.pass(CALL_NS);
            let called = call(&mut state.network);
            state.progress += 1;
            state.spread_changes();
            called
        })
    }

    /// Makes a descriptor for a new socket.
    pub(crate) fn descriptor(&self, socket: SocketId) -> io::Result<OwnedFd> {
        self.with(|state| {
            state.settle(); // its number may be that of one that was just closed
            state.descriptors.open(socket)
        })
    }
}

impl State {
    /// Lets `time` pass, and lets everything happen that is due by then.
    pub(crate) fn pass(&mut self, time: u64) {
        self.network.now += time;
        if self.network.run_due() {
            self.progress += 1;
        }
        self.spread_changes();
    }

    /// Closes the sockets whose descriptors are closed, and lets everything happen whose time has
    /// come. One system call.
    pub(crate) fn settle(&mut self) {
        for socket in self.descriptors.take_closed() {
            self.epolls
                .values_mut()
                .for_each(|epoll| epoll.forget(socket));
            self.network.close(socket);
            self.progress += 1;
        }
        self.pass(0);
    }

    fn spread_changes(&mut self) {
        for socket in self.network.take_changed() {
            self.epolls
                .values_mut()
                .for_each(|epoll| epoll.change(socket));
        }
    }

    /// Returns `true` if the present thread belongs to a process that was killed.
    pub(crate) fn is_killed(&self) -> bool {
        let thread = self.threads.get(self.current as usize);
        thread.is_some_and(|thread| self.processes[thread.process].is_killed)
    }

    /// Draws whether the present thread loses the processor now. If so, sets when it goes on.
    fn draw_pause(&mut self) -> bool {
        let network = &mut self.network;
        let Some(thread) = self.threads.get_mut(self.current as usize) else {
            return false;
        };
        if network.draw.once_in(network.faults.stops) {
            let time = network.draw.duration(&network.faults.stop_time.clone());
            thread.condition = Condition::Ready {
                at: network.now + nanos(time),
            };
            let process = thread.process;
            self.stop_process(process, time);
            return true;
        }
        if network.draw.once_in(network.faults.preemptions) {
            let at = network.now + network.draw.below(10_000_000);
            thread.condition = Condition::Ready { at };
            return true;
        }
        false
    }

    /// Stops a process for `time`, as `SIGSTOP` and `SIGCONT` do.
    pub(crate) fn stop_process(&mut self, number: ProcessNumber, time: Duration) {
        let process = &mut self.processes[number];
        process.stopped_until = self.network.now.saturating_add(nanos(time));
        process.stops += 1;
        self.progress += 1; // its waits end when it goes on
        self.record("stopped", number as u64, nanos(time) as i64);
    }

    /// Returns how often the process of the present thread was stopped.
    fn stops(&self) -> u64 {
        let thread = self.threads.get(self.current as usize);
        thread.map_or(0, |thread| self.processes[thread.process].stops)
    }

    /// Draws whether the process of the present thread is stopped while the thread waits.
    fn draw_stop_while_waiting(&mut self) {
        let network = &mut self.network;
        if network.draw.once_in(network.faults.stops)
            && let Some(thread) = self.threads.get(self.current as usize)
        {
            let time = network.draw.duration(&network.faults.stop_time.clone());
            self.stop_process(thread.process, time);
        }
    }

    pub(crate) fn record(&mut self, what: &str, object: u64, number: i64) {
        let name = self.threads.get(self.current as usize);
        let name = name.map_or("", |thread| &thread.name);
        self.network.record(name, what, object, number);
    }

    /// Returns the nanoseconds of a time since the start of the simulation.
    pub(crate) fn nanos_at(&self, time: Instant) -> u64 {
        nanos(time.saturating_duration_since(self.started))
    }

    pub(crate) fn now(&self) -> Instant {
        self.started + Duration::from_nanos(self.network.now)
    }

    /// Returns the socket that a descriptor names.
    pub(crate) fn socket(&self, fd: RawFd) -> Option<SocketId> {
        self.descriptors.socket(fd)
    }

    pub(crate) fn epoll_has_reports(&self, epoll: u64) -> bool {
        self.epolls.get(&epoll).is_some_and(Epoll::has_reports)
    }

    /// Returns how many sockets have a descriptor.
    pub(crate) fn open_sockets(&mut self) -> usize {
        self.settle();
        self.descriptors.len()
    }

    /// Sets the condition under which the present thread goes on. The caller then suspends the
    /// thread.
    pub(crate) fn set_condition(&mut self, condition: Condition) {
        let current = self.current as usize;
        if let Some(thread) = self.threads.get_mut(current) {
            thread.condition = condition;
        }
    }

    /// Adds a thread to the process of the present one, or to `process`.
    pub(crate) fn add_thread(
        &mut self,
        name: &str,
        process: Option<ProcessNumber>,
        body: Body,
    ) -> ThreadNumber {
        let number = self.threads.len() as ThreadNumber;
        let parent = self.threads.get(self.current as usize);
        let process = process.or(parent.map(|thread| thread.process)).unwrap_or(0);
        let at = self.network.now + self.network.draw.below(50_000);
        self.threads.push(Thread {
            name: Rc::from(name),
            process,
            condition: Condition::Ready { at },
        });
        self.spawned.push((number, body));
        self.record("spawn", number, 0);
        number
    }
}

impl System for World {
    fn now(&self) -> Instant {
        self.with(|state| {
            // Time passes, so that a thread that waits by looking at the clock comes to its end.
            state.network.now += 30;
            state.now()
        })
    }

    fn wall(&self) -> SystemTime {
        self.with(|state| {
            SystemTime::UNIX_EPOCH + WALL_STARTED + Duration::from_nanos(state.network.now)
        })
    }

    fn owns(&self, fd: RawFd) -> bool {
        self.with(|state| {
            // The number of a closed descriptor may be that of a file by now.
            state.settle();
            state.descriptors.socket(fd).is_some()
        })
    }

    fn open_epoll(&self) -> u64 {
        self.with(|state| {
            let number = state.next_epoll;
            state.next_epoll += 1;
            state.epolls.insert(number, Epoll::default());
            number
        })
    }

    fn close_epoll(&self, epoll: u64) {
        self.with(|state| drop(state.epolls.remove(&epoll)));
    }

    fn watch(&self, epoll: u64, fd: RawFd, flags: u32, token: u64) -> io::Result<()> {
        self.with(|state| {
            let socket = state.descriptors.socket(fd).ok_or(Errno::BADF)?;
            let epoll = state.epolls.get_mut(&epoll).ok_or(Errno::BADF)?;
            Ok(epoll.watch(fd, socket, flags, token, &mut state.network)?)
        })
    }

    fn rewatch(&self, epoll: u64, fd: RawFd, flags: u32, token: u64) -> io::Result<()> {
        self.with(|state| {
            let epoll = state.epolls.get_mut(&epoll).ok_or(Errno::BADF)?;
            Ok(epoll.rewatch(fd, flags, token, &mut state.network)?)
        })
    }

    fn unwatch(&self, epoll: u64, fd: RawFd) -> io::Result<()> {
        self.with(|state| {
            let epoll = state.epolls.get_mut(&epoll).ok_or(Errno::BADF)?;
            Ok(epoll.unwatch(fd)?)
        })
    }

    fn wait(
        &self,
        epoll: u64,
        deadline: Option<Instant>,
        reports: &mut Reports<'_>,
    ) -> io::Result<()> {
        let deadline = self.with(|state| deadline.map(|deadline| state.nanos_at(deadline)));
        self.call(|state| state.expect_no_spin(epoll));
        let mut has_slept = false;
        loop {
            self.with(|state| {
                state.settle();
                if let Some(epoll) = state.epolls.get_mut(&epoll) {
                    epoll.report(&mut state.network, reports);
                }
            });
            reports.collect_real()?;
            let is_over = self.with(|state| {
                let is_over = deadline.is_some_and(|deadline| deadline <= state.network.now);
                if !reports.is_empty() {
                    state.record("reports", epoll, reports.len() as i64);
                }
                if (has_slept || !reports.is_empty())
                    && let Some(epoll) = state.epolls.get_mut(&epoll)
                {
                    epoll.idle_waits = 0;
                }
                is_over || state.failure.is_some()
            });
            if is_over || !reports.is_empty() || is_unwinding() {
                return Ok(());
            }
            let is_interrupted = self.with(|state| {
                let network = &mut state.network;
                let is_interrupted = !has_slept && network.draw.once_in(network.faults.interrupts);
                let seen = state.progress;
                state.set_condition(Condition::Waiting {
                    epoll,
                    deadline,
                    seen,
                });
                is_interrupted
            });
            if is_interrupted {
                return Err(Errno::INTR.into());
            }
            let stops = self.with(|state| {
                let stops = state.stops();
                if !has_slept {
                    state.draw_stop_while_waiting();
                }
                stops
            });
            suspend();
            has_slept = true;
            if self.with(|state| state.stops() != stops) && !is_unwinding() {
                return Err(Errno::INTR.into());
            }
        }
    }

    fn wake(&self, epoll: u64, token: u64) {
        self.with(|state| {
            state.progress += 1;
            state.record("wake", epoll, 0);
            if let Some(epoll) = state.epolls.get_mut(&epoll) {
                epoll.wake(token);
            }
        });
    }

    fn readiness(&self, fd: RawFd, flags: u32) -> u32 {
        self.with(|state| {
            state.settle();
            let socket = state.descriptors.socket(fd);
            let ready = socket.map(|socket| state.network.readiness(socket));
            let asked = EventFlags::from_bits_retain(flags) | EventFlags::ERR | EventFlags::HUP;
            (ready.unwrap_or(EventFlags::empty()) & asked).bits()
        })
    }

    fn kind(&self, fd: RawFd) -> Kind {
        self.with(|state| {
            let socket = state.descriptors.socket(fd);
            match socket.and_then(|socket| state.network.sockets.get(&socket)) {
                Some(Socket::Listener(_)) => Kind::Listener,
                Some(Socket::Stream(_)) => Kind::Stream,
                Some(Socket::Datagrams(_)) => Kind::Datagram,
                None => Kind::Unknown,
            }
        })
    }

    fn is_unnamed(&self, fd: RawFd) -> bool {
        self.with(|state| {
            let socket = state.descriptors.socket(fd);
            socket.is_none_or(|socket| !state.network.sockets.contains_key(&socket))
        })
    }

    fn read(&self, fd: RawFd, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.on_socket(fd, "read", |network, socket| {
            network.read_stream(socket, bufs)
        })
    }

    fn write(&self, fd: RawFd, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.on_socket(fd, "write", |network, socket| {
            network.write_stream(socket, bufs)
        })
    }

    fn spawn(&self, name: &str, body: Box<dyn FnOnce()>) -> io::Result<ThreadNumber> {
        Ok(self.with(|state| {
            state.progress += 1;
            state.add_thread(name, None, Body(body))
        }))
    }

    fn begin_job(&self) {
        if is_unwinding() {
            return;
        }
        self.with(|state| {
            let network = &mut state.network;
            let time = network.draw.duration(&network.faults.job_time.clone());
            let at = network.now + nanos(time);
            state.progress += 1;
            state.set_condition(Condition::Ready { at });
        });
        suspend();
    }

    fn thread(&self) -> ThreadNumber {
        self.with(|state| state.current)
    }

    fn block(&self, deadline: Option<Instant>, again: bool) -> bool {
        if is_unwinding() {
            return false; // the thread is being ended
        }
        self.with(|state| {
            let deadline = deadline.map(|deadline| state.nanos_at(deadline));
            if !again {
                state.progress += 1;
            }
            let seen = state.progress;
            state.set_condition(Condition::Blocked { deadline, seen });
        });
        suspend();
        self.with(|state| deadline.is_none_or(|deadline| state.now() < deadline))
    }
}

impl State {
    /// Something has happened: the waits so far were no spin.
    pub(crate) fn forget_idle_waits(&mut self) {
        self.epolls
            .values_mut()
            .for_each(|epoll| epoll.idle_waits = 0);
    }

    /// Counts a wait that begins. A loop that waits without doing anything spins.
    fn expect_no_spin(&mut self, epoll: u64) {
        let Some(waited) = self.epolls.get_mut(&epoll) else {
            return;
        };
        waited.idle_waits += 1;
        if waited.idle_waits > IDLE_WAITS_MAX && self.failure.is_none() {
            let name = self.threads.get(self.current as usize);
            let name = name.map_or("", |thread| &thread.name);
            self.failure = Some(format!(
                "thread {name:?} spins: {IDLE_WAITS_MAX} waits of its loop did not sleep, and \
                 nothing happened between them"
            ));
        }
    }
}
