//! An echo server in the simulation.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{self, Read, Write};
use std::time::Duration;

use handlers::{ConnectionOptions, ListenOptions, on_data};
use reactor::Registry;
use simulation::{Daemon, Faults, Peer, Seeds, Simulation};

const ADDRESS: &str = "127.0.0.1:7777";
const UNIX_ADDRESSES: [&str; 2] = ["unix:/run/echo", "unix:@echo"];

fn serve(registry: &mut Registry<()>, address: &str) -> io::Result<()> {
    let listener = loop {
        match ListenOptions::new().bind(&address.parse().unwrap()) {
            Ok(listener) => break listener,
            Err(error) => simulation::note(&format!("{:?}", error.kind())),
        }
    };
    listener.serve(registry, &ConnectionOptions::new(), |_accepted, _cx| {
        Ok(on_data(|data, connection, _cx| {
            let _flow = connection.write(data)?;
            Ok(data.len())
        }))
    })?;
    Ok(())
}

fn client(address: &str, bytes: usize) -> io::Result<()> {
    let mut peer = Peer::connect_to(&address.parse().unwrap())?;
    let sent: Vec<u8> = (0..bytes).map(|_| simulation::random(256) as u8).collect();
    let mut received = Vec::new();
    for piece in sent.chunks(1 + simulation::random(1000) as usize) {
        peer.write_all(piece)?;
        if simulation::random(4) == 0 {
            simulation::sleep(Duration::from_millis(simulation::random(100)));
        }
        let unread = peer.unread() as usize;
        let mut buf = vec![0; unread];
        peer.read_exact(&mut buf)?;
        received.extend(buf);
    }
    peer.shutdown_write()?;
    peer.read_to_end(&mut received)?;
    assert_eq!(received.len(), sent.len());
    assert!(received == sent);
    Ok(())
}

/// A server, three clients, and an orderly end. With `is_clean`, no client fails.
fn echo(address: &'static str, is_clean: bool) {
    let server = Daemon::start("server", |reactor| Ok(((), serve(reactor, address)?)));
    let clients: Vec<_> = (0..3)
        .map(|number| {
            simulation::process(&format!("client {number}"), move || {
                let outcome = client(address, simulation::random(20_000) as usize);
                assert!(!is_clean || outcome.is_ok(), "{outcome:?}");
            })
        })
        .collect();
    clients.into_iter().for_each(simulation::Handle::join);
    server.end(|(), cx| cx.registry.stop());
}

#[test]
fn every_byte_comes_back_in_order_whatever_the_timing() {
    Seeds::new(0..100).check(|| echo(ADDRESS, true));
    for address in UNIX_ADDRESSES {
        Seeds::new(0..50).check(move || echo(address, true));
    }
}

#[test]
fn a_run_is_the_same_whatever_numbers_its_descriptors_have() {
    for seed in 0..20 {
        let run = || {
            let simulation = Simulation::new(seed).faults(Faults::all());
            simulation.run(|| echo(ADDRESS, false)).hash
        };
        let hash = run();
        let _others = io::pipe().unwrap(); // takes the first numbers
        assert_eq!(run(), hash, "seed {seed}");
    }
}

#[test]
fn the_address_of_a_closed_listener_is_free_at_once() {
    Seeds::new(0..10).faults(Faults::none()).check(|| {
        for _ in 0..2 {
            drop(
                ListenOptions::new()
                    .bind(&ADDRESS.parse().unwrap())
                    .unwrap(),
            );
        }
    });
}

#[test]
fn no_fault_leaves_anything_behind() {
    Seeds::new(0..100)
        .faults(Faults::all())
        .check(|| echo(ADDRESS, false));
    for address in UNIX_ADDRESSES {
        Seeds::new(0..50)
            .faults(Faults::all())
            .check(move || echo(address, false));
    }
}
