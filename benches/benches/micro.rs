//! The cost of single operations of this library, through the public interface. Run
//! `cargo bench -p benches`, with a name after it to select some of them.
//!
//! Operations of a loop are measured within its turns. If a turn does only one of them, the figure
//! includes the cost of that turn.

#![expect(
    clippy::expect_used,
    reason = "no call here should fail, and only a panic would report a failure"
)]
#![allow(
    missing_docs,
    reason = "criterion_group makes a public function without docs"
)]

use std::hint::black_box;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use handlers::{ConnectionOptions, Framing, Lines, on_data};
use reactor::{
    Capacity, Context, Event, EventFd, Interest, Next, Reactor, Then, notification_queue,
};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The number of operations in one turn, if a turn has several.
const A_TURN: u64 = 100;
const MINUTE: Duration = Duration::from_secs(60);

fn turn<S>(reactor: &mut Reactor<S>, state: &mut S) {
    reactor.turn(state, Some(Duration::ZERO)).expect("a turn");
}

/// Returns the time that `action` takes for this many operations, in turns of [`A_TURN`]
/// operations.
fn in_turns(times: u64, mut action: impl FnMut(u64)) -> Duration {
    let began = Instant::now();
    (0..times.div_ceil(A_TURN)).for_each(|round| action(A_TURN.min(times - round * A_TURN)));
    began.elapsed()
}

fn sources(criterion: &mut Criterion) {
    let mut reactor = Reactor::<()>::new().expect("a loop");
    criterion.bench_function("add and remove an eventfd", |bencher| {
        bencher.iter(|| {
            let source = EventFd::counter(0).expect("an eventfd");
            let key = reactor
                .add(source, Interest::READABLE, |_, _| Ok(Next::Keep))
                .expect("room");
            reactor.remove(key).expect("the key is valid");
            turn(&mut reactor, &mut ());
        });
    });
    let source = EventFd::counter(0).expect("an eventfd");
    let key = reactor
        .add(source, Interest::READABLE, |_, _| Ok(Next::Keep))
        .expect("room");
    criterion.bench_function("set_interest, cleared and set", |bencher| {
        bencher.iter(|| {
            reactor
                .set_interest(key, Interest::NONE)
                .expect("the key is valid");
            reactor
                .set_interest(key, Interest::READABLE)
                .expect("the key is valid");
        });
    });
}

fn deferred(criterion: &mut Criterion) {
    let (mut reactor, mut sum) = (Reactor::<u64>::new().expect("a loop"), 0);
    criterion.bench_function("defer, nothing captured", |bencher| {
        bencher.iter_custom(|times| {
            in_turns(times, |callbacks| {
                (0..callbacks).for_each(|_| _ = reactor.defer(|cx| *cx.state += 1));
                turn(&mut reactor, &mut sum);
            })
        });
    });
    criterion.bench_function("defer, two numbers captured", |bencher| {
        bencher.iter_custom(|times| {
            in_turns(times, |callbacks| {
                (0..callbacks).for_each(|number| {
                    let pair = (number, times);
                    reactor.defer(move |cx| *cx.state += pair.0 ^ pair.1);
                });
                turn(&mut reactor, &mut sum);
            })
        });
    });
}

fn timers(criterion: &mut Criterion) {
    let mut reactor = Reactor::<()>::new().expect("a loop");
    criterion.bench_function("a timer armed and cancelled", |bencher| {
        bencher.iter(|| {
            let timer = reactor.after(MINUTE, |_| Ok(Then::Done));
            reactor.cancel(timer).expect("the key is valid");
        });
    });
    let timer = reactor.after(MINUTE, |_| Ok(Then::Done));
    criterion.bench_function("a timer re-armed for later", |bencher| {
        bencher.iter(|| {
            reactor
                .reset(black_box(timer), MINUTE)
                .expect("the key is valid")
        });
    });
    criterion.bench_function("a timer armed and run", |bencher| {
        bencher.iter_custom(|times| {
            in_turns(times, |timers| {
                for _ in 0..timers {
                    reactor.after(Duration::ZERO, |_| Ok(Then::Done));
                }
                turn(&mut reactor, &mut ());
            })
        });
    });
}

fn messages(criterion: &mut Criterion) {
    let (mut reactor, mut sum) = (Reactor::<u64>::new().expect("a loop"), 0);
    let (sender, receiver) = notification_queue(Capacity::Unbounded);
    let add = |value: Option<u64>, cx: &mut Context<'_, u64>| {
        *cx.state += value.unwrap_or(0);
        Ok(Next::Keep)
    };
    reactor.consume(receiver, add).expect("an eventfd");
    criterion.bench_function("a value sent and consumed, on one thread", |bencher| {
        bencher.iter_custom(|times| {
            in_turns(times, |values| {
                (0..values).for_each(|value| sender.try_send(value).expect("the receiver exists"));
                turn(&mut reactor, &mut sum);
            })
        });
    });
    let remote = reactor.remote().expect("an eventfd");
    criterion.bench_function("a closure posted and run, on one thread", |bencher| {
        bencher.iter_custom(|times| {
            in_turns(times, |closures| {
                (0..closures).for_each(|value| {
                    remote
                        .post(move |cx| *cx.state += value)
                        .expect("the loop exists")
                });
                turn(&mut reactor, &mut sum);
            })
        });
    });
}

fn events(criterion: &mut Criterion) {
    let event = Event::auto_reset();
    criterion.bench_function("an event set and waited for", |bencher| {
        bencher.iter(|| {
            event.set();
            assert!(event.wait(Some(Duration::ZERO)));
        });
    });
    let unset = Event::manual_reset();
    criterion.bench_function("a wait for any of two events", |bencher| {
        bencher.iter(|| {
            event.set();
            assert_eq!(
                Event::wait_any(&[&unset, &event], Some(Duration::ZERO)),
                Some(1)
            );
        });
    });
}

fn framing(criterion: &mut Criterion) {
    let text = "GET /index.html HTTP/1.1 and a little more of it\r\n".repeat(100);
    criterion.bench_function("100 lines of 48 bytes", |bencher| {
        let mut lines = Lines::new(1024);
        bencher.iter(|| {
            let found = lines
                .frames(black_box(text.as_bytes()))
                .filter(|line| line.is_ok())
                .count();
            assert_eq!(found, 100);
        });
    });
}

/// Measures a connection that answers each message in pieces of 16 bytes.
fn connections(criterion: &mut Criterion) {
    let answer_in_pieces = || -> Result<(Reactor<()>, UnixStream)> {
        let mut reactor = Reactor::<()>::new()?;
        let (ours, theirs) = UnixStream::pair()?;
        let handler = on_data(|data, connection, _cx: &mut Context<'_, ()>| {
            for piece in data.chunks(16) {
                let _ = connection.write(piece)?;
            }
            Ok(data.len())
        });
        handlers::Connection::open(&mut reactor, ours, &ConnectionOptions::new(), handler)?;
        Ok((reactor, theirs))
    };
    criterion.bench_function(
        "256 bytes to a connection, and back in 16 writes",
        |bencher| {
            use std::io::{Read, Write};
            let (mut reactor, mut peer) = answer_in_pieces().expect("a connection");
            let mut message = [7; 256];
            bencher.iter(|| {
                peer.write_all(&message).expect("the socket has room");
                turn(&mut reactor, &mut ());
                peer.read_exact(&mut message)
                    .expect("all bytes arrive in one turn");
            });
        },
    );
}

criterion_group! {
    name = parts;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800));
    targets = sources, deferred, timers, messages, events, framing, connections
}
criterion_main!(parts);
