use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use handlers::{ConnectionOptions, ListenOptions, Listener, ServerKey, on_data};
use reactor::{Reactor, Registry, Remote};
use simulation::{Peer, Seeds};

/// The daemon's own code, which `main` calls too.
fn serve(registry: &mut Registry<()>, listener: Listener) -> io::Result<ServerKey<()>> {
    listener.serve(registry, &ConnectionOptions::new(), |_peer, _cx| {
        Ok(on_data(|data, connection, _cx| {
            let _flow = connection.write(&data.to_ascii_uppercase())?;
            Ok(data.len())
        }))
    })
}

type Started = RefCell<Option<(Remote<()>, ServerKey<()>)>>;

fn daemon(started: &Started) -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    let listener = ListenOptions::new().bind(&"127.0.0.1:7777".parse().unwrap())?;
    let server = serve(&mut reactor, listener)?;
    started.replace(Some((reactor.remote()?, server)));
    reactor.run(&mut ())?;
    Ok(())
}

fn client() -> io::Result<()> {
    let mut peer = Peer::connect("127.0.0.1:7777".parse().unwrap())?;
    let question = vec![b'a'; simulation::random(10_000) as usize];
    peer.write_all(&question)?;
    peer.shutdown_write()?;
    let mut answer = Vec::new();
    peer.read_to_end(&mut answer)?;
    assert_eq!(answer, question.to_ascii_uppercase());
    Ok(())
}

#[test]
fn every_client_is_answered_in_full() {
    Seeds::new(0..100).check(|| {
        let started = Rc::new(Started::default());
        let starts = Rc::clone(&started);
        let process = simulation::process("daemon", move || daemon(&starts).unwrap());
        simulation::wait_until(|| started.borrow().is_some());
        let clients = [(); 3].map(|()| simulation::process("client", || client().unwrap()));
        clients.into_iter().for_each(simulation::Handle::join);
        let (remote, server) = started.take().unwrap();
        let stop = remote.post(move |cx| server.stop(cx.registry, Duration::from_secs(5)));
        stop.unwrap();
        process.join();
    });
}
