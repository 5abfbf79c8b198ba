//! Names in the simulation: their answers, their faults, the limits of a resolver.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use handlers::{
    CloseReason, Connection, ConnectionHandler, ConnectionOptions, ListenOptions, Relay, Resolver,
    Target, on_data,
};
use reactor::{Context, Reactor, Registry, Then};
use simulation::{Daemon, Faults, Peer, Seeds, Simulation, now, set_name};

/// The answers of a loop, with the virtual time at which they came.
type Told = Vec<(Duration, Result<Vec<SocketAddr>, ErrorKind>)>;

const SECOND: Duration = Duration::from_secs(1);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn resolve(resolver: &Resolver, registry: &mut Registry<Told>, name: &str) {
    let began = now();
    resolver.resolve(registry, &name.parse().unwrap(), move |answer, cx| {
        let answer = answer.map_err(|error| error.kind());
        cx.state.push((now() - began, answer));
    });
}

/// Looks up names on a loop, all at once.
fn answers(resolver: &Resolver, names: &[&str]) -> Told {
    let mut reactor = Reactor::<Told>::new().unwrap();
    for name in names {
        resolve(resolver, &mut reactor, name);
    }
    let mut told = Told::new();
    reactor.run(&mut told).unwrap();
    assert_eq!(told.len(), names.len());
    told
}

#[test]
fn a_name_has_the_addresses_that_were_set() {
    Seeds::new(0..50).faults(Faults::none()).check(|| {
        set_name("db.example", [ip("2001:db8::1"), ip("192.0.2.1")]);
        set_name("empty.example", []);
        let of = |name: &str| answers(&Resolver::default(), &[name]).remove(0).1;
        let both = ["[2001:db8::1]:80", "192.0.2.1:80"].map(|text| text.parse().unwrap());
        assert_eq!(of("db.example:80"), Ok(both.to_vec()));
        assert_eq!(of("localhost:1"), Ok(vec!["127.0.0.1:1".parse().unwrap()]));
        assert_eq!(of("none.example:80"), Err(ErrorKind::NotFound));
        assert_eq!(of("empty.example:80"), Err(ErrorKind::AddrNotAvailable));
        assert_eq!(of("db.example:http"), Err(ErrorKind::InvalidInput));
        assert_eq!(of("192.0.2.9:http"), Err(ErrorKind::InvalidInput));
    });
}

#[test]
fn lookups_that_hang_end_at_the_timeout_and_the_loop_goes_on() {
    let mut faults = Faults::none();
    faults.hung_lookups = 1;
    Seeds::new(0..50).faults(faults).check(|| {
        let resolver = Resolver::builder().max_threads(2).build();
        let mut reactor = Reactor::<Told>::new().unwrap();
        for _ in 0..5 {
            resolve(&resolver, &mut reactor, "localhost:80");
        }
        let began = now();
        let ticks = Rc::new(RefCell::new(Vec::new()));
        let noted = Rc::clone(&ticks);
        reactor.after(SECOND, move |_cx| {
            noted.borrow_mut().push((now() - began).as_secs());
            let is_last = noted.borrow().len() == 12;
            Ok(if is_last {
                Then::Done
            } else {
                Then::After(SECOND)
            })
        });
        let mut told = Told::new();
        reactor.run(&mut told).unwrap();
        assert_eq!(*ticks.borrow(), (1..=12).collect::<Vec<_>>());
        for (time, answer) in told {
            assert_eq!(answer, Err(ErrorKind::TimedOut));
            assert_eq!(time.as_secs(), 10);
        }
        // The threads are occupied until the system gives up.
        let time = answers(&resolver, &["localhost:80"]);
        assert_eq!(time[0].1, Err(ErrorKind::TimedOut));
    });
}

#[test]
fn a_lookup_beyond_the_threads_waits_for_one_of_them() {
    let mut faults = Faults::none();
    faults.lookup_time = SECOND..SECOND;
    Seeds::new(0..50).faults(faults).check(|| {
        let resolver = Resolver::builder().max_threads(2).build();
        let times: Vec<u64> = answers(&resolver, &["localhost:80"; 5])
            .into_iter()
            .map(|(time, answer)| {
                assert!(answer.is_ok());
                time.as_secs()
            })
            .collect();
        assert_eq!(times, [1, 1, 2, 2, 3]);
    });
}

#[test]
fn an_answer_that_came_while_the_loop_was_busy_wins() {
    let mut faults = Faults::none();
    faults.lookup_time = SECOND..SECOND;
    Seeds::new(0..50).faults(faults).check(|| {
        let mut reactor = Reactor::<Told>::new().unwrap();
        resolve(&Resolver::default(), &mut reactor, "localhost:80");
        reactor.after(SECOND / 2, |_cx| {
            simulation::sleep(60 * SECOND); // the threads go on
            Ok(Then::Done)
        });
        let mut told = Told::new();
        reactor.run(&mut told).unwrap();
        assert!(told[0].1.is_ok(), "{told:?}");
        assert_eq!(told[0].0.as_secs(), 60);
    });
}

#[test]
fn an_answer_that_came_while_the_process_was_stopped_wins() {
    let mut faults = Faults::none();
    faults.lookup_time = SECOND..SECOND;
    Seeds::new(0..200).faults(faults).check(|| {
        let daemon = simulation::process("daemon", || {
            let told = answers(&Resolver::default(), &["localhost:80"]);
            assert!(told[0].1.is_ok(), "{told:?}");
            assert_eq!(told[0].0.as_secs(), 60);
        });
        simulation::sleep(SECOND / 2);
        daemon.stop(60 * SECOND);
        daemon.join();
    });
}

#[test]
fn whatever_happens_each_lookup_is_answered_once_and_in_time() {
    Seeds::new(0..300).faults(Faults::all()).check(|| {
        let threads = simulation::random(4) as usize;
        let resolver = Resolver::builder()
            .max_threads(threads)
            .max_waiting(simulation::random(8) as usize)
            .build();
        let names = ["localhost:80", "none.example:80", "127.0.0.1:80"];
        let drawn: Vec<&str> = (0..simulation::random(12))
            .map(|_| names[simulation::random(3) as usize])
            .collect();
        for (_, answer) in answers(&resolver, &drawn) {
            let known = [
                ErrorKind::NotFound,
                ErrorKind::HostUnreachable,
                ErrorKind::TimedOut,
                ErrorKind::QuotaExceeded,
            ];
            assert!(
                answer
                    .as_ref()
                    .map_or_else(|kind| known.contains(kind), |_| true),
                "{answer:?}"
            );
        }
    });
}

#[test]
fn a_lookup_function_of_the_user_runs_on_a_simulated_thread() {
    Seeds::new(0..50).faults(Faults::none()).check(|| {
        let resolver = Resolver::builder()
            .max_threads(1)
            .lookup(|host, service| {
                simulation::sleep(SECOND);
                match host {
                    "fails.example" => Err(ErrorKind::NotFound.into()),
                    "panics.example" => panic!("it panics"),
                    _ => Resolver::system_lookup("localhost", service),
                }
            })
            .build();
        let names = ["a.example:1", "fails.example:1", "panics.example:1"];
        let told = answers(&resolver, &names);
        let times: Vec<u64> = told.iter().map(|(time, _)| time.as_secs()).collect();
        assert_eq!(times, [1, 2, 3]);
        assert_eq!(told[0].1, Ok(vec!["127.0.0.1:1".parse().unwrap()]));
        assert_eq!(told[1].1, Err(ErrorKind::NotFound));
        assert_eq!(told[2].1, Err(ErrorKind::Other));
    });
}

/// Notes the calls that a connection gets.
#[derive(Default)]
struct Notes(Rc<RefCell<Vec<&'static str>>>);

impl ConnectionHandler<Told> for Notes {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, Told>,
        _cx: &mut Context<'_, Told>,
    ) -> io::Result<()> {
        connection.close_after_flush(SECOND);
        self.0.borrow_mut().push("open");
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        _connection: &mut Connection<'_, Told>,
        _cx: &mut Context<'_, Told>,
    ) -> io::Result<usize> {
        Ok(data.len())
    }

    fn on_close(&mut self, _reason: CloseReason, _cx: &mut Context<'_, Told>) {
        self.0.borrow_mut().push("close");
    }
}

#[test]
fn a_connection_to_a_name_opens_at_most_once_and_ends_once() {
    let opened = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&opened);
    let mut faults = Faults::all();
    faults.out_of_descriptors = 0; // the server could not begin
    Seeds::new(0..200).faults(faults).check(move || {
        set_name("db.example", [ip("192.0.2.1"), ip("::1"), ip("127.0.0.1")]);
        let server = Daemon::start("server", |reactor| {
            let listener = ListenOptions::new().bind(&"127.0.0.1:7777".parse()?)?;
            let key = listener.serve(reactor, &ConnectionOptions::new(), |_peer, _cx| {
                Ok(on_data(|data, _connection, _cx| Ok(data.len())))
            })?;
            Ok(((), key))
        });
        let notes = Rc::new(RefCell::new(Vec::new()));
        let noted = Rc::clone(&notes);
        let cancels = simulation::random(2) == 0;
        let client = simulation::process("client", move || {
            let mut reactor = Reactor::<Told>::new().unwrap();
            let began = now();
            let connecting = Connection::connect_to(
                &mut reactor,
                "db.example:7777".parse::<Target>().unwrap(),
                &ConnectionOptions::new().connect_timeout(20 * SECOND),
                Notes(noted),
            );
            let after = Duration::from_millis(simulation::random(10_000));
            if cancels {
                reactor.after(after, move |cx| {
                    connecting.cancel(cx.registry);
                    cx.registry.stop();
                    Ok(Then::Done)
                });
            }
            reactor.run(&mut Told::new()).unwrap();
            now() - began
        });
        let took = client.join();
        let notes = notes.take();
        assert!(cancels || took < 300 * SECOND, "{took:?}");
        assert!(
            matches!(notes[..], ["close"] | ["open", "close"] | ["open"] | []),
            "{notes:?}"
        );
        let is_open = notes.first() == Some(&"open");
        counted.fetch_add(usize::from(is_open), Ordering::Relaxed);
        server.end(|server, cx| server.stop(cx.registry, SECOND));
    });
    let opened = opened.load(Ordering::Relaxed);
    assert!(opened > 20, "{opened} of 200");
}

#[test]
fn a_daemon_ends_in_its_grace_while_lookups_hang() {
    let mut faults = Faults::none();
    faults.hung_lookups = 1;
    Seeds::new(0..50).faults(faults).check(|| {
        let daemon = Daemon::start("daemon", |reactor| {
            let listener = ListenOptions::new().bind(&"127.0.0.1:7777".parse()?)?;
            let key = listener.serve(reactor, &ConnectionOptions::new(), |_peer, cx| {
                let (client_side, server_side) = Relay::pair();
                let target: Target = "localhost:7778".parse()?;
                let options = ConnectionOptions::new()
                    .resolver(Resolver::builder().timeout(None).build())
                    .connect_timeout(None);
                client_side.gives_up(Connection::connect_to(
                    cx.registry,
                    target,
                    &options,
                    server_side,
                ));
                Ok(client_side)
            })?;
            Ok(((), key))
        });
        let clients: Vec<_> = (0..3)
            .map(|_| Peer::connect(([127, 0, 0, 1], 7777).into()).unwrap())
            .collect();
        simulation::sleep(SECOND);
        let began = now();
        daemon.end(|server, cx| server.stop(cx.registry, 2 * SECOND));
        assert!(now() - began < 3 * SECOND, "{:?}", now() - began);
        drop(clients);
    });
}

#[test]
fn the_same_seed_leads_to_the_same_lookups() {
    let run = |seed| {
        Simulation::new(seed).faults(Faults::all()).run(|| {
            answers(&Resolver::default(), &["localhost:80"; 20]);
        })
    };
    for seed in 0..20 {
        let (first, second) = (run(seed), run(seed));
        assert!(first.outcome.is_ok(), "{first:?}");
        assert_eq!(first.hash, second.hash);
    }
}
