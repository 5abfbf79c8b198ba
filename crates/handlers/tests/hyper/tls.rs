//! HTTP over TLS: the protocol is the one that ALPN has chosen.

use std::net::TcpStream;

use handlers::ConnectionOptions;
use handlers::futures::{AsyncConnection, HyperExecutor, block_on, spawn_local};
use handlers::tls::{
    Tls, TlsCertificate, TlsClientOptions, TlsRoots, TlsServerConfig, TlsServerOptions,
};
use hyper::client::conn::{http1, http2};
use reactor::Reactor;
use support::{Result, run_out};

use crate::{GRACE, get, listen, serve_http1, serve_http2, text};

fn configs() -> Result<(TlsServerConfig, String)> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let pem = made.cert.pem();
    let certificate = TlsCertificate::pem(pem.clone(), made.signing_key.serialize_pem());
    let server = TlsServerOptions::new()
        .certificate(certificate)
        .alpn(["h2", "http/1.1"]);
    Ok((server.load()?, pem))
}

#[test]
fn a_client_gets_the_protocol_that_it_has_asked_for() -> Result {
    let mut reactor: Reactor<()> = Reactor::new()?;
    let (listener, address) = listen()?;
    let (config, pem) = configs()?;
    let accept = move |stream: handlers::SocketStream| config.accept(stream.into_tcp()?);
    let options = ConnectionOptions::new();
    let server =
        listener.serve_async_as(&mut reactor, &options, accept, |stream, connection, _| {
            let tls = connection.stream::<Tls<TcpStream>>();
            let is_http2 = tls.and_then(|tls| tls.info().alpn()) == Some(b"h2");
            async move {
                if is_http2 {
                    serve_http2(stream).await
                } else {
                    serve_http1(stream).await
                }
            }
        })?;
    let version = block_on(&mut reactor, &mut (), async move {
        let mut versions = Vec::new();
        for alpn in ["h2", "http/1.1"] {
            let roots = TlsRoots::pem(pem.clone());
            let config = TlsClientOptions::new().roots(roots).alpn([alpn]).load()?;
            let connect = move |stream: handlers::SocketStream| {
                config.connect(stream.into_tcp()?, "localhost")
            };
            let stream =
                AsyncConnection::connect_as::<(), _>(address, &ConnectionOptions::new(), connect)
                    .await?;
            let response = if alpn == "h2" {
                let (mut sender, connection) = http2::handshake(HyperExecutor, stream).await?;
                drop(spawn_local(connection));
                sender.send_request(get("https://localhost/")).await?
            } else {
                let (mut sender, connection) = http1::handshake(stream).await?;
                drop(spawn_local(connection));
                sender.send_request(get("/")).await?
            };
            versions.push(format!("{:?}", response.version()));
            assert_eq!(text(response).await?, "hello");
        }
        Result::Ok(versions)
    })??;
    assert_eq!(version, ["HTTP/2.0", "HTTP/1.1"]);
    server.stop(&mut reactor, GRACE);
    run_out(&mut reactor, &mut ())?;
    Ok(())
}
