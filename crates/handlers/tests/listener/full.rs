//! Listeners at their limit that refuse clients in words, and listeners with an accept rate.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use handlers::{ConnectionLimit, ListenOptions, RateLimit, ServerKey, WhenFull};
use reactor::{ManualClock, Reactor};

use crate::{Result, Seen, client, expect_echo, run_out, serve, turn_until_quiet};

const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\r\n";
/// See `REFUSALS_MAX` and `REFUSAL_TIME` of the library.
const REFUSALS_MAX: usize = 64;
const REFUSAL_TIME: Duration = Duration::from_secs(5);

struct Full {
    reactor: Reactor<Seen>,
    seen: Seen,
    clock: ManualClock,
    address: SocketAddr,
    server: ServerKey<Seen>,
}

impl Full {
    fn new(options: ListenOptions) -> Result<Self> {
        let clock = ManualClock::new();
        let mut reactor = Reactor::builder().clock(clock.clone()).build()?;
        let (address, server) = serve(&mut reactor, options)?;
        Ok(Self {
            reactor,
            seen: Seen::default(),
            clock,
            address,
            server,
        })
    }

    /// Returns a listener that refuses all clients above a limit, with `answer`.
    fn refusing(limit: &ConnectionLimit, answer: &'static [u8]) -> Result<Self> {
        let options = ListenOptions::new().limit(limit.clone());
        Self::new(options.when_full(WhenFull::Refuse(answer.into())))
    }

    fn turn(&mut self) -> Result {
        turn_until_quiet(&mut self.reactor, &mut self.seen)
    }

    fn clients(&self, count: usize) -> Result<Vec<TcpStream>> {
        (0..count).map(|_| client(self.address)).collect()
    }
}

/// Returns everything that a client reads, up to the end of the stream.
fn read_all(client: &mut TcpStream) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns `true` if nothing has arrived at a client.
fn has_nothing(client: &mut TcpStream) -> Result<bool> {
    client.set_nonblocking(true)?;
    let read = client.read(&mut [0]);
    client.set_nonblocking(false)?;
    Ok(read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock))
}

#[test]
fn a_client_that_has_sent_its_request_reads_why_it_is_refused() -> Result {
    let mut full = Full::refusing(&ConnectionLimit::new(1), BUSY)?;
    let mut served = client(full.address)?;
    expect_echo(&mut full.reactor, &mut full.seen, &mut served)?;
    for _ in 0..3 {
        let mut refused = client(full.address)?;
        refused.write_all(&[b'x'; 100_000])?;
        full.turn()?;
        refused.write_all(b"more of the request")?;
        full.turn()?;
        assert_eq!(read_all(&mut refused)?, BUSY);
    }
    expect_echo(&mut full.reactor, &mut full.seen, &mut served)?;
    assert_eq!((full.seen.opened.len(), full.seen.closed.len()), (1, 0));
    Ok(())
}

#[test]
fn a_client_is_served_as_soon_as_the_limit_has_room_again() -> Result {
    let limit = ConnectionLimit::new(1);
    let mut full = Full::refusing(&limit, BUSY)?;
    let served = client(full.address)?;
    full.turn()?;
    let mut refused = client(full.address)?;
    full.turn()?;
    assert_eq!(read_all(&mut refused)?, BUSY);
    drop(served);
    full.turn()?;
    let mut next = client(full.address)?;
    expect_echo(&mut full.reactor, &mut full.seen, &mut next)?;
    Ok(())
}

#[test]
fn without_an_answer_a_refused_client_reads_the_end_of_the_stream() -> Result {
    let mut full = Full::refusing(&ConnectionLimit::new(0), b"")?;
    let mut refused = client(full.address)?;
    refused.write_all(b"request")?;
    full.turn()?;
    assert_eq!(read_all(&mut refused)?, b"");
    Ok(())
}

#[test]
fn at_most_64_clients_are_refused_at_once_and_the_others_wait() -> Result {
    let mut full = Full::refusing(&ConnectionLimit::new(0), BUSY)?;
    let mut clients = full.clients(REFUSALS_MAX + 2)?;
    full.turn()?;
    let mut last = clients.split_off(REFUSALS_MAX);
    for refused in &mut clients {
        assert_eq!(read_all(refused)?, BUSY);
    }
    for waiting in &mut last {
        assert!(has_nothing(waiting)?);
    }
    // Each client that closes makes room for one.
    for waiting in &mut last {
        drop(clients.pop());
        full.turn()?;
        assert_eq!(read_all(waiting)?, BUSY);
    }
    Ok(())
}

#[test]
fn a_listener_that_cannot_refuse_more_serves_when_there_is_room() -> Result {
    let limit = ConnectionLimit::new(0);
    let mut full = Full::refusing(&limit, BUSY)?;
    let _refused = full.clients(REFUSALS_MAX)?;
    let mut waiting = client(full.address)?;
    full.turn()?;
    assert!(has_nothing(&mut waiting)?);
    limit.set_max(1);
    expect_echo(&mut full.reactor, &mut full.seen, &mut waiting)?;
    Ok(())
}

#[test]
fn a_refused_client_that_never_closes_is_closed_after_5_seconds() -> Result {
    let mut full = Full::refusing(&ConnectionLimit::new(0), BUSY)?;
    let registrations = full.reactor.registrations().count();
    let mut refused = client(full.address)?;
    full.turn()?;
    assert_eq!(full.reactor.registrations().count(), registrations + 1);
    full.clock.advance(REFUSAL_TIME - Duration::from_nanos(1));
    full.turn()?;
    assert_eq!(full.reactor.registrations().count(), registrations + 1);
    full.clock.advance(Duration::from_nanos(1));
    full.turn()?;
    assert_eq!(full.reactor.registrations().count(), registrations);
    assert_eq!(read_all(&mut refused)?, BUSY);
    Ok(())
}

/// Law 3: what was accepted is finished or refused in words.
#[test]
fn a_stopping_listener_refuses_the_clients_in_its_queue() -> Result {
    let mut full = Full::refusing(&ConnectionLimit::new(1), BUSY)?;
    let served = client(full.address)?;
    full.turn()?;
    let mut queued = full.clients(3)?;
    full.server.stop(&mut full.reactor, REFUSAL_TIME);
    full.turn()?;
    for refused in &mut queued {
        assert_eq!(read_all(refused)?, BUSY);
        refused.shutdown(Shutdown::Write)?;
    }
    drop(served);
    run_out(&mut full.reactor, &mut full.seen)
}

#[test]
fn a_listener_accepts_as_many_clients_as_its_rate_allows() -> Result {
    let rate = RateLimit::new(10, 2);
    let mut full = Full::new(ListenOptions::new().accept_rate(rate.clone()))?;
    let _clients = full.clients(5)?;
    full.turn()?;
    assert_eq!(full.seen.opened.len(), 2);
    for open in 3..=5 {
        full.clock.advance(Duration::from_nanos(99_999_999));
        full.turn()?;
        assert_eq!(full.seen.opened.len(), open - 1);
        full.clock.advance(Duration::from_nanos(1));
        full.turn()?;
        assert_eq!(full.seen.opened.len(), open);
    }
    assert!(
        rate.try_take(1, full.reactor.now()).is_err(),
        "none is left"
    );
    Ok(())
}

#[test]
fn two_listeners_with_one_rate_share_it_and_limits_of_it_hold() -> Result {
    for (per_second, burst) in [(0, 0), (1, 1), (u64::MAX, u64::MAX)] {
        let rate = RateLimit::new(per_second, burst);
        let options = ListenOptions::new().accept_rate(rate);
        let mut full = Full::new(options.clone())?;
        let (address, _) = serve(&mut full.reactor, options)?;
        let _clients = [client(full.address)?, client(address)?];
        full.turn()?;
        let at_once = usize::try_from(burst.clamp(1, 2))?;
        assert_eq!(full.seen.opened.len(), at_once, "{per_second}, {burst}");
        full.clock.advance(Duration::from_secs(1));
        full.turn()?;
        assert_eq!(full.seen.opened.len(), 2, "{per_second}, {burst}");
    }
    Ok(())
}

#[test]
fn refused_clients_count_for_the_rate() -> Result {
    let limit = ConnectionLimit::new(0);
    let options = ListenOptions::new()
        .limit(limit)
        .when_full(WhenFull::Refuse(BUSY.into()))
        .accept_rate(RateLimit::new(1, 1));
    let mut full = Full::new(options)?;
    let mut clients = full.clients(2)?;
    full.turn()?;
    assert_eq!(read_all(&mut clients[0])?, BUSY);
    assert!(has_nothing(&mut clients[1])?);
    full.clock.advance(Duration::from_secs(1));
    full.turn()?;
    assert_eq!(read_all(&mut clients[1])?, BUSY);
    Ok(())
}

#[test]
fn a_stopping_listener_accepts_at_its_rate_within_its_grace() -> Result {
    let mut full = Full::new(ListenOptions::new().accept_rate(RateLimit::new(1, 1)))?;
    let _clients = full.clients(5)?;
    full.turn()?;
    full.server
        .stop(&mut full.reactor, Duration::from_millis(2500));
    for open in [1, 2, 3] {
        full.turn()?;
        assert_eq!(full.seen.opened.len(), open);
        assert!(full.reactor.contains(full.server.key()));
        full.clock.advance(Duration::from_secs(1));
    }
    full.turn()?;
    assert_eq!(full.seen.opened.len(), 3);
    assert!(!full.reactor.contains(full.server.key()));
    Ok(())
}
