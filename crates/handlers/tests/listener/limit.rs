//! Limits of connections across listeners, loops and threads.

use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use handlers::{Accepted, ConnectionLimit, ConnectionOptions, ListenOptions};
use reactor::{Interest, LoopPool, Reactor};

use crate::{
    Echo, PATIENCE, Result, Seen, any_port, client, serve, tcp, turn_until, turn_until_quiet,
};

/// Lets the oldest connection end.
fn end_first(reactor: &mut Reactor<Seen>, seen: &mut Seen) -> Result {
    reactor.remove(seen.opened.remove(0).key())?;
    turn_until_quiet(reactor, seen)
}

#[test]
fn at_the_limit_a_listener_pauses_until_a_connection_has_ended() -> Result {
    let limit = ConnectionLimit::new(2);
    let mut reactor = Reactor::new()?;
    let (address, _key) = serve(&mut reactor, ListenOptions::new().limit(limit.clone()))?;
    let _clients = (0..4)
        .map(|_| client(address))
        .collect::<Result<Vec<_>>>()?;
    let mut seen = Seen::default();
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert_eq!((seen.opened.len(), limit.open()), (2, 2));
    let calls = reactor.metrics().calls;
    let _another = client(address)?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert_eq!(
        reactor.metrics().calls,
        calls,
        "a connect meanwhile costs no call"
    );
    for _ in 0..3 {
        end_first(&mut reactor, &mut seen)?;
        assert_eq!((seen.opened.len(), limit.open()), (2, 2), "one for one");
    }
    end_first(&mut reactor, &mut seen)?;
    assert_eq!((seen.opened.len(), limit.open()), (1, 1));
    Ok(())
}

#[test]
fn a_changed_limit_holds_for_new_clients_and_for_waiting_ones() -> Result {
    let limit = ConnectionLimit::new(1);
    let mut reactor = Reactor::new()?;
    let (address, _key) = serve(&mut reactor, ListenOptions::new().limit(limit.clone()))?;
    let _clients = (0..5)
        .map(|_| client(address))
        .collect::<Result<Vec<_>>>()?;
    let mut seen = Seen::default();
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert_eq!(limit.open(), 1);
    limit.set_max(4);
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert_eq!(
        (seen.opened.len(), limit.open()),
        (4, 4),
        "three waiting clients are accepted"
    );
    limit.set_max(2);
    assert_eq!(limit.open(), 4, "no connection is closed");
    for open in [3, 2] {
        end_first(&mut reactor, &mut seen)?;
        assert_eq!(
            (seen.opened.len(), limit.open()),
            (open, open),
            "no client is accepted"
        );
    }
    end_first(&mut reactor, &mut seen)?;
    assert_eq!((seen.opened.len(), limit.open()), (2, 2), "the last one");
    Ok(())
}

#[test]
fn a_freed_place_does_not_end_a_pause_set_through_the_key() -> Result {
    let limit = ConnectionLimit::new(1);
    let mut reactor = Reactor::new()?;
    let (address, server) = serve(&mut reactor, ListenOptions::new().limit(limit.clone()))?;
    let _clients = [client(address)?, client(address)?];
    let mut seen = Seen::default();
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert_eq!(limit.open(), 1, "it rests");
    reactor.set_interest(server.key(), Interest::NONE)?;
    end_first(&mut reactor, &mut seen)?;
    assert_eq!(limit.open(), 0, "it is still paused");
    reactor.set_interest(server.key(), Interest::READABLE)?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert_eq!((seen.opened.len(), limit.open()), (1, 1));
    // Resuming the listener at its limit does not override the limit.
    let _third = client(address)?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    reactor.set_interest(server.key(), Interest::READABLE)?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert_eq!(limit.open(), 1);
    end_first(&mut reactor, &mut seen)?;
    assert_eq!((seen.opened.len(), limit.open()), (1, 1));
    Ok(())
}

#[test]
fn a_limit_of_zero_accepts_no_client() -> Result {
    let mut reactor = Reactor::new()?;
    let (address, _key) = serve(
        &mut reactor,
        ListenOptions::new().limit(ConnectionLimit::new(0)),
    )?;
    let _client = client(address)?;
    let mut seen = Seen::default();
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert!(seen.opened.is_empty());
    Ok(())
}

#[test]
fn listeners_that_wait_for_one_place_all_get_their_turn() -> Result {
    let limit = ConnectionLimit::new(1);
    let mut reactor = Reactor::new()?;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let (address, _key) = serve(&mut reactor, ListenOptions::new().limit(limit.clone()))?;
        clients.push(client(address)?);
    }
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.opened.len() == 1)?;
    for _ in 0..2 {
        turn_until_quiet(&mut reactor, &mut seen)?;
        assert_eq!((seen.opened.len(), limit.open()), (1, 1));
        end_first(&mut reactor, &mut seen)?;
    }
    assert_eq!(seen.closed.len(), 2);
    assert_eq!((seen.opened.len(), limit.open()), (1, 1), "the third is in");
    Ok(())
}

#[test]
fn a_listener_removed_while_it_waits_does_not_take_a_place_from_another() -> Result {
    let limit = ConnectionLimit::new(1);
    let mut reactor = Reactor::new()?;
    let options = || ListenOptions::new().limit(limit.clone());
    let (busy, _key) = serve(&mut reactor, options())?;
    let _first = client(busy)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.opened.len() == 1)?;
    let (removed, key) = serve(&mut reactor, options())?;
    let (waits, _key) = serve(&mut reactor, options())?;
    let _clients = [client(removed)?, client(waits)?];
    turn_until_quiet(&mut reactor, &mut seen)?;
    reactor.remove(key.key())?;
    end_first(&mut reactor, &mut seen)?;
    assert_eq!((seen.opened.len(), limit.open()), (1, 1));
    Ok(())
}

#[test]
fn a_listener_that_is_removed_while_it_waits_leaves_nothing_behind() -> Result {
    let limit = ConnectionLimit::new(1);
    let _held = limit.try_acquire();
    let mut reactor = Reactor::new()?;
    let mut seen = Seen::default();
    for _ in 0..3 {
        let (address, key) = serve(&mut reactor, ListenOptions::new().limit(limit.clone()))?;
        let _client = client(address)?;
        turn_until_quiet(&mut reactor, &mut seen)?;
        reactor.remove(key.key())?;
        turn_until_quiet(&mut reactor, &mut seen)?;
        assert!(reactor.is_empty(), "{reactor:?}");
    }
    crate::run_out(&mut reactor, &mut seen)
}

#[test]
fn a_listener_for_which_the_loop_has_no_room_leaves_nothing_behind() -> Result {
    for (registrations, limit) in [(0, None), (0, Some(1)), (1, Some(1))] {
        let mut reactor = Reactor::builder()
            .max_registrations(registrations)
            .build()?;
        let options = ListenOptions::new().limit(limit.map(ConnectionLimit::new));
        assert!(serve(&mut reactor, options).is_err());
        assert!(reactor.is_empty(), "{reactor:?}");
    }
    Ok(())
}

#[test]
fn a_place_freed_by_another_thread_ends_the_pause_at_the_limit() -> Result {
    let limit = ConnectionLimit::new(1);
    let mut reactor = Reactor::<Vec<Accepted>>::new()?;
    let listener = ListenOptions::new()
        .limit(limit.clone())
        .bind(&any_port())?;
    let address = tcp(&listener)?;
    listener.accept(&mut reactor, |accepted, cx| {
        cx.state.push(accepted);
        Ok(())
    })?;
    let _clients = [client(address)?, client(address)?];
    let mut accepted = Vec::new();
    turn_until_quiet(&mut reactor, &mut accepted)?;
    assert_eq!(accepted.len(), 1);
    let elsewhere = thread::spawn(move || drop(accepted));
    let mut accepted = Vec::new();
    turn_until(&mut reactor, &mut accepted, |accepted| accepted.len() == 1)?;
    elsewhere.join().expect("it does not panic");
    assert_eq!(limit.open(), 1);
    Ok(())
}

/// Connects, waits for an echo, and closes, `times` times.
fn visit(address: SocketAddr, times: usize) -> std::io::Result<()> {
    use std::io::{Read, Write};
    for _ in 0..times {
        let mut client = TcpStream::connect_timeout(&address, PATIENCE)?;
        client.set_read_timeout(Some(PATIENCE))?;
        client.write_all(b"x")?;
        client.read_exact(&mut [0])?;
    }
    Ok(())
}

#[test]
fn loops_on_several_threads_share_a_limit_and_none_is_forgotten() -> Result {
    let limit = ConnectionLimit::new(1);
    let (told, addresses) = channel();
    let shared = limit.clone();
    let pool = LoopPool::spawn(2, "limited", move |_number, registry| {
        let listener = ListenOptions::new()
            .limit(shared.clone())
            .bind(&any_port())?;
        told.send(listener.local_addr()?).expect("the test waits");
        listener.serve(registry, &ConnectionOptions::new(), |_peer, _cx| Ok(Echo))?;
        Ok(Seen::default())
    })?;
    let mut clients = Vec::new();
    for address in addresses.iter().take(pool.len()) {
        let handlers::Address::Tcp(address) = address else {
            return Err("no TCP".into());
        };
        clients.extend([(); 2].map(|()| thread::spawn(move || visit(address, 200))));
    }
    for client in clients {
        client.join().expect("it does not panic")?;
    }
    let began = Instant::now();
    while limit.open() > 0 {
        assert!(began.elapsed() < PATIENCE);
        thread::yield_now();
    }
    let opened = pool
        .stop()?
        .iter()
        .map(|seen| seen.opened.len())
        .sum::<usize>();
    assert_eq!(opened, 800);
    Ok(())
}

#[test]
fn a_listener_in_the_background_keeps_no_loop_alive_for_its_limit() -> Result {
    let mut reactor = Reactor::new()?;
    let (_address, key) = serve(
        &mut reactor,
        ListenOptions::new().limit(ConnectionLimit::new(1)),
    )?;
    reactor.set_background(key.key())?;
    crate::run_out(&mut reactor, &mut Seen::default())
}

#[test]
fn a_limit_returns_the_number_of_open_connections() {
    let limit = ConnectionLimit::new(2);
    let permits = [limit.try_acquire(), limit.try_acquire()];
    assert!(permits.iter().all(Option::is_some) && limit.try_acquire().is_none());
    assert_eq!(limit.open(), 2);
    drop(permits);
    assert_eq!(limit.open(), 0);
}
