//! Unix sockets in the simulation and those of the kernel: the same calls have the same outcomes.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use handlers::{
    Address, CloseReason, Connection, ConnectionHandler, ConnectionOptions, FdStream,
    ListenOptions, Listener, SocketStream, Timeout, on_data,
};
use reactor::{Context, Reactor, Then};
use rustix::io::Errno;
use simulation::{Daemon, Faults, Peer, Seeds, Simulation};

/// The calls of a client on its connection.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Reads until nothing is left, once more after that, and then writes.
    ReadThenWrite,
    /// Writes, and then reads until nothing is left, twice.
    WriteThenRead,
    ShutDownThenRead,
}

/// The behaviour of the server.
#[derive(Clone, Copy, Debug)]
enum Server {
    /// Writes 3 bytes, and closes. It has read everything.
    Ends,
    /// Writes 3 bytes, and closes with unread bytes.
    Cuts,
    /// Closes its listener without accepting.
    NeverAccepts,
}

/// Does `act`, and returns the outcome of each call.
fn outcomes<C: Read + Write>(
    mut client: C,
    act: Act,
    shutdown: impl Fn(&C) -> io::Result<()>,
) -> Vec<Result<usize, ErrorKind>> {
    let mut log = Vec::new();
    let read = |client: &mut C| client.read(&mut [0; 10]).map_err(|error| error.kind());
    match act {
        Act::ReadThenWrite => {
            log.extend((0..3).map(|_| read(&mut client)));
            log.extend((0..2).map(|_| client.write(b"late").map_err(|error| error.kind())));
        }
        Act::WriteThenRead => {
            log.push(client.write(b"late").map_err(|error| error.kind()));
            log.extend((0..3).map(|_| read(&mut client)));
        }
        Act::ShutDownThenRead => {
            log.push(shutdown(&client).map(|()| 0).map_err(|error| error.kind()));
            log.extend((0..3).map(|_| read(&mut client)));
        }
    }
    log
}

fn by_the_kernel(server: Server, act: Act) -> Vec<Result<usize, ErrorKind>> {
    let name = format!("simulation-unix-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let mut client = UnixStream::connect_addr(&address).unwrap();
    client.write_all(b"question").unwrap();
    if !matches!(server, Server::NeverAccepts) {
        let (mut stream, _) = listener.accept().unwrap();
        if matches!(server, Server::Ends) {
            stream.read_exact(&mut [0; 8]).unwrap();
        }
        stream.write_all(b"yes").unwrap();
    }
    drop(listener);
    outcomes(client, act, |client| client.shutdown(Shutdown::Write))
}

fn listen(address: &Address) -> Listener {
    ListenOptions::new().bind(address).unwrap()
}

/// Answers after a second, and closes at once.
struct Answer {
    cuts: bool,
}

impl ConnectionHandler<()> for Answer {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, ()>,
        cx: &mut Context<'_, ()>,
    ) -> io::Result<()> {
        if self.cuts {
            connection.pause_reading();
        }
        let key = connection.key();
        cx.registry.after(Duration::from_secs(1), move |cx| {
            key.with(cx, |connection, _cx| {
                let _flow = connection.write(b"yes").unwrap();
                let _flow = connection.flush();
                connection.close();
            })
            .unwrap();
            Ok(Then::Done)
        });
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        _connection: &mut Connection<'_, ()>,
        _cx: &mut Context<'_, ()>,
    ) -> io::Result<usize> {
        Ok(data.len())
    }
}

fn simulated(server: Server, act: Act, seed: u64) -> Vec<Result<usize, ErrorKind>> {
    let log = Rc::new(RefCell::new(Vec::new()));
    let logs = Rc::clone(&log);
    let report = Simulation::new(seed).faults(Faults::none()).run(move || {
        let address: Address = "unix:@name".parse().unwrap();
        let listener = listen(&address);
        let mut client = Peer::connect_to(&address).unwrap();
        client.write_all(b"question").unwrap();
        let daemon = if let Server::NeverAccepts = server {
            drop(listener);
            None
        } else {
            let cuts = matches!(server, Server::Cuts);
            Some(Daemon::start("daemon", move |reactor| {
                let options = ConnectionOptions::new();
                listener.serve(reactor, &options, move |_peer, _cx| Ok(Answer { cuts }))?;
                Ok(((), ()))
            }))
        };
        simulation::sleep(Duration::from_secs(10)); // all has arrived
        logs.replace(outcomes(client, act, Peer::shutdown_write));
        daemon.map(|daemon| daemon.end(|(), cx| cx.registry.stop()));
    });
    assert_eq!(report.outcome, Ok(()));
    log.take()
}

#[test]
fn an_end_and_a_cut_look_as_they_do_with_the_kernel() {
    for server in [Server::Ends, Server::Cuts, Server::NeverAccepts] {
        for act in [
            Act::ReadThenWrite,
            Act::WriteThenRead,
            Act::ShutDownThenRead,
        ] {
            let kernel = by_the_kernel(server, act);
            for seed in 0..5 {
                let simulated = simulated(server, act, seed);
                assert_eq!(simulated, kernel, "{server:?}, {act:?}");
            }
        }
    }
}

/// Returns the error of a connect, by the simulation and by the kernel.
fn refused(address: &Address) -> Option<i32> {
    handlers::errno(&Peer::connect_to(address).unwrap_err())
}

#[test]
fn a_name_is_taken_left_behind_and_replaced_as_with_the_kernel() {
    Seeds::new(0..20).check(|| {
        let [path, name]: [Address; 2] =
            ["unix:/run/nowhere/app", "unix:@app"].map(|text| text.parse().unwrap());
        let missing = [Errno::NOENT, Errno::CONNREFUSED].map(|errno| Some(errno.raw_os_error()));
        assert_eq!([refused(&path), refused(&name)], missing);
        let listeners = [listen(&path), listen(&name)];
        for address in [&path, &name] {
            let taken = ListenOptions::new().bind(address).unwrap_err();
            assert_eq!(taken.kind(), ErrorKind::AddrInUse);
            drop(Peer::connect_to(address).unwrap());
        }
        for (listener, address) in listeners.iter().zip([&path, &name]) {
            assert_eq!(&listener.local_addr().unwrap(), address);
        }
        drop(listeners);
        drop([listen(&path), listen(&name)]);
        assert_eq!([refused(&path), refused(&name)], missing);

        // A killed daemon leaves its path behind. The next one replaces it.
        let at = [path.clone(), name.clone()];
        let killed = Daemon::<Option<[Listener; 2]>, ()>::start("killed", move |reactor| {
            reactor.after(Duration::from_secs(9), |_cx| Ok(Then::Done));
            Ok((Some([listen(&at[0]), listen(&at[1])]), ()))
        });
        killed.kill();
        let stale = Some(Errno::CONNREFUSED.raw_os_error());
        assert_eq!([refused(&path), refused(&name)], [stale, stale]);
        drop([listen(&path), listen(&name)]);
        assert_eq!([refused(&path), refused(&name)], missing);
    });
}

#[test]
fn a_connect_waits_while_the_queue_is_full() {
    Seeds::new(0..20).check(|| {
        let address: Address = "unix:/run/app".parse().unwrap();
        let listener = ListenOptions::new().backlog(1).bind(&address).unwrap();
        let mut waiting: Vec<_> = (0..3)
            .map(|_| {
                let address = address.clone();
                simulation::process("client", move || Peer::connect_to(&address).unwrap())
            })
            .collect();
        simulation::sleep(Duration::from_secs(100));
        waiting.retain(|client| !client.is_over());
        assert_eq!(waiting.len(), 1, "two wait in the queue");
        let daemon = Daemon::start("daemon", |reactor| {
            let options = ConnectionOptions::new();
            listener.serve(reactor, &options, |_peer, _cx| {
                Ok(on_data(|data, _connection, _cx| Ok(data.len())))
            })?;
            Ok(((), ()))
        });
        waiting.into_iter().for_each(|client| drop(client.join()));
        daemon.end(|(), cx| cx.registry.stop());
    });
}

/// Notes what it has received, and how it was closed.
struct Client(Rc<RefCell<Vec<String>>>);

impl ConnectionHandler<()> for Client {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, ()>,
        _cx: &mut Context<'_, ()>,
    ) -> io::Result<()> {
        connection.write(b"hello").map(drop)
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, ()>,
        _cx: &mut Context<'_, ()>,
    ) -> io::Result<usize> {
        if data.len() < 5 {
            return Ok(0);
        }
        self.0.borrow_mut().push(data.escape_ascii().to_string());
        connection.close();
        Ok(data.len())
    }

    fn on_close(&mut self, reason: CloseReason, _cx: &mut Context<'_, ()>) {
        self.0.borrow_mut().push(reason.to_string());
    }
}

/// Connects to each of `addresses` from one loop. Returns what the clients have noted.
fn connect_all(addresses: &[Address], timeout: Duration) -> Vec<String> {
    let noted = Rc::new(RefCell::new(Vec::new()));
    let mut reactor = Reactor::new().unwrap();
    let options = ConnectionOptions::new().connect_timeout(timeout);
    for address in addresses {
        let client = Client(Rc::clone(&noted));
        Connection::connect_to(&mut reactor, address, &options, client);
    }
    reactor.run(&mut ()).unwrap();
    drop(reactor);
    noted.take()
}

#[test]
fn a_daemon_connects_to_unix_sockets() {
    Seeds::new(0..50).faults(Faults::slow()).check(|| {
        let addresses: [Address; 2] =
            ["unix:/run/app", "unix:@app"].map(|text| text.parse().unwrap());
        let listeners = addresses.each_ref().map(listen);
        let daemon = Daemon::start("daemon", |reactor| {
            for listener in listeners {
                listener.serve(reactor, &ConnectionOptions::new(), |_peer, _cx| {
                    Ok(on_data(|data, connection, _cx| {
                        connection.write(data).map(|_flow| data.len())
                    }))
                })?;
            }
            Ok(((), ()))
        });
        let noted = connect_all(&addresses, Duration::from_secs(60));
        let count = |text: &str| noted.iter().filter(|note| *note == text).count();
        let closed = CloseReason::Closed.to_string();
        assert_eq!((noted.len(), count("hello"), count(&closed)), (4, 2, 2));
        daemon.end(|(), cx| cx.registry.stop());
        let refused = connect_all(&addresses, Duration::from_secs(60));
        let errors = ["No such file", "Connection refused"];
        for (note, error) in refused.iter().zip(errors) {
            assert!(note.contains(error), "{refused:?}");
        }
    });
}

#[test]
fn a_daemon_waits_for_room_in_the_queue_until_its_timeout() {
    Seeds::new(0..50).check(|| {
        let address: Address = "unix:/run/app".parse().unwrap();
        let listener = ListenOptions::new().backlog(0).bind(&address).unwrap();
        let waiting = Peer::connect_to(&address).unwrap();
        let start = simulation::now();
        let noted = connect_all(std::slice::from_ref(&address), Duration::from_secs(9));
        let timed_out = CloseReason::TimedOut(Timeout::Connect).to_string();
        assert_eq!(noted, [timed_out]);
        assert!(simulation::now() - start >= Duration::from_secs(9));
        let serve = simulation::process("server", move || {
            simulation::sleep(Duration::from_secs(5)); // meanwhile the queue is full
            let mut reactor = Reactor::new().unwrap();
            let server = listener.serve(&mut reactor, &ConnectionOptions::new(), |_peer, _cx| {
                Ok(on_data(|data, connection, _cx| {
                    connection.write(data).map(|_flow| data.len())
                }))
            });
            server.unwrap();
            let stop = |cx: &mut Context<'_, ()>| {
                cx.registry.stop();
                Ok(Then::Done)
            };
            reactor.after(Duration::from_secs(60), stop);
            reactor.run(&mut ()).unwrap();
        });
        let noted = connect_all(&[address], Duration::from_secs(60));
        assert_eq!(noted, ["hello".to_owned(), CloseReason::Closed.to_string()]);
        drop(waiting);
        serve.join();
    });
}

/// Echoes, and notes what it learns of its peer and of a descriptor that it would send.
fn echo_over_fd_stream(listener: Listener, reactor: &mut Reactor<()>) -> io::Result<()> {
    let make = |stream: SocketStream| Ok(FdStream::new(stream.into_unix()?, 4));
    listener.serve_as(reactor, &ConnectionOptions::new(), make, |_peer, _cx| {
        Ok(on_data(|data, connection: &mut Connection<'_, ()>, _cx| {
            let peer = connection.peer_credentials()?;
            assert_eq!(peer.pid, Some(std::process::id()));
            assert!(connection.take_fd().is_none());
            let fd = std::fs::File::open("/dev/null")?.into();
            let refused = connection.write_with_fds(b"x", vec![fd]).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unsupported);
            connection
                .write_with_fds(data, Vec::new())
                .map(|_flow| data.len())
        }))
    })?;
    Ok(())
}

#[test]
fn a_simulated_stream_carries_bytes_without_descriptors() {
    Seeds::new(0..50).faults(Faults::slow()).check(|| {
        let address: Address = "unix:@fds".parse().unwrap();
        let listener = listen(&address);
        let daemon = Daemon::start("daemon", move |reactor| {
            echo_over_fd_stream(listener, reactor)?;
            Ok(((), ()))
        });
        let noted = connect_all(&[address], Duration::from_secs(60));
        assert_eq!(noted, ["hello".to_owned(), CloseReason::Closed.to_string()]);
        daemon.end(|(), cx| cx.registry.stop());
    });
}

/// Writes `bytes` until a write fails. Returns how many were taken, and how reading ends.
fn write_and_read(address: &Address, bytes: usize) -> (usize, io::Result<usize>) {
    let mut peer = Peer::connect_to(address).unwrap();
    let mut taken = 0;
    while taken < bytes
        && let Ok(count) = peer.write(&vec![b'x'; bytes - taken])
    {
        taken += count;
    }
    (taken, peer.read(&mut [0; 10]))
}

#[test]
fn a_peer_that_leaves_bytes_unread_never_ends_cleanly() {
    static TRIALS: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];
    let trial = move || {
        let address: Address = "unix:@cut".parse().unwrap();
        let (at, received) = (address.clone(), Rc::new(RefCell::new(0)));
        let receives = Rc::clone(&received);
        let (bytes, most) = (simulation::random(50_000), simulation::random(50_000));
        let daemon = Daemon::start("daemon", move |reactor| {
            let listener = listen(&at);
            listener.serve(reactor, &ConnectionOptions::new(), move |_peer, _cx| {
                let receives = Rc::clone(&receives);
                Ok(on_data(move |data, connection, _cx| {
                    *receives.borrow_mut() += data.len();
                    if *receives.borrow() as u64 >= most.min(bytes) {
                        connection.close();
                    }
                    Ok(data.len())
                }))
            })?;
            Ok(((), ()))
        });
        let (taken, end) = write_and_read(&address, 1 + bytes as usize);
        let is_cut = taken > *received.borrow();
        assert_eq!(
            end.is_err(),
            is_cut,
            "{taken} of {}: {end:?}",
            received.borrow()
        );
        TRIALS[usize::from(is_cut)].fetch_add(1, Ordering::Relaxed);
        daemon.end(|(), cx| cx.registry.stop());
    };
    Seeds::new(0..100).faults(Faults::slow()).check(trial);
    let were_both = TRIALS.iter().all(|count| count.load(Ordering::Relaxed) > 0);
    assert!(
        were_both || std::env::var_os("SIMULATION_SEED").is_some(),
        "{TRIALS:?}"
    );
}
