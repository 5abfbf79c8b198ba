//! Servers with more load than they serve: requests that never end, clients beyond the limit.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use handlers::{
    Connection, ConnectionHandler, ConnectionLimit, ConnectionOptions, ListenOptions, WhenFull,
};
use reactor::Context;
use simulation::Peer;

use crate::laws::Book;
use crate::trial::{Daemon, SLACK, World, listen, stop_server};

const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\r\n";

fn address() -> SocketAddr {
    ([127, 0, 0, 1], 7071).into()
}

/// Starts a server whose requests have this deadline, and never end.
fn start(book: &Book, listens: ListenOptions, deadline: Duration) -> Daemon {
    Daemon::start("server", book, move |registry| {
        let listener = listen(&listens, address());
        let server = listener.serve(registry, &ConnectionOptions::new(), move |_peer, _cx| {
            Ok(Endless { deadline })
        });
        ((), stop_server(server.unwrap()))
    })
}

/// Waits for the rest of a request from its first byte.
struct Endless {
    deadline: Duration,
}

impl<S> ConnectionHandler<S> for Endless {
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, S>,
        _cx: &mut Context<'_, S>,
    ) -> io::Result<usize> {
        if !connection.has_deadline() {
            connection.set_deadline(self.deadline);
        }
        Ok(data.len())
    }
}

fn stop(daemon: Daemon, book: &Book) {
    daemon.stop(Duration::from_secs(1));
    daemon.join();
    book.check(false);
}

#[test]
fn a_request_that_drips_is_cut_at_its_deadline_and_not_before() {
    World::Calm.seeds(200).check(|| {
        let book = Book::default();
        let micros = simulation::random(10_000_000);
        let deadline = Duration::from_millis(100) + Duration::from_micros(micros);
        let daemon = start(&book, ListenOptions::new(), deadline);
        let mut peer = Peer::connect(address()).unwrap();
        peer.write_all(b"x").unwrap();
        let first = simulation::now();
        let mut late = Duration::ZERO;
        while simulation::now() + 2 * SLACK < first + deadline {
            if simulation::random(5) == 0 {
                let time = Duration::from_micros(simulation::random(2 * micros + 1));
                daemon.stand_still(time);
                late = late.max(simulation::now() - first + time);
            }
            let left = first + deadline - simulation::now();
            let pause = simulation::random(left.as_micros() as u64);
            simulation::sleep(Duration::from_micros(pause).min(left.saturating_sub(SLACK)));
            let sent = peer.write_all(b"x");
            book.expect(sent.is_ok(), || format!("{sent:?} before its deadline"));
        }
        let ended = peer.read_to_end(&mut Vec::new());
        book.expect(ended.is_ok(), || format!("{ended:?} instead of an end"));
        let took = simulation::now() - first;
        let most = late + deadline + SLACK; // the server may see the first byte late
        book.expect(deadline <= took && took <= most, || {
            format!("it ended after {took:?}, not {deadline:?}")
        });
        drop(peer);
        stop(daemon, &book);
    });
}

#[test]
fn clients_of_a_full_server_read_why_they_are_refused() {
    World::Calm.seeds(200).check(|| {
        let book = Book::default();
        let listens = ListenOptions::new()
            .limit(ConnectionLimit::new(0))
            .when_full(WhenFull::Refuse(BUSY.into()));
        let daemon = start(&book, listens, Duration::MAX);
        for _ in 0..1 + simulation::random(4) {
            let mut peer = Peer::connect(address()).unwrap();
            let request = vec![b'x'; simulation::random(1 << simulation::random(18)) as usize];
            let sent = peer.write_all(&request);
            book.expect(sent.is_ok(), || format!("{sent:?} of a request"));
            let mut answer = Vec::new();
            let ended = peer.read_to_end(&mut answer);
            book.expect(ended.is_ok() && answer == BUSY, || {
                format!("{ended:?}, {answer:?}")
            });
        }
        stop(daemon, &book);
    });
}
