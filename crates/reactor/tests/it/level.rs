//! Level semantics: a handler is called while its source is ready and of interest.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use reactor::{Interest, Next, Reactor, Readiness};

use crate::{Result, readable, tcp_pair, turn_now, turn_until};

#[test]
fn a_handler_that_reads_100_of_350_bytes_gets_100_100_100_and_50() -> Result {
    let (near, mut far) = tcp_pair()?;
    far.write_all(&[7; 350])?;
    let mut reactor = Reactor::<Vec<usize>>::new()?;
    reactor.add(near, Interest::READABLE, |near, cx| {
        let n = near.read(&mut [0; 100])?;
        cx.state.push(n);
        Ok(Next::Keep)
    })?;
    let mut read = Vec::new();
    turn_until(&mut reactor, &mut read, |read| read.len() == 4);
    assert_eq!(read, [100, 100, 100, 50]);
    let (timeout, began) = (Duration::from_millis(5), Instant::now());
    assert_eq!(
        reactor.turn(&mut read, Some(timeout))?,
        0,
        "the short read has told that there is no more"
    );
    assert!(began.elapsed() >= timeout, "it did not sleep");
    Ok(())
}

#[test]
fn a_writer_that_stays_writable_is_called_once_a_turn() -> Result {
    let (near, _far) = UnixStream::pair()?;
    let mut reactor = Reactor::<u32>::new()?;
    reactor.add(near, Interest::WRITABLE, |_, cx| {
        *cx.state += 1;
        Ok(Next::Keep)
    })?;
    let mut calls = 0;
    for turn in 1..=5 {
        reactor.turn(&mut calls, None)?;
        assert_eq!(calls, turn);
    }
    Ok(())
}

#[test]
fn a_queued_source_with_an_event_in_the_same_turn_is_called_once() -> Result {
    let mut reactor = Reactor::<u32>::new()?;
    let (near, mut far) = UnixStream::pair()?;
    let writer = reactor.add(near, Interest::WRITABLE, |_, cx| {
        *cx.state += 1;
        Ok(Next::Keep)
    })?;
    let mut calls = 0;
    assert_eq!(turn_now(&mut reactor, &mut calls), 1);
    reactor.set_interest(writer, Interest::NONE)?; // the source stays writable
    assert_eq!(turn_now(&mut reactor, &mut calls), 0);
    let (near, mut waker) = UnixStream::pair()?;
    reactor.add(near, Interest::READABLE, move |near, cx| {
        assert_eq!(near.read(&mut [0; 2])?, 1);
        cx.registry
            .set_interest(writer, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Next::Keep)
    })?;
    reactor.set_interest(writer, Interest::READABLE)?;
    waker.write_all(b"x")?;
    let before = calls;
    for turn in 1..=3 {
        far.write_all(b"x")?; // from the second turn on the source is queued before its event comes
        turn_now(&mut reactor, &mut calls);
        assert_eq!(calls, before + turn);
    }
    Ok(())
}

#[test]
fn read_and_write_that_are_ready_together_come_in_one_call() -> Result {
    let (near, _far) = readable()?;
    let mut reactor = Reactor::<Vec<Readiness>>::new()?;
    reactor.add(near, Interest::READABLE | Interest::WRITABLE, |_, cx| {
        cx.state.push(cx.readiness());
        Ok(Next::Remove)
    })?;
    let mut calls = Vec::new();
    reactor.run(&mut calls)?;
    assert_eq!(calls.len(), 1);
    assert!(calls[0].is_readable() && calls[0].is_writable());
    assert!(!calls[0].is_read_closed() && !calls[0].is_write_closed() && !calls[0].is_error());
    Ok(())
}

#[test]
fn connections_that_are_accepted_one_a_call_are_all_accepted() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let _clients: Vec<_> = (0..5)
        .map(|_| TcpStream::connect(address))
        .collect::<io::Result<_>>()?;
    let mut reactor = Reactor::<u32>::new()?;
    reactor.add(listener, Interest::READABLE, |listener, cx| {
        listener.try_io(Interest::READABLE, |listener| listener.accept())?;
        *cx.state += 1;
        Ok(Next::Keep)
    })?;
    let mut accepted = 0;
    turn_until(&mut reactor, &mut accepted, |accepted| *accepted == 5);
    Ok(())
}

#[test]
fn a_full_pipe_is_written_again_when_its_reader_has_made_room() -> Result {
    let (mut reader, writer) = io::pipe()?;
    let mut reactor = Reactor::<usize>::new()?;
    reactor.add(writer, Interest::WRITABLE, |writer, cx| {
        let n = writer.write(&[0; 100_000])?;
        *cx.state += n;
        Ok(Next::Keep)
    })?;
    let mut written = 0;
    turn_until(&mut reactor, &mut written, |written| *written > 0);
    while turn_now(&mut reactor, &mut written) > 0 {}
    let full = written;
    reader.read_exact(&mut vec![0; full])?;
    turn_until(&mut reactor, &mut written, |written| *written > full);
    Ok(())
}

#[test]
fn a_source_that_epoll_refuses_is_always_ready_and_read_to_its_end() -> Result {
    let mut reactor = Reactor::<Vec<(bool, usize)>>::new()?;
    for path in [env!("CARGO_MANIFEST_PATH"), "/dev/null"] {
        reactor.add(File::open(path)?, Interest::READABLE, |file, cx| {
            let n = file.read(&mut [0; 4096])?;
            cx.state.push((file.is_always_ready(), n));
            Ok(if n == 0 { Next::Remove } else { Next::Keep })
        })?;
    }
    let mut reads = Vec::new();
    reactor.run(&mut reads)?;
    let length = std::fs::metadata(env!("CARGO_MANIFEST_PATH"))?.len() as usize;
    assert!(reads.iter().all(|(always_ready, _)| *always_ready));
    assert_eq!(reads.iter().map(|(_, n)| n).sum::<usize>(), length);
    assert_eq!(reads.iter().filter(|(_, n)| *n == 0).count(), 2, "two ends");
    Ok(())
}

#[test]
fn an_always_ready_source_is_not_called_without_interest() -> Result {
    let mut reactor = Reactor::<u32>::new()?;
    let key = reactor.add(File::open("/dev/null")?, Interest::NONE, |_, cx| {
        *cx.state += 1;
        Ok(Next::Keep)
    })?;
    let mut calls = 0;
    assert_eq!(turn_now(&mut reactor, &mut calls), 0);
    reactor.set_interest(key, Interest::READABLE)?;
    assert_eq!(
        (
            turn_now(&mut reactor, &mut calls),
            turn_now(&mut reactor, &mut calls)
        ),
        (1, 1)
    );
    reactor.set_interest(key, Interest::NONE)?;
    assert_eq!(turn_now(&mut reactor, &mut calls), 0);
    Ok(())
}
