//! A server of futures whose process has few descriptors left.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use handlers::{Address, ConnectionOptions, ListenOptions};
use reactor::{ManualClock, Reactor};
use support::{PATIENCE, turn_until_quiet};

use super::{Limit, Result, count_open, expect_open, run};

#[test]
fn a_server_serves_its_first_client_with_the_last_descriptor() -> Result {
    run("server")
}

/// Starts to ask the server.
fn ask(address: &Address) -> Result<TcpStream> {
    let Address::Tcp(address) = address else {
        return Err("no TCP address".into());
    };
    let mut client = TcpStream::connect(address)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.write_all(b"hello")?;
    client.shutdown(Shutdown::Write)?;
    Ok(client)
}

fn expect_answer(reactor: &mut Reactor<()>, mut client: TcpStream) -> Result {
    turn_until_quiet(reactor, &mut ())?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    assert_eq!(answer, "hello");
    Ok(())
}

pub(super) fn case() -> Result {
    let clock = ManualClock::new();
    let mut reactor = Reactor::<()>::builder().clock(clock).build()?;
    let listener = ListenOptions::new().bind(&"127.0.0.1:0".parse()?)?;
    let address = listener.local_addr()?;
    let options = ConnectionOptions::new();
    let server = listener.serve_async(&mut reactor, &options, |mut stream, _, _| async move {
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        stream.write_all(text.as_bytes()).await
    })?;
    let before = count_open();
    let client = ask(&address)?;
    let limit = Limit::leaving(1)?;
    expect_answer(&mut reactor, client)?;
    drop(limit);

    let client = ask(&address)?;
    let limit = Limit::leaving(0)?;
    let turns = reactor.metrics().turns;
    turn_until_quiet(&mut reactor, &mut ())?;
    assert!(reactor.metrics().turns < turns + 10, "it does not spin");
    drop(limit);
    reactor.advance(&mut (), Duration::from_secs(1))?;
    expect_answer(&mut reactor, client)?;
    expect_open(before, "the server is left");
    server.stop(&mut reactor, Duration::from_secs(1));
    Ok(reactor.run(&mut ()).map(drop)?)
}
