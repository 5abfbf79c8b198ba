//! A proxy whose upstream is killed and started again while clients talk.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use handlers::{Connection, ConnectionOptions, ListenOptions, Peer, Relay, on_data};
use simulation::Handle;

use crate::laws::Book;
use crate::peers::{End, Habit, Promise, Script, Told, talk};
use crate::proxy;
use crate::streams::Stream;
use crate::trial::{Daemon, World, draw_time, in_every_world, listen, stop_server};

/// Answers each byte by another one.
fn answer(request: &[u8]) -> Vec<u8> {
    request.iter().map(|byte| byte ^ 0x5a).collect()
}

fn start_upstream(address: SocketAddr) -> Daemon {
    Daemon::start("upstream", &Book::default(), move |registry| {
        let listener = listen(&ListenOptions::new(), address);
        let server = listener.serve(registry, &ConnectionOptions::new(), |_peer, _cx| {
            Ok(on_data(|data, connection, _cx| {
                let _ = connection.write(&answer(data))?;
                Ok(data.len())
            }))
        });
        ((), stop_server(server.unwrap()))
    })
}

/// Starts a proxy as the example is, with the handlers of both sides watched. `far` knows a
/// connection to the upstream by the address of the client that it is for.
fn start_watched(near: &Book, far: &Book, address: SocketAddr, to: SocketAddr) -> Daemon {
    let (book, far) = (near.clone(), far.clone());
    Daemon::start("proxy", near, move |registry| {
        let options = ConnectionOptions::new().connect_timeout(Duration::from_secs(10));
        let listener = listen(&ListenOptions::new(), address);
        let server = listener.serve(registry, &options.clone(), move |peer: &Peer, cx| {
            let (client_side, server_side) = Relay::pair();
            let server_side = far.watch(peer, server_side);
            client_side.gives_up(Connection::connect(
                cx.registry,
                [to],
                &options,
                server_side,
            ));
            Ok(book.watch(peer, client_side))
        });
        ((), stop_server(server.unwrap()))
    })
}

/// The time from a kill of the upstream until the next one listens.
#[derive(Debug)]
struct Outage {
    begin: Instant,
    end: Option<Instant>,
}

type Outages = Rc<RefCell<Vec<Outage>>>;

/// Kills the upstream and starts it again, several times. Returns the last one.
fn restart(mut upstream: Daemon, address: SocketAddr, outages: &Outages) -> Daemon {
    for _ in 0..1 + simulation::random(5) {
        simulation::sleep(draw_time());
        outages.borrow_mut().push(Outage {
            begin: simulation::now(),
            end: None,
        });
        upstream.kill();
        simulation::sleep(draw_time());
        upstream = start_upstream(address);
        if let Some(outage) = outages.borrow_mut().last_mut() {
            outage.end = Some(simulation::now());
        }
    }
    upstream
}

/// One connection of a client.
struct Visit {
    began: Instant,
    ended: Instant,
    script: Script,
    told: Told,
}

/// Makes several connections, one after the other.
fn visit(address: SocketAddr, book: &Book) -> Vec<Visit> {
    (0..1 + simulation::random(6))
        .map(|_| {
            simulation::sleep(draw_time());
            let request = Script::echo(simulation::random(1 << simulation::random(17)) as usize);
            let script = Script {
                answer: answer(&request.request),
                ..request
            };
            let began = simulation::now();
            let told = talk(Stream::Bare, address, Habit::draw(), &script, book);
            simulation::note(&format!("{:?}: {:?}", told.habit, told.end));
            Visit {
                began,
                ended: simulation::now(),
                script,
                told,
            }
        })
        .collect()
}

impl Visit {
    fn check(&self, world: World, outages: &[Outage], book: &Book) {
        let Self { script, told, .. } = self;
        let is_harmed = outages.iter().any(|outage| {
            outage.begin <= self.ended && outage.end.is_none_or(|end| self.began <= end)
        });
        let promise = Promise {
            is_unharmed: !is_harmed && world != World::Faulty,
            was_killed: is_harmed, // the kernel ends the streams of a process that is killed
            answered_until: None,
        };
        told.check(script, promise, book);
        let who = || format!("{:?} {:?}: {:?}", told.habit, told.local, told.end);
        // The end of the upstream reaches the client: it never waits in vain.
        let is_lost = matches!(told.end, End::Failed(ErrorKind::TimedOut));
        book.expect(!is_lost || world == World::Faulty, || {
            format!("{}: was not told the end", who())
        });
        // Without an upstream nothing looks like an answer.
        let is_within = outages.iter().any(|outage| {
            outage.begin <= self.began && outage.end.is_some_and(|end| self.ended <= end)
        });
        let is_told = told.received.is_empty() && !matches!(told.end, End::Clean);
        book.expect(!is_within || is_told, || {
            format!(
                "{}: {} bytes without an upstream",
                who(),
                told.received.len()
            )
        });
    }
}

in_every_world!(
    a_proxy_whose_upstream_is_killed_keeps_the_laws,
    40,
    |world| {
        let (near, far) = (Book::default(), Book::default());
        let address = ([127, 0, 0, 1], 7778).into();
        let to = ([127, 0, 0, 1], 8000).into();
        let upstream = start_upstream(to);
        let daemon = match simulation::random(3) {
            0 => proxy::start(&near, address, &[to], Stream::Bare),
            _ => start_watched(&near, &far, address, to),
        };
        let clients: Vec<_> = (0..1 + simulation::random(4))
            .map(|number| {
                let book = near.clone();
                simulation::process(&format!("client {number}"), move || visit(address, &book))
            })
            .collect();
        let outages = Outages::default();
        let upstream = restart(upstream, to, &outages);
        let visits: Vec<Visit> = clients.into_iter().flat_map(Handle::join).collect();
        // The clients are gone. So are their connections, without a stop.
        simulation::sleep(Duration::from_secs(3600));
        let open = (near.open(), far.open());
        near.expect(open == (0, 0) || world == World::Faulty, || {
            format!("connections are open at the end: {open:?}")
        });
        daemon.stop(Duration::ZERO);
        daemon.join();
        upstream.stop(Duration::ZERO);
        upstream.join();
        for visit in visits {
            visit.check(world, &outages.borrow(), &near);
            let Some(local) = visit.told.local else {
                continue;
            };
            // The bytes of one client's answer, and no others, came for it.
            let given = far.given(local);
            near.expect(visit.script.answer.starts_with(&given), || {
                format!("{local}: the upstream's bytes are not its answer")
            });
            far.sends(local, &given);
            far.shuts_down(local);
        }
        near.check(false);
        far.check(false);
    }
);
