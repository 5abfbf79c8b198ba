//! Echo over TLS, by the connections of `handlers`.

use handlers::tls::{TlsCertificate, TlsServerOptions};
use handlers::{ConnectionOptions, ListenOptions, SocketStream, on_data};
use reactor::Reactor;
use workloads::Result;
use workloads::echo::listen;
use workloads::tls::Options;

pub(crate) fn run(options: &Options) -> Result {
    let file = &options.certificate;
    let server = TlsServerOptions::new()
        .certificate(TlsCertificate::files(file, file))
        .load()?;
    let mut connections = ConnectionOptions::new();
    if options.unlimited {
        connections = connections.max_handshakes_per_turn(usize::MAX);
    }
    let mut reactor = Reactor::<()>::new()?;
    let listener = ListenOptions::new().adopt(listen()?)?;
    let protect = move |stream: SocketStream| server.accept(stream.into_tcp()?);
    listener.serve_as(&mut reactor, &connections, protect, |_peer, _cx| {
        Ok(on_data(|data, connection, _cx| {
            // While the queue is full, the connection does not read.
            let _ = connection.write(data)?;
            Ok(data.len())
        }))
    })?;
    reactor.run(&mut ())?;
    Ok(())
}
