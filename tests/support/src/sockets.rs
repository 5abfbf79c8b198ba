//! Sockets on the loopback device.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

/// Returns a connected pair of TCP sockets. The first sends without delay.
///
/// # Errors
/// The errors of the kernel.
pub fn tcp_pair() -> io::Result<(TcpStream, TcpStream)> {
    let (listener, address) = listen("127.0.0.1:0")?;
    let near = TcpStream::connect(address)?;
    let (far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    Ok((near, far))
}

/// Returns a listener at `address`, and the address with the port that the kernel has chosen.
///
/// # Errors
/// The errors of the kernel.
pub fn listen(address: &str) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// The sockets that keep an address silent while they are open.
#[derive(Debug)]
pub struct Silent {
    _listener: TcpListener,
    _fills: TcpStream,
}

/// Returns an address that answers no connect, while the sockets that come with it are open.
///
/// # Errors
/// The errors of the kernel.
pub fn silent_listener(address: &str) -> io::Result<(Silent, SocketAddr)> {
    let (listener, address) = listen(address)?;
    rustix::net::listen(&listener, 0)?;
    // The kernel accepts one connection beyond a backlog of 0, and answers no later one.
    let fills = TcpStream::connect(address)?;
    Ok((
        Silent {
            _listener: listener,
            _fills: fills,
        },
        address,
    ))
}

/// Closes `stream` by a reset.
///
/// # Errors
/// The errors of `setsockopt(SO_LINGER)`.
pub fn reset(stream: TcpStream) -> io::Result<()> {
    Ok(set_socket_linger(&stream, Some(Duration::ZERO))?)
}
