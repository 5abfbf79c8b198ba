//! Runs whole daemons of `reactor` and `handlers` in a simulation: on one thread, in virtual time,
//! from one seed.
//!
//! The code of the daemon stays as it is. Loops, timers, listeners, connections, UDP sockets,
//! queues, events and worker pools that are made within [`Simulation::run`] belong to the
//! simulation. Their network is in memory. Their time is virtual: when all threads wait, it jumps
//! to the next time at which something happens. Everything that the kernel or the network decides
//! is drawn from the seed: latencies, the sizes of packets and buffers, the order of events, the
//! order of threads, faults. The same seed leads to the same run, to the last callback.
//!
//! ```
//! use std::io::{Read, Write};
//!
//! use handlers::{ConnectionOptions, ListenOptions, on_data};
//! use simulation::{Daemon, Peer, Seeds};
//!
//! /// A client: plain code, since its calls block.
//! fn client() -> std::io::Result<()> {
//!     let mut peer = Peer::connect("127.0.0.1:7777".parse().expect("an address"))?;
//!     peer.write_all(b"hello")?;
//!     peer.shutdown_write()?;
//!     let mut answer = String::new();
//!     peer.read_to_string(&mut answer)?;
//!     assert_eq!(answer, "HELLO");
//!     Ok(())
//! }
//!
//! Seeds::new(0..20).check(|| {
//!     // The daemon answers in capitals, until it is stopped.
//!     let daemon = Daemon::start("daemon", |reactor| {
//!         let listener = ListenOptions::new().bind(&"127.0.0.1:7777".parse()?)?;
//!         listener.serve(reactor, &ConnectionOptions::new(), |_peer, _cx| {
//!             Ok(on_data(|data, connection, _cx| {
//!                 let _flow = connection.write(&data.to_ascii_uppercase())?;
//!                 Ok(data.len())
//!             }))
//!         })?;
//!         Ok(((), ()))
//!     });
//!     simulation::process("client", || client().expect("it is answered")).join();
//!     daemon.end(|(), cx| cx.registry.stop());
//! });
//! ```
//!
//! # Checks of a run
//! A run fails if one of these is true:
//!
//! - A thread panics, for example by an assertion of yours.
//! - Threads wait, and nothing will ever happen again: a wake was lost, or there is a deadlock.
//! - A loop spins: it has waited more than 200 times in a row without sleeping, and nothing has
//!   happened in between: no report, no call of a socket, no input of a layered stream, no
//!   [`note`].
//! - A socket with a file descriptor is still open when all threads have ended. The sockets of
//!   peers have no descriptor.
//! - The run takes longer than its [greatest time](Simulation::time_max), a day by default.
//! - The simulation has resumed threads more than 10 million times, and some threads have not
//!   ended.
//!
//! If a run fails, [`Seeds::check`] reports its seed and the end of its timeline. To run this seed
//! alone, set the environment variable `SIMULATION_SEED` to it.
//!
//! # Parts of the simulation
//! - **Sockets** that `handlers` makes, TCP, UDP and Unix, are simulated. The file descriptor of
//!   such a socket is real, but it is one end of a pipe. Calls on the descriptor must go through
//!   `handlers` or [`Io`](reactor::Io). A call that bypasses both, such as `TcpStream::peer_addr`,
//!   fails with `ENOTSOCK`. A type of your own that wraps a `TcpStream` and reads from it gets
//!   `ENOTSOCK` too, even within an `Io`.
//! - **Unix sockets** have the latencies and windows of TCP, but no reset, refusal or hang. A cut
//!   stream looks as it does with the kernel: after the bytes that were sent comes `ECONNRESET` if
//!   the closed socket had unread bytes, and otherwise an end. A path is an entry in a table of the
//!   simulation, without a file, a mode or a lock. Paths are compared byte by byte. Both ends
//!   of `UnixStream::pair` are real.
//! - **Names** are those of [`set_name`]. A lookup takes a [drawn time](Faults::lookup_time) on a
//!   thread of the resolver. Each simulated loop has a default resolver of its own. A port is known
//!   by its number only, not by the name of a service.
//! - **Options of sockets** do nothing, and setting one succeeds. The closures
//!   [`ConnectionOptions::prepare`](handlers::ConnectionOptions::prepare) and
//!   [`ListenOptions::prepare`](handlers::ListenOptions::prepare) are called with a real socket in
//!   the place of the simulated one: it is neither bound nor connected, and is closed when the
//!   closure returns. The error of such a closure has the usual effect.
//! - **Time** is simulated for the clocks of the loops and for [`now`]. A call on a socket takes at
//!   least 100 ns. `Instant::now` returns the real time.
//! - **Threads** that `reactor` and `handlers` start are simulated: the workers of a pool, the
//!   threads of a resolver, and [`LoopThread`](reactor::LoopThread). A worker begins a job after a
//!   drawn [time](Faults::job_time). `std::thread::spawn` starts a thread outside of the
//!   simulation.
//! - **Other descriptors** are real, for example pipes and socket pairs. Use them only if both ends
//!   are within the simulation, because the simulation does not wait for anything outside of it.
//! - **Signals**, child processes, files and the console are real.
//! - [`FdSet`](reactor::FdSet) and
//!   [`Registry::on_all_and_readable`](reactor::Registry::on_all_and_readable) wait for real
//!   descriptors only.
//!
//! A blocking call of the standard library, such as `Receiver::recv`, blocks the whole simulation.
//! Use [`wait_until`] instead.

mod daemon;
mod descriptors;
mod draw;
mod epoll;
mod faults;
mod names;
mod network;
mod peer;
mod peer_datagrams;
mod seeds;
mod simulation;
mod sockets;
mod threads;
mod trace;
mod world;

pub use crate::daemon::Daemon;
pub use crate::faults::Faults;
pub use crate::names::set_name;
pub use crate::peer::{Peer, PeerListener};
pub use crate::peer_datagrams::PeerDatagrams;
pub use crate::seeds::Seeds;
pub use crate::simulation::{
    Handle, Report, Simulation, compute, note, now, process, random, sleep, thread, wait_until,
};
