//! Allocations in the steady state.

use std::io::{Read, Write};

use allocation_counter::measure;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use handlers::ConnectionOptions;
use support::{Result, turn_until_quiet};

use crate::{open_with, reactor};

#[test]
fn a_message_and_its_answer_allocate_nothing() -> Result {
    let mut reactor = reactor()?;
    let options = ConnectionOptions::new();
    let (_key, mut peer) = open_with(&mut reactor, &options, |mut stream| async move {
        let mut buf = [0; 1000];
        loop {
            let read = stream.read(&mut buf).await?;
            stream.write_all(&buf[..read]).await?;
        }
    })?;
    turn_until_quiet(&mut reactor, &mut ())?;
    let mut exchange = |reactor: &mut reactor::Reactor<()>| -> Result {
        peer.write_all(&[7; 500])?;
        reactor.turn(&mut (), None)?;
        peer.read_exact(&mut [0; 500])?;
        Ok(())
    };
    exchange(&mut reactor)?;
    let mut outcome: Result = Ok(());
    let counted = measure(|| outcome = (0..100).try_for_each(|_| exchange(&mut reactor)));
    outcome?;
    assert_eq!(counted.count_total, 0, "{counted:?}");
    Ok(())
}

#[test]
fn an_idle_connection_with_a_future_holds_no_buffer() -> Result {
    let mut reactor = reactor()?;
    let options = ConnectionOptions::new();
    let mut peers = Vec::with_capacity(100);
    let mut outcome: Result = Ok(());
    let counted = measure(|| {
        outcome = (0..100).try_for_each(|_| {
            let (_key, mut peer) = open_with(&mut reactor, &options, |mut stream| async move {
                loop {
                    stream.read_exact(&mut [0; 1]).await?;
                }
            })?;
            turn(&mut reactor, &mut peer)?;
            peers.push(peer);
            Ok(())
        });
    });
    outcome?;
    assert!(counted.bytes_current / 100 < 3_000, "{counted:?}");
    Ok(())
}

/// Sends a long message, and lets the loop take it.
fn turn(reactor: &mut reactor::Reactor<()>, peer: &mut std::net::TcpStream) -> Result {
    peer.write_all(&[7; 50_000])?;
    for _ in 0..6 {
        reactor.turn(&mut (), Some(std::time::Duration::ZERO))?;
    }
    Ok(())
}
