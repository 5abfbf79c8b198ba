//! `Async<TcpStream>` on several loops, against a server by callbacks.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use handlers::futures::{self, Async};
use handlers::{ConnectionOptions, ListenOptions, on_data};
use reactor::{Reactor, Remote};
use simulation::{Daemon, Faults, Handle, Seeds, process, random, sleep};

const LOOPS: u64 = 3;

fn address() -> SocketAddr {
    ([127, 0, 0, 1], 7777).into()
}

/// A server that sends back what it is given.
fn server() -> Daemon<(), ()> {
    Daemon::start("server", |reactor| {
        let listener = loop {
            match ListenOptions::new().bind(&address().into()) {
                Ok(listener) => break listener,
                Err(error) => simulation::note(&format!("{:?}", error.kind())),
            }
        };
        listener.serve(reactor, &ConnectionOptions::new(), |_accepted, _cx| {
            Ok(on_data(|data, connection, _cx| {
                let _flow = connection.write(data)?;
                Ok(data.len())
            }))
        })?;
        Ok(((), ()))
    })
}

/// Connects. Abandons attempts that take too long, and tries again.
async fn connect() -> io::Result<Async<TcpStream>> {
    loop {
        let patience = Duration::from_micros(random(2_000_000));
        match futures::timeout(patience, Async::<TcpStream>::connect(address())).await {
            Ok(connected) => return connected,
            Err(_elapsed) => futures::yield_now().await,
        }
    }
}

async fn pause() {
    match random(4) {
        0 => futures::sleep(Duration::from_micros(random(50_000))).await,
        1 => futures::yield_now().await,
        _ => {}
    }
}

/// Writes all bytes in pieces, and ends the stream.
async fn write(stream: &Async<TcpStream>, bytes: &[u8]) -> io::Result<()> {
    let mut stream = stream;
    for piece in bytes.chunks(1 + random(5000) as usize) {
        stream.write_all(piece).await?;
        pause().await;
    }
    stream.close().await
}

/// Reads `until` bytes, or up to the end. Each byte is that which was sent.
async fn read(stream: &Async<TcpStream>, sent: &[u8], until: usize) -> io::Result<usize> {
    let (mut stream, mut received) = (stream, 0);
    let mut buf = vec![0; 1 + random(5000) as usize];
    while received < until {
        let room = buf.len().min(until - received);
        let count = stream.read(&mut buf[..room]).await?;
        if count == 0 {
            break;
        }
        assert_eq!(buf[..count], sent[received..received + count]);
        received += count;
        pause().await;
    }
    Ok(received)
}

/// Sends bytes, and reads them again, by two tasks. In between the stream may move to another loop.
async fn exchange(other: Remote<Sum>) -> io::Result<usize> {
    let sent: Rc<[u8]> = (0..random(20_000)).map(|_| random(256) as u8).collect();
    let stream = Rc::new(connect().await?);
    let (writing, bytes) = (Rc::clone(&stream), Rc::clone(&sent));
    let writer = futures::spawn_local(async move { write(&writing, &bytes).await });
    let part = random(sent.len() as u64 + 1) as usize;
    let mut received = read(&stream, &sent, part).await?;
    writer.await??;
    if random(2) == 0 {
        received += read(&stream, &sent[received..], usize::MAX).await?;
        assert_eq!(received, sent.len(), "an end before the last byte");
        leave(Rc::into_inner(stream).unwrap());
    } else {
        let stream = Rc::into_inner(stream).unwrap().into_inner().await;
        move_on(stream, sent[received..].to_vec(), &other);
    }
    Ok(received)
}

/// Drops a stream here or on another thread.
fn leave(stream: Async<TcpStream>) {
    match random(2) {
        0 => drop(stream),
        _ => drop(simulation::thread("drops", move || drop(stream))),
    }
}

/// Reads the rest on another loop.
fn move_on(stream: TcpStream, rest: Vec<u8>, other: &Remote<Sum>) {
    let moved = other.post(move |cx| {
        let finishing = async move {
            let stream = Async::new(stream)?;
            let received = read(&stream, &rest, usize::MAX).await?;
            assert_eq!(received, rest.len(), "an end before the last byte");
            leave(stream);
            Ok(received)
        };
        let spawned = futures::spawn(cx.registry, finishing, |received, cx| {
            cx.state.add(received);
        });
        spawned.unwrap();
    });
    moved.unwrap(); // it is kept alive
}

/// The number of tasks that have received everything, and of those that have failed.
#[derive(Default)]
struct Sum {
    ended: usize,
    failed: usize,
}

impl Sum {
    fn add(&mut self, received: io::Result<usize>) {
        match received {
            Ok(_) => self.ended += 1,
            Err(error) => {
                simulation::note(&format!("{:?}", error.kind()));
                self.failed += 1;
            }
        }
    }
}

/// Starts a loop, with tasks that are spawned once there is the remote of another loop.
fn client(number: u64, remotes: &Rc<Remotes>) -> Handle<Sum> {
    let remotes = Rc::clone(remotes);
    process(&format!("client {number}"), move || {
        let mut reactor = Reactor::<Sum>::new().unwrap();
        let alive = reactor.remote().unwrap().keep_alive();
        remotes.put(number, reactor.remote().unwrap());
        let other = remotes.take((number + 1) % LOOPS);
        for _ in 0..1 + random(3) {
            let other = other.clone();
            let working = async move { exchange(other).await };
            let spawned = futures::spawn(&mut reactor, working, |received, cx| {
                cx.state.add(received);
            });
            spawned.unwrap();
        }
        let done = Rc::clone(&remotes);
        let waits = async move {
            while !done.is_over.get() {
                futures::sleep(Duration::from_secs(100)).await;
            }
            drop(alive);
        };
        futures::spawn(&mut reactor, waits, |(), _cx| ()).unwrap();
        let mut sum = Sum::default();
        reactor.run(&mut sum).unwrap();
        assert_eq!(reactor.timers().count(), 0);
        assert!(
            reactor.registrations().all(|it| it.fd < 0),
            "a source is left"
        );
        sum
    })
}

/// The remotes of all loops.
#[derive(Default)]
struct Remotes {
    slots: [Cell<Option<Remote<Sum>>>; LOOPS as usize],
    is_over: Cell<bool>,
}

impl Remotes {
    fn put(&self, number: u64, remote: Remote<Sum>) {
        self.slots[number as usize].set(Some(remote));
    }

    /// Waits for the remote of a loop, and takes it.
    fn take(&self, number: u64) -> Remote<Sum> {
        let slot = &self.slots[number as usize];
        let mut taken = None;
        simulation::wait_until(|| {
            taken = slot.take();
            taken.is_some()
        });
        taken.unwrap()
    }
}

fn exchanges(is_unharmed: bool) {
    let server = server();
    let remotes = Rc::<Remotes>::default();
    let clients: Vec<_> = (0..LOOPS).map(|number| client(number, &remotes)).collect();
    sleep(Duration::from_secs(3600));
    remotes.is_over.set(true);
    for client in clients {
        let Sum { ended, failed } = client.join();
        assert!(
            !is_unharmed || failed == 0,
            "{failed} failed, {ended} did not"
        );
    }
    server.end(|(), cx| cx.registry.stop());
}

#[test]
fn tasks_of_several_loops_exchange_bytes_by_async_sources() {
    Seeds::new(0..100)
        .faults(Faults::none())
        .check(|| exchanges(true));
    Seeds::new(0..100).check(|| exchanges(true));
    Seeds::new(0..100)
        .faults(Faults::all())
        .check(|| exchanges(false));
}
