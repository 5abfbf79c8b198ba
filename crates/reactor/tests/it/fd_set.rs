//! Several descriptors as one source.

use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use reactor::{FdSet, Interest, Next, Reactor};

struct Many {
    pipes: Vec<PipeReader>,
    set: FdSet,
}

impl AsFd for Many {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.set.as_fd()
    }
}

fn many(count: u64) -> (Many, Vec<io::PipeWriter>) {
    let set = FdSet::new().unwrap();
    let (pipes, writers): (Vec<_>, _) = (0..count).map(|_| io::pipe().unwrap()).unzip();
    for (token, pipe) in (0..).zip(&pipes) {
        set.add(pipe, Interest::READABLE, token).unwrap();
    }
    (Many { pipes, set }, writers)
}

#[test]
fn a_handler_that_leaves_something_is_called_again_and_then_sleeps() {
    let (many, mut writers) = many(3);
    let mut reactor = Reactor::<Vec<u64>>::new().unwrap();
    // Each call reads one byte of one descriptor.
    reactor
        .add(many, Interest::READABLE, |many, cx| {
            let ready = many.try_io(Interest::READABLE, |many| many.set.ready(1))?;
            many.get_mut().pipes[ready[0].0 as usize].read_exact(&mut [0])?;
            cx.state.push(ready[0].0);
            Ok(Next::Keep)
        })
        .unwrap();
    let mut read = Vec::new();
    for round in 0..3 {
        writers
            .iter_mut()
            .for_each(|writer| writer.write_all(b"xy").unwrap());
        for _ in 0..20 {
            reactor.turn(&mut read, Some(Duration::ZERO)).unwrap();
        }
        read.sort_unstable();
        assert_eq!(
            std::mem::take(&mut read),
            [0, 0, 1, 1, 2, 2],
            "round {round}"
        );
        let calls = reactor.metrics().calls;
        for _ in 0..20 {
            reactor.turn(&mut read, Some(Duration::ZERO)).unwrap();
        }
        assert_eq!(
            reactor.metrics().calls,
            calls,
            "nothing is ready, and nothing is called"
        );
    }
}

#[test]
fn descriptors_are_added_removed_and_changed_in_their_interest() {
    let (many, mut writers) = many(2);
    assert_eq!(many.set.ready(8).unwrap_err().kind(), ErrorKind::WouldBlock);
    writers[0].write_all(b"x").unwrap();
    writers[1].write_all(b"x").unwrap();
    assert_eq!(
        many.set.ready(0).unwrap().len(),
        1,
        "one at least is looked for"
    );
    assert_eq!(many.set.ready(usize::MAX).unwrap().len(), 2);
    many.set
        .set_interest(&many.pipes[0], Interest::NONE, 7)
        .unwrap();
    many.set.remove(&many.pipes[1]).unwrap();
    assert_eq!(many.set.ready(8).unwrap_err().kind(), ErrorKind::WouldBlock);
    many.set
        .set_interest(&many.pipes[0], Interest::READABLE, 7)
        .unwrap();
    let (token, readiness) = many.set.ready(8).unwrap()[0];
    assert!(token == 7 && readiness.is_readable());
}

#[test]
fn a_refusal_of_the_kernel_is_an_error_with_the_call_and_the_errno() {
    let set = FdSet::new().unwrap();
    let (reader, writer) = io::pipe().unwrap();
    set.add(&reader, Interest::READABLE, 0).unwrap();
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let refused = [
        (set.add(&reader, Interest::READABLE, 0), "EEXIST", 17),
        (set.add(&file, Interest::READABLE, 0), "EPERM", 1),
        (set.remove(&writer), "ENOENT", 2),
        (
            set.set_interest(&writer, Interest::WRITABLE, 0),
            "ENOENT",
            2,
        ),
    ];
    for (result, name, errno) in refused {
        let error = result.unwrap_err();
        assert_eq!(reactor::errno(&error), Some(errno), "{name}: {error}");
        assert!(error.to_string().starts_with("epoll_ctl("), "{error}");
    }
}
