//! Sources of the loop within futures.

mod connecting;
mod counts;
mod ends;
mod errors;
mod own_types;
mod streams;
mod threads;

use std::io;
use std::os::unix::net::UnixStream;

use handlers::futures::Async;

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Returns two sockets that are connected with each other.
fn pair() -> io::Result<(Async<UnixStream>, Async<UnixStream>)> {
    let (near, far) = UnixStream::pair()?;
    Ok((Async::new(near)?, Async::new(far)?))
}
