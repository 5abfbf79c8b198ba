//! An echo server on calloop, whose sources can be any file descriptors. A peer that does not read
//! is disconnected.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use calloop::generic::Generic;
use calloop::{EventLoop, Interest, Mode, PostAction};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut event_loop: EventLoop<'static, u64> = EventLoop::try_new()?;
    let handle = event_loop.handle();
    let listener = TcpListener::bind("127.0.0.1:7777")?;
    listener.set_nonblocking(true)?;
    event_loop.handle().insert_source(Generic::new(listener, Interest::READ, Mode::Level), move |_, listener, _| {
        let (stream, _peer) = listener.accept()?;
        stream.set_nonblocking(true)?;
        handle
            .insert_source(Generic::new(stream, Interest::READ, Mode::Level), |_, stream, echoed| {
                Ok(echo(stream, echoed).unwrap_or(PostAction::Remove))
            })
            .map_err(|error| io::Error::other(error.error))?;
        Ok(PostAction::Continue)
    })?;
    Ok(event_loop.run(None, &mut 0, |_| {})?)
}

fn echo(mut stream: &TcpStream, echoed: &mut u64) -> io::Result<PostAction> {
    let mut buf = [0; 4096];
    let n = match stream.read(&mut buf) {
        Ok(0) => return Ok(PostAction::Remove),
        Ok(n) => n,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(PostAction::Continue),
        Err(error) => return Err(error),
    };
    stream.write_all(&buf[..n])?;
    *echoed += n as u64;
    Ok(PostAction::Continue)
}
