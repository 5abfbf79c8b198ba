//! An echo server on mio: a table of streams, which are found by token. A peer that does not read
//! is disconnected.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(0);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind("127.0.0.1:7777".parse()?)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut streams = HashMap::new();
    let mut next = 1;
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() != LISTENER {
                if streams.get_mut(&event.token()).is_some_and(|stream| echo(stream).is_err()) {
                    streams.remove(&event.token());
                }
                continue;
            }
            while let Ok((mut stream, _peer)) = listener.accept() {
                poll.registry().register(&mut stream, Token(next), Interest::READABLE)?;
                streams.insert(Token(next), stream);
                next += 1;
            }
        }
    }
}

/// Reads until no bytes are left, since another event comes only after that.
fn echo(stream: &mut TcpStream) -> io::Result<()> {
    let mut buf = [0; 4096];
    loop {
        match stream.read(&mut buf) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => stream.write_all(&buf[..n])?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
