//! Servers of futures: their stop, their limits.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use handlers::futures::{sleep, spawn_local, wait_event};
use handlers::{
    Address, ConnectionLimit, ConnectionOptions, ListenOptions, Listener, Peer, ServerKey,
};
use reactor::{Event, ManualClock, Reactor};
use support::{PATIENCE, Result, run_out, turn_until_quiet};

use crate::{RESET, reactor, read_all};

const GRACE: Duration = Duration::from_secs(5);

pub(crate) fn listen(options: ListenOptions) -> Result<(Listener, SocketAddr)> {
    let listener = options.bind(&"127.0.0.1:0".parse()?)?;
    let Address::Tcp(address) = listener.local_addr()? else {
        return Err("an address of TCP".into());
    };
    Ok((listener, address))
}

pub(crate) fn client(address: SocketAddr) -> Result<TcpStream> {
    let client = TcpStream::connect(address)?;
    client.set_read_timeout(Some(PATIENCE))?;
    Ok(client)
}

/// Serves requests of one byte each, which take a second. Ends at a stop, between two requests.
fn serve_slow(registry: &mut reactor::Registry<()>, listener: Listener) -> Result<ServerKey<()>> {
    let options = ConnectionOptions::new();
    Ok(listener.serve_async(
        registry,
        &options,
        |mut stream, _connection, _cx| async move {
            let stopping = stream.stopping();
            loop {
                let request = async { stream.read_exact(&mut [0]).await.map(|()| true) };
                let stop = async {
                    stopping.clone().await;
                    Ok(false)
                };
                if !futures_lite::future::or(request, stop).await? {
                    return Ok(());
                }
                sleep(Duration::from_secs(1)).await;
                stream.write_all(b"!").await?;
            }
        },
    )?)
}

#[test]
fn a_stop_finishes_what_was_asked_and_ends_what_is_idle() -> Result {
    let clock = ManualClock::new();
    let mut reactor: Reactor<()> = Reactor::builder().clock(clock.clone()).build()?;
    let (listener, address) = listen(ListenOptions::new())?;
    let server = serve_slow(&mut reactor, listener)?;
    let (mut idle, mut busy) = (client(address)?, client(address)?);
    busy.write_all(b"?")?;
    turn_until_quiet(&mut reactor, &mut ())?;
    server.stop(&mut reactor, GRACE);
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(idle.read(&mut [0])?, 0);
    clock.advance(Duration::from_secs(1));
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(read_all(&busy), (b"!".to_vec(), None));
    drop((idle, busy));
    run_out(&mut reactor, &mut ())?;
    Ok(())
}

#[test]
fn a_future_that_ignores_the_stop_is_reset_after_the_grace() -> Result {
    let mut reactor: Reactor<()> = Reactor::builder().clock(ManualClock::jumping()).build()?;
    let (listener, address) = listen(ListenOptions::new())?;
    let options = ConnectionOptions::new();
    let server = listener.serve_async(&mut reactor, &options, |mut stream, _, _cx| async move {
        stream.read_to_end(&mut Vec::new()).await.map(|_| ())
    })?;
    let client = client(address)?;
    let began = reactor.now();
    for _ in 0..10 {
        reactor.turn(&mut (), Some(Duration::ZERO))?;
    }
    server.stop(&mut reactor, GRACE);
    reactor.run(&mut ())?;
    assert_eq!(reactor.now() - began, GRACE);
    assert_eq!(read_all(&client), (Vec::new(), RESET));
    Ok(())
}

#[test]
fn a_connection_counts_for_the_limit_until_it_has_ended() -> Result {
    let mut reactor = reactor()?;
    let (listener, address) = listen(ListenOptions::new().limit(ConnectionLimit::new(1)))?;
    let open = Rc::new(Cell::new(0));
    let options = ConnectionOptions::new();
    let counted = open.clone();
    listener.serve_async(&mut reactor, &options, move |mut stream, _, _cx| {
        let counted = counted.clone();
        async move {
            counted.set(counted.get() + 1);
            stream.read_to_end(&mut Vec::new()).await.map(|_| ())
        }
    })?;
    let clients = [client(address)?, client(address)?];
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(open.get(), 1);
    clients[0].shutdown(Shutdown::Write)?;
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(open.get(), 2);
    Ok(())
}

#[test]
fn a_future_knows_its_client_and_the_closure_its_connection() -> Result {
    let mut reactor: Reactor<Vec<SocketAddr>> = Reactor::new()?;
    let (listener, address) = listen(ListenOptions::new())?;
    let options = ConnectionOptions::new();
    listener.serve_async(&mut reactor, &options, |mut stream, connection, cx| {
        cx.state.push(connection.peer_addr().unwrap());
        async move {
            let Some(Peer::Tcp(peer)) = stream.peer() else {
                panic!("{stream:?}")
            };
            stream.write_all(peer.to_string().as_bytes()).await
        }
    })?;
    let client = client(address)?;
    let mut peers = Vec::new();
    turn_until_quiet(&mut reactor, &mut peers)?;
    assert_eq!(peers, [client.local_addr()?]);
    let (text, error) = read_all(&client);
    assert_eq!(
        (String::from_utf8(text)?, error),
        (client.local_addr()?.to_string(), None)
    );
    Ok(())
}

#[test]
fn all_that_has_come_before_a_stop_is_offered_first() -> Result {
    const LENGTH: usize = 50_000;
    let mut reactor = reactor()?;
    let (listener, address) = listen(ListenOptions::new())?;
    let options = ConnectionOptions::new().max_bytes_per_turn(1000);
    let server = listener.serve_async(&mut reactor, &options, |mut stream, _, _cx| async move {
        let stopping = stream.stopping();
        let (mut total, mut buf) = (0, [0; 5000]);
        loop {
            let stopped = async {
                stopping.clone().await;
                Ok(0)
            };
            match futures_lite::future::or(stream.read(&mut buf), stopped).await? {
                0 => return stream.write_all(total.to_string().as_bytes()).await,
                read => total += read,
            }
        }
    })?;
    let mut client = client(address)?;
    turn_until_quiet(&mut reactor, &mut ())?;
    client.write_all(&[7; LENGTH])?;
    server.stop(&mut reactor, GRACE);
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(read_all(&client), (LENGTH.to_string().into_bytes(), None));
    drop(client);
    run_out(&mut reactor, &mut ())?;
    Ok(())
}

#[test]
fn a_future_that_hangs_does_not_hold_up_a_loop_that_stops() -> Result {
    let mut reactor: Reactor<()> = Reactor::builder().clock(ManualClock::jumping()).build()?;
    let (listener, address) = listen(ListenOptions::new())?;
    let options = ConnectionOptions::new();
    let server = listener.serve_async(&mut reactor, &options, |stream, _, _cx| async move {
        sleep(100 * GRACE).await;
        drop(stream);
        Ok(())
    })?;
    let client = client(address)?;
    for _ in 0..10 {
        reactor.turn(&mut (), Some(Duration::ZERO))?;
    }
    let began = reactor.now();
    server.stop(&mut reactor, GRACE);
    reactor.run(&mut ())?;
    assert_eq!(reactor.now() - began, GRACE);
    assert_eq!(read_all(&client), (Vec::new(), RESET));
    Ok(())
}

/// Clients that come and go must not start futures without a limit.
#[test]
fn a_future_that_outlives_its_connection_counts_for_the_limit() -> Result {
    for is_moved in [false, true] {
        let mut reactor = reactor()?;
        let limit = ConnectionLimit::new(1);
        let (listener, address) = listen(ListenOptions::new().limit(limit.clone()))?;
        let (begun, event) = (Rc::new(Cell::new(0)), Event::auto_reset());
        let (counted, waited) = (begun.clone(), event.clone());
        let options = ConnectionOptions::new();
        let server = listener.serve_async(&mut reactor, &options, move |stream, _, _cx| {
            let (counted, waited) = (counted.clone(), waited.clone());
            async move {
                counted.set(counted.get() + 1);
                let work = async move {
                    let waited = wait_event(&waited).await;
                    drop(stream);
                    waited.map(drop).map_err(Into::into)
                };
                if is_moved {
                    drop(spawn_local(work));
                    return Ok(());
                }
                work.await
            }
        })?;
        let (first, _second) = (client(address)?, client(address)?);
        turn_until_quiet(&mut reactor, &mut ())?;
        assert_eq!((begun.get(), limit.open()), (1, 1));
        support::reset(first)?;
        turn_until_quiet(&mut reactor, &mut ())?;
        assert_eq!((begun.get(), limit.open()), (1, 1), "its future still runs");
        event.set();
        turn_until_quiet(&mut reactor, &mut ())?;
        assert_eq!((begun.get(), limit.open()), (2, 1), "{is_moved}");
        server.stop(&mut reactor, Duration::ZERO);
    }
    Ok(())
}
