//! Lookups: their callbacks, and the threads of the resolver.

use std::io::{self, ErrorKind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use handlers::{Connection, ConnectionOptions, Resolver, Target};
use reactor::Reactor;
use support::{Result, listen, run_out};

use crate::{App, check, closing, current, note, noting, request, within};

/// The requests that were current on the threads of a resolver.
type OnThread = Arc<Mutex<Vec<Option<u32>>>>;

/// Returns a resolver with one thread, which answers all names when the sender was dropped.
fn held() -> (Resolver, Sender<()>, OnThread) {
    let (release, held): (_, Receiver<()>) = channel();
    let (held, on_thread) = (Mutex::new(held), OnThread::default());
    let log = Arc::clone(&on_thread);
    let resolver = Resolver::builder()
        .max_threads(1)
        .lookup(move |_host, service| {
            log.lock().unwrap().push(current());
            let _ = held.lock().unwrap().recv();
            match service.parse() {
                Ok(port) => Ok(vec![([127, 0, 0, 1], port).into()]),
                Err(_) => Err(io::Error::from(ErrorKind::InvalidInput)),
            }
        })
        .build();
    (resolver, release, on_thread)
}

fn target(name: &str) -> Target {
    name.parse().unwrap()
}

#[test]
fn each_answer_of_a_lookup_comes_in_its_request() {
    check(&["address", "name", "error"], |reactor| {
        let (resolver, release, _) = held();
        drop(release);
        for (what, name) in [
            ("address", "192.0.2.1:80"),
            ("name", "db.example:80"),
            ("error", "db.example:none"),
        ] {
            resolver.resolve(reactor, &target(name), move |answer, cx| {
                assert_eq!(answer.is_err(), what == "error");
                note(what, cx);
            });
        }
        Ok(())
    });
}

#[test]
fn a_thread_that_looks_up_serves_no_request() -> Result {
    let (resolver, release, on_thread) = held();
    let mut reactor = Reactor::<App>::new()?;
    let (context, kept) = request(1);
    let name = target("db.example:80");
    context.scope(|| resolver.resolve(&mut reactor, &name, |_, cx| note("first", cx)));
    let second = within(2, || {
        resolver.resolve(&mut reactor, &name, |_, cx| note("second", cx))
    });
    resolver.resolve(&mut reactor, &name, |_, cx| note("third", cx));
    let (cancelled, kept_by_cancelled) = request(3);
    let lookup = cancelled.scope(|| resolver.resolve(&mut reactor, &name, |_, _| ()));
    drop((context, cancelled));
    kept_by_cancelled.expect_kept();
    lookup.cancel(&mut reactor);
    kept_by_cancelled.expect_dropped("after the cancellation");
    kept.expect_kept();
    drop(release);
    let mut app = App::default();
    run_out(&mut reactor, &mut app)?;
    let expected = [("first", Some(1)), ("second", Some(2)), ("third", None)];
    assert_eq!(app.seen, expected);
    assert_eq!(*on_thread.lock().unwrap(), [None; 3]);
    kept.expect_dropped("although the thread waits for more");
    drop(second);
    Ok(())
}

#[test]
fn a_connection_to_a_name_opens_in_the_request_that_connects() -> Result {
    let (_listener, address) = listen("127.0.0.1:0")?;
    check(&["open", "metrics", "close"], |reactor| {
        let (resolver, release, _) = held();
        drop(release);
        let name = target(&format!("db.example:{}", address.port()));
        let options = ConnectionOptions::new().resolver(resolver);
        Connection::connect_to(reactor, name, &options, closing());
        Ok(())
    });
    let unknown = target("db.example:none");
    check(&["close"], |reactor| {
        let (resolver, release, _) = held();
        drop(release);
        let options = ConnectionOptions::new().resolver(resolver);
        Connection::connect_to(reactor, unknown.clone(), &options, noting());
        Ok(())
    });
    Ok(())
}
