//! The descriptors that are open after each kind of life.

use std::future::pending;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use handlers::futures::{self, Async};
use reactor::{PanicPolicy, Reactor};

use super::{Result, count_open, expect_open, run};

#[test]
fn no_descriptor_is_left_open_by_a_task_however_it_ends() -> Result {
    run("lives")
}

/// How a task ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Returns,
    Panics,
    PanicsInCallback,
    IsCancelled,
    LosesItsLoop,
}

const ENDS: [End; 5] = [
    End::Returns,
    End::Panics,
    End::PanicsInCallback,
    End::IsCancelled,
    End::LosesItsLoop,
];

/// Holds sources that wait in each direction, and one that was taken back.
async fn live(end: End) {
    let (near, far) = UnixStream::pair().expect("a pair");
    let (near, mut far) = (
        Async::new(near).expect("a source"),
        Async::new(far).expect("a source"),
    );
    let (taken, _peer) = UnixStream::pair().expect("a pair");
    let taken = Async::new(taken).expect("a source");
    assert!(future::poll_once(taken.readable()).await.is_none());
    let _taken = taken.into_inner().await;
    let (mut reader, mut bytes) = (&near, [0; 1]);
    let reads = reader.read(&mut bytes);
    let fills = vec![0; 1 << 20];
    let writes = async {
        future::poll_once((&near).write_all(&fills)).await;
        futures::yield_now().await;
    };
    future::or(async { drop(reads.await) }, writes).await;
    assert!(future::poll_once(far.write_all(&fills)).await.is_none());
    assert!(end != End::Panics, "as the test wants");
    if !matches!(end, End::Returns | End::PanicsInCallback) {
        pending::<()>().await;
    }
}

fn live_and_end(reactor: &mut Reactor<()>, end: End) {
    let then = move |(), _cx: &mut reactor::Context<'_, ()>| {
        assert!(end != End::PanicsInCallback, "as the test wants");
    };
    let task = futures::spawn(reactor, live(end), then).expect("a task");
    for _ in 0..10 {
        let turn = AssertUnwindSafe(|| crate::turn(reactor, &mut ()));
        let _propagated = catch_unwind(turn);
    }
    match end {
        End::IsCancelled => task.cancel(reactor).expect("it lives"),
        End::LosesItsLoop => return,
        End::Returns | End::Panics | End::PanicsInCallback => {}
    }
    (0..3).for_each(|_| crate::turn(reactor, &mut ()));
    assert_eq!(reactor.len(), 1, "the queue of the tasks");
}

pub(super) fn case() -> Result {
    let before = count_open();
    for policy in [PanicPolicy::RemoveHandler, PanicPolicy::Propagate] {
        for end in ENDS {
            let mut reactor = Reactor::builder().on_panic(policy).build()?;
            futures::block_on(&mut reactor, &mut (), async {})?; // makes the eventfd
            let of_loop = count_open();
            for _ in 0..3 {
                live_and_end(&mut reactor, end);
                if end != End::LosesItsLoop {
                    expect_open(of_loop, &format!("{end:?}, {policy:?}"));
                }
            }
            drop(reactor);
            expect_open(before, &format!("{end:?}, {policy:?}"));
        }
    }
    Ok(())
}
