//! Timeouts at exact times, also for a daemon that stands still meanwhile.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use handlers::{Connection, ConnectionHandler, ConnectionOptions, ListenOptions, RateLimit};
use reactor::Context;
use simulation::Peer;

use crate::laws::Book;
use crate::trial::{Daemon, SLACK, World, listen, stop_server};

/// Sends many bytes when it opens, and then reads.
struct Sends {
    bytes: usize,
}

impl<S> ConnectionHandler<S> for Sends {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, S>,
        _cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        connection.read_while_full();
        connection.write(&vec![7; self.bytes]).map(drop)
    }

    fn on_data(
        &mut self,
        data: &[u8],
        _connection: &mut Connection<'_, S>,
        _cx: &mut Context<'_, S>,
    ) -> io::Result<usize> {
        Ok(data.len())
    }
}

fn address() -> SocketAddr {
    ([127, 0, 0, 1], 7070).into()
}

/// Starts a server with these options, which sends `bytes` to each client.
fn start(book: &Book, options: ConnectionOptions, bytes: usize, timeout: Duration) -> Daemon {
    let watched = book.clone();
    Daemon::start("server", book, move |registry| {
        let listener = listen(&ListenOptions::new(), address());
        let server = listener.serve(registry, &options, move |peer, _cx| {
            Ok(watched.watch(peer, Sends { bytes }).with_timeout(timeout))
        });
        ((), stop_server(server.unwrap()))
    })
}

/// Waits for the end of a connection. Returns its time, and the error if there is one.
fn end(peer: &mut Peer) -> (Instant, Option<ErrorKind>) {
    let mut rest = Vec::new();
    let ended = peer.read_to_end(&mut rest);
    (simulation::now(), ended.err().map(|error| error.kind()))
}

fn drawn(longest: Duration) -> Duration {
    Duration::from_micros(simulation::random(longest.as_micros() as u64))
}

/// A client sends now and then, always in time. It is cut when it sends no more, and not before,
/// although the server stands still for long.
#[test]
fn idle_and_read_timeouts_expire_on_time_and_never_while_bytes_wait() {
    World::Calm.seeds(200).check(|| {
        let book = Book::default();
        let timeout = Duration::from_millis(100) + drawn(Duration::from_secs(100));
        let options = match simulation::random(3) {
            0 => ConnectionOptions::new().idle_timeout(timeout),
            1 => ConnectionOptions::new().read_timeout(timeout),
            _ => ConnectionOptions::new()
                .read_timeout(timeout)
                .idle_timeout(timeout),
        };
        let daemon = start(&book, options, 0, timeout);
        let mut peer = Peer::connect(address()).unwrap();
        let local = peer.local_addr().unwrap();
        let mut stands_still_until = simulation::now();
        let mut last = simulation::now();
        for _ in 0..simulation::random(30) {
            if simulation::random(5) == 0 {
                let time = drawn(3 * timeout);
                daemon.stand_still(time);
                stands_still_until = stands_still_until.max(simulation::now() + time);
            }
            simulation::sleep(drawn(timeout - 2 * SLACK));
            book.sends(local, &[1]);
            last = simulation::now();
            let sent = peer.write_all(&[1]);
            book.expect(sent.is_ok(), || format!("{sent:?} while it sends in time"));
        }
        let (ended, error) = end(&mut peer);
        book.expect(error.is_none(), || format!("{error:?} instead of an end"));
        let (least, most) = (
            last + timeout,
            stands_still_until.max(last) + timeout + SLACK,
        );
        book.expect(least <= ended && ended <= most, || {
            format!(
                "it ended {:?} after its last byte, not {timeout:?}",
                ended - last
            )
        });
        book.shuts_down(local);
        drop(peer);
        daemon.stop(Duration::from_secs(1));
        daemon.join();
        book.check(false);
    });
}

/// The peer takes a few bytes, and then none. It is cut by a reset.
#[test]
fn write_timeouts_count_from_the_last_byte_that_the_peer_takes() {
    World::Calm.seeds(200).check(|| {
        let book = Book::default();
        let timeout = Duration::from_millis(100) + drawn(Duration::from_secs(100));
        let options = ConnectionOptions::new().write_timeout(timeout);
        let daemon = start(&book, options, 4 << 20, timeout);
        let mut peer = Peer::connect(address()).unwrap();
        let mut bytes = vec![0; 300_000]; // more than a buffer holds, so that the server goes on
        for _ in 0..simulation::random(4) {
            simulation::sleep(drawn(timeout - 2 * SLACK));
            let read = peer.read_exact(&mut bytes);
            book.expect(read.is_ok(), || format!("{read:?} while it reads in time"));
        }
        simulation::sleep(timeout - SLACK);
        book.expect(book.open() == 1, || "cut early".to_owned());
        simulation::sleep(2 * SLACK);
        book.expect(book.open() == 0, || {
            format!("not cut {timeout:?} after its last byte")
        });
        let (_, error) = end(&mut peer);
        book.expect(error == Some(ErrorKind::ConnectionReset), || {
            format!("{error:?} instead of a reset")
        });
        drop(peer);
        daemon.stop(Duration::ZERO);
        daemon.join();
        book.check(false);
    });
}

#[test]
fn a_rate_is_neither_exceeded_nor_missed() {
    World::Calm.seeds(100).check(|| {
        let book = Book::default();
        let rate = 1000 + simulation::random(1_000_000);
        let burst = 1 + simulation::random(rate);
        let bytes = simulation::random(500_000);
        let limit = RateLimit::new(rate, burst);
        let options = match simulation::random(2) {
            0 => ConnectionOptions::new().write_rate(limit),
            _ => ConnectionOptions::new().shared_write_rate(limit),
        };
        let timeout = Duration::from_secs(1);
        let options = options.write_timeout(timeout); // it does not run while the rate holds back
        let daemon = start(&book, options, bytes as usize, timeout);
        let began = simulation::now();
        let mut peer = Peer::connect(address()).unwrap();
        let read = peer.read_exact(&mut vec![0; bytes as usize]);
        let took = (simulation::now() - began).as_secs_f64();
        book.expect(read.is_ok(), || format!("{read:?}"));
        let least = bytes.saturating_sub(burst) as f64 / rate as f64;
        // It may look a tenth of a second too late.
        book.expect(least <= took + 0.001 && took <= least + 0.2, || {
            format!("{bytes} bytes at {rate} with {burst} took {took} s, not {least} s")
        });
        book.shuts_down(peer.local_addr().unwrap());
        drop(peer);
        daemon.stop(Duration::from_secs(1));
        daemon.join();
        book.check(false);
    });
}
