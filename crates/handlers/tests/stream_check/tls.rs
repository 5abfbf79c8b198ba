//! TLS is a stream that keeps its contract, on both sides.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use handlers::tls::{
    TlsCertificate, TlsClientConfig, TlsClientOptions, TlsRoots, TlsServerConfig, TlsServerOptions,
};
use handlers::{Stream, StreamCheck};

use crate::faulty::{Fault, Faulty};
use crate::toy;

pub(super) const NAME: &str = "a.example";

/// A server, and a client that trusts its certificate.
pub(super) fn configs() -> (TlsServerConfig, TlsClientConfig) {
    let issued = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let certificate = TlsCertificate::pem(issued.cert.pem(), issued.signing_key.serialize_pem());
    let server = TlsServerOptions::new().certificate(certificate);
    let client = TlsClientOptions::new().roots(TlsRoots::pem(issued.cert.pem()));
    (server.load().unwrap(), client.load().unwrap())
}

/// Checks both sides of TLS around the streams that `below` makes.
fn check<T: Stream>(below: impl Fn(OwnedFd) -> T) {
    check_around(&below, &below);
}

/// Checks both sides of TLS around streams of two kinds.
fn check_around<A: Stream, B: Stream>(
    below_server: impl Fn(OwnedFd) -> A,
    below_client: impl Fn(OwnedFd) -> B,
) {
    let (server, client) = configs();
    let accept = |socket: OwnedFd| server.accept(below_server(socket)).unwrap();
    let connect = |socket: OwnedFd| client.connect(below_client(socket), NAME).unwrap();
    let check = StreamCheck::new().with_end();
    check.run(accept, connect).unwrap();
    check.run(connect, accept).unwrap();
}

#[test]
fn a_tls_server_and_its_client_pass() {
    check(UnixStream::from);
}

#[test]
fn tls_around_another_layered_stream_passes() {
    check(toy);
    // With two such streams, each would wait for the other one.
    check_around(|socket| Faulty::new(socket, Fault::WaitsToWrite), toy);
}

#[test]
fn tls_around_tls_passes() {
    let (server, client) = configs();
    check_around(
        |socket| server.accept(UnixStream::from(socket)).unwrap(),
        |socket| client.connect(UnixStream::from(socket), NAME).unwrap(),
    );
    // The roles of the inner session are exchanged.
    check_around(
        |socket| client.connect(UnixStream::from(socket), NAME).unwrap(),
        |socket| server.accept(UnixStream::from(socket)).unwrap(),
    );
}
