//! An upstream over TLS: each connection has a session of its own.

use handlers::{
    Address, Backoff, ConnectionOptions, Jitter, ListenOptions, SocketStream, Upstream,
    UpstreamOptions,
};
use support::{Result, ms};

use crate::{Bench, NAME, client_config, notes, server_config, sink};

#[test]
fn messages_wait_for_the_handshake_of_each_connection() -> Result {
    let mut bench = Bench::new()?;
    let listener = ListenOptions::new().bind(&"127.0.0.1:0".parse()?)?;
    let Address::Tcp(address) = listener.local_addr()? else {
        return Err("no TCP".into());
    };
    let server = server_config();
    let protect = move |stream: SocketStream| server.accept(stream.into_tcp()?);
    listener.serve_as(
        &mut bench.reactor,
        &ConnectionOptions::new(),
        protect,
        |_, _| {
            // Closes after each message.
            Ok(notes("server", |_, connection, _| {
                connection.shutdown();
                Ok(())
            }))
        },
    )?;
    let (client, delay) = (client_config(), ms(100));
    let backoff = Backoff::new(delay, delay).jitter(Jitter::None);
    let options = UpstreamOptions::new().backoff(backoff);
    let connect = move |stream: SocketStream| client.connect(stream.into_tcp()?, NAME);
    let upstream = Upstream::start_as(
        &mut bench.reactor,
        [address],
        &options,
        connect,
        sink("client"),
    );
    let mut expected = Vec::new();
    for message in ["one ", "two ", "three"] {
        let _ = upstream.send(&mut bench.reactor, message)?;
        expected.extend(message.as_bytes());
        bench.turn_until(|seen| seen.received("server") == expected);
        let closes = upstream.metrics().connections as usize;
        bench.turn_until(|seen| {
            let is_close = |entry: &&String| entry.starts_with("client close");
            seen.log.iter().filter(is_close).count() == closes
        });
        assert!(upstream.is_empty());
        bench.advance(delay);
    }
    assert!(upstream.metrics().connections >= 3);
    Ok(())
}
