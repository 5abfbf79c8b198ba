//! The stop of a server whose futures are in every state.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use handlers::futures::{AsyncConnection, sleep, spawn_local, with_context};
use handlers::{ConnectionLimit, ConnectionOptions, ListenOptions, ServerKey};
use reactor::{Context, ManualClock, Reactor};
use support::{PATIENCE, Result, run_out, turn_until_quiet};

use crate::servers::{client, listen};
use crate::{Notes, RESET, reactor, read_all};

const SECOND: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(5);
const MUCH: usize = 8 << 20;

fn jumping() -> Result<Reactor<()>> {
    Ok(Reactor::builder().clock(ManualClock::jumping()).build()?)
}

/// Takes turns that do not wait, so that the clock does not jump.
fn settle(reactor: &mut Reactor<()>) -> Result {
    for _ in 0..20 {
        reactor.turn(&mut (), Some(Duration::ZERO))?;
    }
    Ok(())
}

#[test]
fn a_grace_of_nothing_and_one_without_an_end_are_kept() -> Result {
    for grace in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        let mut reactor = jumping()?;
        let (listener, address) = listen(ListenOptions::new())?;
        let options = ConnectionOptions::new();
        let server =
            listener.serve_async(&mut reactor, &options, |mut stream, _, _cx| async move {
                sleep(100 * SECOND).await; // whatever the server does
                stream.write_all(b"late").await
            })?;
        let client = client(address)?;
        settle(&mut reactor)?;
        let began = reactor.now();
        server.stop(&mut reactor, grace);
        let reader = std::thread::spawn(move || {
            let answer = read_all(&client);
            drop(client);
            answer
        });
        reactor.run(&mut ())?;
        let took = reactor.now() - began;
        if grace == Duration::MAX {
            assert_eq!(reader.join().unwrap(), (b"late".to_vec(), None));
            assert!(took >= 100 * SECOND, "{took:?}");
        } else {
            assert_eq!(reader.join().unwrap(), (Vec::new(), RESET));
            assert!(took <= Duration::from_millis(1), "{grace:?}: {took:?}");
        }
    }
    Ok(())
}

#[test]
fn a_second_stop_can_only_shorten_the_grace() -> Result {
    for (first, second) in [(GRACE, SECOND), (SECOND, GRACE), (GRACE, Duration::ZERO)] {
        let mut reactor = jumping()?;
        let (listener, address) = listen(ListenOptions::new())?;
        let options = ConnectionOptions::new();
        let server = listener.serve_async(&mut reactor, &options, |stream, _, _cx| async move {
            pending::<()>().await;
            drop(stream);
            Ok(())
        })?;
        let client = client(address)?;
        settle(&mut reactor)?;
        let began = reactor.now();
        server.stop(&mut reactor, first);
        settle(&mut reactor)?;
        server.stop(&mut reactor, second);
        reactor.run(&mut ())?;
        let took = reactor.now() - began;
        assert_eq!(took, first.min(second));
        assert_eq!(read_all(&client), (Vec::new(), RESET));
    }
    Ok(())
}

/// A server that answers a byte by a byte until its client ends or it stops.
async fn answer(mut stream: AsyncConnection) -> std::io::Result<()> {
    let stopping = stream.stopping();
    loop {
        let mut byte = [0];
        let stopped = async {
            stopping.clone().await;
            Ok(0)
        };
        match futures_lite::future::or(stream.read(&mut byte), stopped).await? {
            0 => return Ok(()),
            _ => stream.write_all(&byte).await?,
        }
    }
}

fn serve(reactor: &mut Reactor<()>) -> Result<(ServerKey<()>, std::net::SocketAddr)> {
    let (listener, address) = listen(ListenOptions::new())?;
    let options = ConnectionOptions::new();
    let server = listener.serve_async(reactor, &options, |stream, _, _cx| answer(stream))?;
    Ok((server, address))
}

#[test]
fn clients_that_the_loop_has_not_seen_are_answered_after_a_stop() -> Result {
    let mut reactor = reactor()?;
    let (server, address) = serve(&mut reactor)?;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = client(address)?;
        client.write_all(b"?")?;
        clients.push(client);
    }
    server.stop(&mut reactor, PATIENCE);
    turn_until_quiet(&mut reactor, &mut ())?;
    for client in &clients {
        assert_eq!(read_all(client), (b"?".to_vec(), None));
    }
    drop(clients);
    run_out(&mut reactor, &mut ())?;
    Ok(())
}

#[test]
fn a_server_without_its_listener_stops_its_futures() -> Result {
    let mut reactor = reactor()?;
    let (server, address) = serve(&mut reactor)?;
    let mut kept = client(address)?;
    turn_until_quiet(&mut reactor, &mut ())?;
    reactor.remove(server.key())?;
    kept.write_all(b"1")?;
    turn_until_quiet(&mut reactor, &mut ())?;
    let mut byte = [0];
    kept.read_exact(&mut byte)?;
    assert_eq!(byte, *b"1", "it goes on");
    server.stop(&mut reactor, PATIENCE);
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(read_all(&kept), (Vec::new(), None));
    drop(kept);
    run_out(&mut reactor, &mut ())?;
    Ok(())
}

#[test]
fn a_stream_in_another_task_learns_of_a_stop_and_of_its_end() -> Result {
    for heeds in [false, true] {
        let mut reactor = jumping()?;
        let (listener, address) = listen(ListenOptions::new())?;
        let options = ConnectionOptions::new();
        let server = listener.serve_async(
            &mut reactor,
            &options,
            move |mut stream, _, _cx| async move {
                drop(spawn_local(async move {
                    if heeds {
                        return answer(stream).await;
                    }
                    let read = stream.read(&mut [0]).await; // whatever the server does
                    read.map(drop)
                }));
                Ok(())
            },
        )?;
        let client = client(address)?;
        settle(&mut reactor)?;
        let began = reactor.now();
        server.stop(&mut reactor, GRACE);
        reactor.run(&mut ())?;
        // Without a close of its write side its end is none.
        assert_eq!(read_all(&client), (Vec::new(), RESET));
        let took = reactor.now() - began;
        assert_eq!(took, if heeds { Duration::ZERO } else { GRACE });
    }
    Ok(())
}

#[test]
fn output_that_is_queued_at_a_stop_is_sent_or_reset() -> Result {
    for reads in [false, true] {
        let mut reactor = jumping()?;
        let (listener, address) = listen(ListenOptions::new())?;
        let options = ConnectionOptions::new();
        let server =
            listener.serve_async(&mut reactor, &options, |mut stream, _, _cx| async move {
                stream.write_all(&vec![7; MUCH]).await
            })?;
        let client = client(address)?;
        settle(&mut reactor)?;
        let began = reactor.now();
        server.stop(&mut reactor, GRACE);
        settle(&mut reactor)?;
        if reads {
            let reader = std::thread::spawn(move || {
                let answer = read_all(&client);
                drop(client);
                answer
            });
            // The clock must not jump while the client reads.
            while !reader.is_finished() {
                reactor.turn(&mut (), Some(Duration::ZERO))?;
            }
            let (all, error) = reader.join().unwrap();
            assert_eq!((all.len(), error), (MUCH, None));
        } else {
            reactor.run(&mut ())?;
            assert_eq!(reactor.now() - began, GRACE);
            let (all, error) = read_all(&client);
            assert!(all.len() < MUCH && error == RESET);
        }
    }
    Ok(())
}

#[test]
fn a_future_and_a_closure_stop_their_own_server() -> Result {
    for by_closure in [false, true] {
        let mut reactor = reactor()?;
        let (listener, address) = listen(ListenOptions::new())?;
        let key = Rc::new(Cell::new(None::<ServerKey<()>>));
        let known = Rc::clone(&key);
        let options = ConnectionOptions::new();
        let server = listener.serve_async(&mut reactor, &options, move |stream, _, cx| {
            let server = known.get();
            if by_closure && let Some(server) = server {
                server.stop(cx.registry, PATIENCE);
            }
            async move {
                let stop = with_context(move |cx: &mut Context<'_, ()>| {
                    if let Some(server) = server {
                        server.stop(cx.registry, PATIENCE);
                    }
                });
                stop.await;
                answer(stream).await
            }
        })?;
        key.set(Some(server));
        let mut clients = [client(address)?, client(address)?];
        for client in &mut clients {
            client.write_all(b"?")?;
        }
        turn_until_quiet(&mut reactor, &mut ())?;
        for client in &clients {
            assert_eq!(read_all(client), (b"?".to_vec(), None), "{by_closure}");
        }
        drop(clients);
        run_out(&mut reactor, &mut ())?;
    }
    Ok(())
}

/// Clients wait in the kernel's queue behind a limit that a future holds.
#[test]
fn clients_behind_a_limit_are_served_at_a_stop_when_there_is_room() -> Result {
    let mut reactor = reactor()?;
    let (listener, address) = listen(ListenOptions::new().limit(ConnectionLimit::new(1)))?;
    let options = ConnectionOptions::new();
    let server = listener.serve_async(&mut reactor, &options, |stream, _, _cx| answer(stream))?;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = client(address)?;
        client.write_all(b"?")?;
        client.shutdown(Shutdown::Write)?;
        clients.push(client);
    }
    server.stop(&mut reactor, PATIENCE);
    let answers: Rc<RefCell<Vec<_>>> = Notes::default();
    run_out(&mut reactor, &mut ())?;
    for client in &clients {
        answers.borrow_mut().push(read_all(client));
    }
    assert_eq!(*answers.borrow(), vec![(b"?".to_vec(), None); 5]);
    Ok(())
}
