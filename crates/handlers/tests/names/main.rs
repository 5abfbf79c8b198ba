//! Lookups of names: their answers on the loop, their limits, their ends.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod connecting;
mod ends;
mod errors;
mod limits;
mod system;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use handlers::{Lookup, Resolver, ResolverBuilder, Target};
use reactor::{LoopPool, ManualClock, Reactor, ReasonToRun, Registry};
use support::{PATIENCE, Result, run_out, turn_until};

type Answer = io::Result<Vec<SocketAddr>>;

/// The answers that callbacks got, by name: addresses, or the text of an error.
#[derive(Debug, Default)]
struct Told(Vec<(String, std::result::Result<Vec<SocketAddr>, String>)>);

impl Told {
    /// Returns the kinds of answers: `true` for addresses.
    fn names(&self) -> Vec<(&str, bool)> {
        let told = self.0.iter();
        told.map(|(name, answer)| (name.as_str(), answer.is_ok()))
            .collect()
    }

    /// Returns the text of the only error.
    #[track_caller]
    fn error(&self) -> &str {
        match &self.0[..] {
            [(_, Err(text))] => text,
            told => panic!("{told:?}"),
        }
    }
}

/// Looks up a name, and notes the answer.
fn resolve(resolver: &Resolver, registry: &mut Registry<Told>, name: &str) -> Lookup<Told> {
    let key = name.to_owned();
    resolver.resolve(registry, &target(name), move |answer, cx| {
        let answer = answer.map_err(|error| error.to_string());
        cx.state.0.push((key, answer));
    })
}

fn target(text: &str) -> Target {
    text.parse().unwrap()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The other side of a lookup function that answers when it is told to.
struct Held {
    /// The hosts whose lookups have begun.
    begun: Receiver<String>,
    /// Ends one lookup that has begun, or the next one. All end when this is dropped.
    answers: Sender<Answer>,
}

impl Held {
    /// Waits until lookups of these hosts have begun, in this order.
    #[track_caller]
    fn expect_begun(&self, hosts: &[&str]) {
        for host in hosts {
            assert_eq!(self.begun.recv_timeout(PATIENCE).as_deref(), Ok(*host));
        }
    }
}

/// Replaces the lookup function by one that answers when it is told to.
fn held(builder: ResolverBuilder) -> (Resolver, Held) {
    let (begins, begun) = channel();
    let (answers, answered) = channel::<Answer>();
    let answered = Mutex::new(answered);
    let resolver = builder
        .lookup(move |host, _service| {
            let _ = begins.send(host.to_owned());
            let answer = answered.lock().unwrap().recv();
            answer.unwrap_or_else(|_| Err(io::Error::other("no answer")))
        })
        .build();
    (resolver, Held { begun, answers })
}

/// Returns a loop on a clock that does not advance by itself.
fn still() -> Result<(Reactor<Told>, ManualClock)> {
    let clock = ManualClock::new();
    let reactor = Reactor::builder().clock(clock.clone()).build()?;
    Ok((reactor, clock))
}

#[test]
fn a_name_is_looked_up_elsewhere_and_answered_on_the_loop() -> Result {
    let (asks, asked) = channel();
    let resolver = Resolver::builder()
        .lookup(move |host, service| {
            asks.send((host.to_owned(), service.to_owned(), thread::current().id()))
                .unwrap();
            Ok(vec![address("192.0.2.1:80"), address("[2001:db8::1]:80")])
        })
        .build();
    let mut reactor = Reactor::<Vec<SocketAddr>>::new()?;
    let own = thread::current().id();
    let on_the_loop = Rc::new(()); // is not `Send`
    let lookup = resolver.resolve(
        &mut reactor,
        &target("db.example:http"),
        move |found, cx| {
            assert_eq!(thread::current().id(), own);
            assert_eq!(Rc::strong_count(&on_the_loop), 1);
            cx.state.extend(found.unwrap());
        },
    );
    let mut found = Vec::new();
    assert!(lookup.is_pending());
    run_out(&mut reactor, &mut found)?;
    assert!(!lookup.is_pending());
    assert_eq!(
        found,
        [address("192.0.2.1:80"), address("[2001:db8::1]:80")]
    );
    let (host, service, thread) = asked.recv()?;
    assert_eq!((&host[..], &service[..]), ("db.example", "http"));
    assert_ne!(thread, own);
    Ok(())
}

#[test]
fn an_address_needs_no_thread_and_is_answered_later() -> Result {
    let resolver = Resolver::builder()
        .lookup(|host, _service| panic!("{host} was looked up"))
        .build();
    let mut reactor = Reactor::<Told>::new()?;
    resolve(&resolver, &mut reactor, "192.0.2.1:80");
    resolve(&resolver, &mut reactor, "[fe80::1%lo]:80");
    let mut told = Told::default();
    reactor.turn(&mut told, Some(Duration::ZERO))?;
    let loopback = Resolver::system_lookup("fe80::1%lo", "80")?;
    let expected = [
        ("192.0.2.1:80".to_owned(), Ok(vec![address("192.0.2.1:80")])),
        ("[fe80::1%lo]:80".to_owned(), Ok(loopback)),
    ];
    assert_eq!(told.0, expected);
    assert!(
        format!("{resolver:?}").contains("threads: 0"),
        "{resolver:?}"
    );
    Ok(())
}

#[test]
fn an_address_that_is_found_twice_is_returned_once() -> Result {
    let found = ["192.0.2.2:1", "192.0.2.1:1", "192.0.2.2:1", "192.0.2.1:2"].map(address);
    let resolver = Resolver::builder()
        .lookup(move |_host, _service| Ok(found.to_vec()))
        .build();
    let mut reactor = Reactor::<Told>::new()?;
    resolve(&resolver, &mut reactor, "db.example:1");
    let mut told = Told::default();
    run_out(&mut reactor, &mut told)?;
    assert_eq!(
        told.0[0].1.as_deref(),
        Ok(&[found[0], found[1], found[3]][..])
    );
    Ok(())
}

#[test]
fn a_pending_lookup_is_a_reason_to_run_with_its_name() -> Result {
    let (resolver, held) = held(Resolver::builder());
    let mut reactor = Reactor::<Told>::new()?;
    let line = line!() + 1;
    resolver.resolve(&mut reactor, &target("db.example:1"), |_answer, _cx| ());
    let reasons: Vec<_> = reactor.reasons_to_run().collect();
    let [ReasonToRun::Source(lookup)] = reasons[..] else {
        panic!("{reasons:?}")
    };
    assert_eq!(lookup.name, "lookup of db.example:1");
    assert_eq!(lookup.origin.line(), line);
    let timer = reactor.timers().next().ok_or("a time limit")?;
    assert_eq!(timer.origin.line(), line);
    drop(held);
    run_out(&mut reactor, &mut Told::default())?;
    assert_eq!(reactor.timers().count(), 0);
    assert!(reactor.is_empty());
    Ok(())
}

#[test]
fn one_resolver_serves_several_loops() -> Result {
    let resolver = Resolver::builder()
        .max_threads(1)
        .lookup(|host, _service| Ok(vec![address(&format!("{host}:80"))]))
        .build();
    let loops = LoopPool::spawn(3, "loop-", move |number, registry| {
        resolve(&resolver, registry, &format!("127.0.0.{number}:http"));
        Ok(Told::default())
    })?;
    for (number, told) in loops.join()?.into_iter().enumerate() {
        let address = address(&format!("127.0.0.{number}:80"));
        assert_eq!(told.0[0].1.as_deref(), Ok(&[address][..]));
    }
    Ok(())
}

#[test]
fn a_lookup_that_hangs_holds_up_neither_the_loop_nor_others() -> Result {
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let resolver = Resolver::builder()
        .max_threads(2)
        .lookup(move |host, _service| {
            if host == "hangs.example" {
                let _ = released.lock().unwrap().recv();
            }
            Ok(vec![address("192.0.2.1:80")])
        })
        .build();
    let (mut reactor, clock) = still()?;
    let mut told = Told::default();
    resolve(&resolver, &mut reactor, "hangs.example:80");
    for number in 0..10 {
        resolve(&resolver, &mut reactor, &format!("db{number}.example:80"));
    }
    turn_until(&mut reactor, &mut told, |told| told.0.len() == 10)?;
    assert!(
        told.names()
            .iter()
            .all(|(name, found)| name.starts_with("db") && *found)
    );

    clock.advance(Duration::from_millis(9_999));
    reactor.turn(&mut told, Some(Duration::ZERO))?;
    assert_eq!(told.0.len(), 10);
    clock.advance(Duration::from_millis(1));
    reactor.turn(&mut told, Some(Duration::ZERO))?;
    assert_eq!(told.names()[10], ("hangs.example:80", false));
    run_out(&mut reactor, &mut told)?; // although the thread is occupied
    drop(reactor);
    drop(release);
    Ok(())
}
