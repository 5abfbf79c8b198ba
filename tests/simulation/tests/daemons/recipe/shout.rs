use std::io::{self, Read, Write};
use std::time::Duration;

use handlers::{ConnectionOptions, ListenOptions, Listener, ServerKey, on_data};
use reactor::Registry;
use simulation::{Daemon, Handle, Peer, Seeds, process, random};

/// The daemon's own code, which `main` calls too.
fn serve(registry: &mut Registry<()>, listener: Listener) -> io::Result<ServerKey<()>> {
    listener.serve(registry, &ConnectionOptions::new(), |_peer, _cx| {
        Ok(on_data(|data, connection, _cx| {
            let _flow = connection.write(&data.to_ascii_uppercase())?;
            Ok(data.len())
        }))
    })
}

fn client() {
    let mut peer = Peer::connect(([127, 0, 0, 1], 7777).into()).unwrap();
    let question = vec![b'a'; random(10_000) as usize];
    peer.write_all(&question).unwrap();
    peer.shutdown_write().unwrap();
    let mut answer = Vec::new();
    peer.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, question.to_ascii_uppercase());
}

#[test]
fn every_client_is_answered_in_full() {
    Seeds::new(0..100).check(|| {
        let daemon = Daemon::start("daemon", |reactor| {
            let listener = ListenOptions::new().bind(&"127.0.0.1:7777".parse()?)?;
            Ok(((), serve(reactor, listener)?))
        });
        let clients = [(); 3].map(|()| process("client", client));
        clients.into_iter().for_each(Handle::join);
        daemon.end(|server, cx| server.stop(cx.registry, Duration::from_secs(5)));
    });
}
