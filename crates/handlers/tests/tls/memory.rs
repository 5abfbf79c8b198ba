//! The memory of TLS connections, counted by the allocator of this thread.

use std::io;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use allocation_counter::{AllocationInfo, measure};
use handlers::{Connection, ConnectionOptions, Stream, on_data};
use reactor::Reactor;
use support::{PATIENCE, Result, ms};

use crate::peer::Peer;
use crate::{NAME, client_config, pattern, server_config};

/// A message of several records, which would need buffers if it were kept.
const LENGTH: usize = 100_000;

/// The most bytes of an idle connection: the state of rustls and the registration. A buffer for one
/// record would be 16 KiB more.
const IDLE_MAX: i64 = 6 << 10;

/// Opens a connection that echoes, and waits until `LENGTH` bytes were echoed.
fn exchange(reactor: &mut Reactor<usize>, stream: impl Stream) {
    let echo = on_data(|data, connection, cx: &mut reactor::Context<'_, usize>| {
        *cx.state += data.len();
        let _ = connection.write(data)?;
        Ok(data.len())
    });
    Connection::open(reactor, stream, &ConnectionOptions::new(), echo).unwrap();
    let mut bytes = 0;
    while reactor.turn(&mut bytes, Some(ms(50))).unwrap() > 0 || bytes < LENGTH {}
}

/// Lets a peer send a message and get it back, on a thread whose memory does not count.
fn talk(mut peer: Peer<UnixStream>) -> JoinHandle<io::Result<Peer<UnixStream>>> {
    thread::spawn(move || {
        let message = pattern(LENGTH);
        peer.send(&message);
        while peer.received.len() < LENGTH {
            if !peer.step() {
                support::wait_until_readable(&peer.socket, PATIENCE)?;
            }
        }
        assert!(peer.received == message);
        Ok(peer)
    })
}

/// Returns what an idle connection keeps, its session included, after an exchange.
fn measure_idle<T: Stream>(
    session: impl Fn(UnixStream) -> io::Result<T>,
    peer: impl Fn(UnixStream) -> Peer<UnixStream>,
) -> Result<AllocationInfo> {
    let mut reactor = Reactor::new()?;
    let mut open = || -> Result<(AllocationInfo, _)> {
        let (near, far) = UnixStream::pair()?;
        far.set_nonblocking(true)?;
        let talk = talk(peer(far));
        let mut near = Some(near);
        let idle = measure(|| {
            let stream = session(near.take().unwrap()).unwrap();
            exchange(&mut reactor, stream);
        });
        Ok((idle, talk.join().unwrap()?))
    };
    let _first = open()?; // fills the buffers of the thread and of the loop
    Ok(open()?.0)
}

#[test]
fn an_idle_connection_holds_no_buffer() -> Result {
    let (server, client) = (server_config(), client_config());
    let of_server = measure_idle(|near| server.accept(near), Peer::client)?;
    let of_client = measure_idle(|near| client.connect(near, NAME), Peer::server)?;
    for (side, idle) in [("server", of_server), ("client", of_client)] {
        assert!(idle.bytes_current < IDLE_MAX, "{side}: {idle:?}");
    }
    Ok(())
}
