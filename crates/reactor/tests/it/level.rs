//! Level semantics: a handler is called as long as its source is ready and wanted.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::{Interest, Next, Reactor, Readiness};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::net::SendFlags;
use rustix::net::sockopt::set_socket_linger;

use crate::{PATIENCE, Result, readable, tcp_pair, turn_now, turn_until};

#[test]
fn a_handler_that_reads_a_hundred_of_350_bytes_is_called_for_100_100_100_and_50() -> Result {
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
    assert_eq!(reactor.turn(&mut read, Some(timeout))?, 0, "the short read has told that there is no more");
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
fn a_source_that_is_queued_in_the_turn_that_has_an_event_for_it_is_called_once_a_turn() -> Result {
    let mut reactor = Reactor::<u32>::new()?;
    let (near, mut far) = UnixStream::pair()?;
    let writer = reactor.add(near, Interest::WRITABLE, |_, cx| {
        *cx.state += 1;
        Ok(Next::Keep)
    })?;
    let mut calls = 0;
    assert_eq!(turn_now(&mut reactor, &mut calls), 1);
    reactor.set_interest(writer, Interest::NONE)?; // it stays writable
    assert_eq!(turn_now(&mut reactor, &mut calls), 0);
    let (near, mut waker) = UnixStream::pair()?;
    reactor.add(near, Interest::READABLE, move |near, cx| {
        assert_eq!(near.read(&mut [0; 2])?, 1);
        cx.registry.set_interest(writer, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Next::Keep)
    })?;
    reactor.set_interest(writer, Interest::READABLE)?;
    waker.write_all(b"x")?;
    let before = calls;
    for turn in 1..=3 {
        far.write_all(b"x")?; // from the second turn on it is queued before its event comes
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
fn a_short_read_of_a_stream_ends_readiness_and_a_full_one_does_not() -> Result {
    let (near, mut far) = readable()?;
    far.write_all(b"yz")?;
    let mut reactor = Reactor::<Vec<bool>>::new()?;
    reactor.add(near, Interest::READABLE, |near, cx| {
        near.read_exact(&mut [0; 2])?;
        cx.state.push(near.readiness().is_readable());
        assert_eq!(near.read(&mut [0; 2])?, 1);
        cx.state.push(near.readiness().is_readable());
        let beyond = near.read(&mut [0; 2]).unwrap_err();
        assert_eq!(beyond.kind(), ErrorKind::WouldBlock);
        Ok(Next::Remove)
    })?;
    let mut readable = Vec::new();
    reactor.run(&mut readable)?;
    assert_eq!(readable, [true, false]);
    Ok(())
}

/// A source that reads from a buffer of its own, as TLS does: its short reads mean nothing.
struct Chunked {
    stream: UnixStream,
    buffer: Vec<u8>,
    reads: Rc<Cell<u32>>,
}

impl AsFd for Chunked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Read for Chunked {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty() {
            let mut chunk = [0; 64];
            self.reads.set(self.reads.get() + 1);
            let n = self.stream.read(&mut chunk)?;
            self.buffer.extend(&chunk[..n]);
        }
        let n = buf.len().min(self.buffer.len()).min(3);
        buf[..n].copy_from_slice(&self.buffer[..n]);
        self.buffer.drain(..n);
        Ok(n)
    }
}

#[test]
fn a_short_read_of_a_source_with_its_own_buffer_ends_nothing() -> Result {
    let (stream, mut far) = UnixStream::pair()?;
    far.write_all(b"0123456789")?;
    let mut reactor = Reactor::<Vec<u8>>::new()?;
    let reads = Rc::default();
    reactor.add(Chunked { stream, buffer: Vec::new(), reads }, Interest::READABLE, |source, cx| {
        let mut buf = [0; 8];
        let n = source.read(&mut buf)?;
        cx.state.extend(&buf[..n]);
        Ok(Next::Keep)
    })?;
    let mut received = Vec::new();
    turn_until(&mut reactor, &mut received, |received| received.len() == 10);
    assert_eq!(received, b"0123456789");
    Ok(())
}

#[test]
fn a_read_that_is_known_to_block_is_not_tried() -> Result {
    let (stream, _far) = readable()?;
    let reads = Rc::new(Cell::new(0));
    let source = Chunked { stream, buffer: Vec::new(), reads: Rc::clone(&reads) };
    let mut reactor = Reactor::<()>::new()?;
    reactor.add(source, Interest::READABLE, |source, _| {
        assert!(!source.is_always_ready());
        assert_eq!(source.read(&mut [0; 8])?, 1);
        for _ in 0..3 {
            assert_eq!(source.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
        // What does not depend on readiness is done whatever it is.
        source.try_io(Interest::NONE, |_| Ok(()))?;
        Ok(Next::Remove)
    })?;
    reactor.run(&mut ())?;
    assert_eq!(reads.get(), 2, "one byte, one WouldBlock");
    Ok(())
}

#[test]
fn a_direction_that_nobody_watches_is_tried() -> Result {
    let (near, mut far) = readable()?;
    let mut reactor = Reactor::<()>::new()?;
    reactor.add(near, Interest::READABLE, |near, _| {
        assert!(!near.readiness().is_writable(), "nobody has asked");
        near.write_all(b"answer")?;
        Ok(Next::Remove)
    })?;
    reactor.run(&mut ())?;
    let mut answer = [0; 6];
    far.read_exact(&mut answer)?;
    assert_eq!(&answer, b"answer");
    Ok(())
}

#[test]
fn a_short_read_after_the_peer_has_ended_leaves_the_end_to_be_read() -> Result {
    let (near, mut far) = tcp_pair()?;
    far.write_all(b"last")?;
    far.shutdown(Shutdown::Write)?;
    // Both have arrived before the reactor looks: there will be no second report.
    while near.peek(&mut [0; 8])? < 4 {}
    let mut reactor = Reactor::<Vec<usize>>::new()?;
    reactor.add(near, Interest::READABLE, |near, cx| {
        assert!(cx.readiness().is_readable(), "an end to be found is readable");
        let n = near.read(&mut [0; 64])?;
        cx.state.push(n);
        Ok(if n == 0 { Next::Remove } else { Next::Keep })
    })?;
    let mut read = Vec::new();
    turn_until(&mut reactor, &mut read, |read| read.len() == 2);
    assert_eq!(read, [4, 0]);
    Ok(())
}

/// How many bytes the kernel holds for `stream`, urgent ones and those behind them included: proc_pid_net(5).
fn received_bytes(stream: &TcpStream) -> Result<usize> {
    let port = format!(":{:04X}", stream.local_addr()?.port());
    let peer = format!(":{:04X}", stream.peer_addr()?.port());
    let table = std::fs::read_to_string("/proc/self/net/tcp")?;
    for line in table.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields[1].ends_with(&port) && fields[2].ends_with(&peer) {
            let (_, received) = fields[4].split_once(':').ok_or("tx_queue:rx_queue")?;
            return Ok(usize::from_str_radix(received, 16)?);
        }
    }
    Err("not in the table of connections".into())
}

#[test]
fn urgent_data_does_not_hide_what_comes_behind_it() -> Result {
    let (near, mut far) = tcp_pair()?;
    far.write_all(b"before")?;
    rustix::net::send(&far, b"!", SendFlags::OOB)?;
    far.write_all(b"behind")?;
    // All of it is there before the reactor looks, so that one report has to do.
    while received_bytes(&near)? < 13 {}
    let mut reactor = Reactor::<Vec<u8>>::new()?;
    reactor.add(near, Interest::READABLE, |near, cx| {
        let mut buf = [0; 64];
        let n = near.read(&mut buf)?; // stops at the urgent mark
        cx.state.extend(&buf[..n]);
        Ok(Next::Keep)
    })?;
    let mut received = Vec::new();
    turn_until(&mut reactor, &mut received, |received| received.len() == 12);
    assert_eq!(received, b"beforebehind");
    Ok(())
}

#[test]
fn urgent_data_is_announced_once_to_who_wants_priority() -> Result {
    let (near, far) = tcp_pair()?;
    let mut reactor = Reactor::<Vec<Readiness>>::new()?;
    reactor.add(near, Interest::PRIORITY, |_, cx| {
        cx.state.push(cx.readiness());
        Ok(Next::Keep)
    })?;
    let mut calls = Vec::new();
    rustix::net::send(&far, b"!", SendFlags::OOB)?;
    turn_until(&mut reactor, &mut calls, |calls| !calls.is_empty());
    assert!(calls[0].is_priority() && !calls[0].is_error());
    assert_eq!(turn_now(&mut reactor, &mut calls), 0, "nobody can read that it is over");
    rustix::net::send(&far, b"!", SendFlags::OOB)?;
    turn_until(&mut reactor, &mut calls, |calls| calls.len() == 2);
    Ok(())
}

#[test]
fn connections_that_are_accepted_one_a_call_are_all_accepted() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let _clients: Vec<_> = (0..5).map(|_| TcpStream::connect(address)).collect::<io::Result<_>>()?;
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

/// The facts that a reader and writer of `near` is first called for.
fn first_facts<T: AsFd + 'static>(near: T, interest: Interest) -> Result<Readiness> {
    let mut reactor = Reactor::<Readiness>::new()?;
    reactor.add(near, interest, |_, cx| {
        *cx.state = cx.readiness();
        Ok(Next::Remove)
    })?;
    let mut facts = Readiness::EMPTY;
    reactor.run(&mut facts)?;
    Ok(facts)
}

#[test]
fn a_half_closed_peer_is_read_closed_and_not_write_closed() -> Result {
    let (near, far) = tcp_pair()?;
    far.shutdown(Shutdown::Write)?;
    while near.peek(&mut [0; 1])? > 0 {}
    let facts = first_facts(near, Interest::READABLE | Interest::WRITABLE)?;
    assert_eq!(facts.to_string(), "readable+writable+read-closed");
    Ok(())
}

#[test]
fn a_reset_is_an_error_and_closes_both_directions() -> Result {
    let (near, far) = tcp_pair()?;
    set_socket_linger(&far, Some(Duration::ZERO))?;
    drop(far);
    let facts = first_facts(near, Interest::READABLE)?;
    assert!(facts.is_error() && facts.is_read_closed() && facts.is_write_closed(), "{facts}");
    Ok(())
}

#[test]
fn a_pipe_without_its_reader_is_write_closed() -> Result {
    let (reader, writer) = io::pipe()?;
    drop(reader);
    let facts = first_facts(writer, Interest::WRITABLE)?;
    assert!(facts.is_error() && facts.is_write_closed() && !facts.is_read_closed(), "{facts}");
    Ok(())
}

#[test]
fn a_fifo_that_is_opened_again_after_a_hang_up_is_not_read_closed_any_more() -> Result {
    let path = std::env::temp_dir().join(format!("reactor-fifo-{}", std::process::id()));
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let open = || OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(&path);
    let reader = open()?;
    let mut writer = OpenOptions::new().write(true).open(&path)?;
    writer.write_all(b"x")?;
    drop(writer); // a hang-up
    let mut reactor = Reactor::<Vec<String>>::new()?;
    reactor.add(reader, Interest::READABLE, |reader, cx| {
        cx.state.push(cx.readiness().to_string());
        reader.read(&mut [0; 8]).map(|_| Next::Keep)
    })?;
    let mut facts = Vec::new();
    turn_until(&mut reactor, &mut facts, |facts| facts.len() == 2); // the byte, then the end
    let _writer = OpenOptions::new().write(true).open(&path)?; // and a new beginning
    turn_until(&mut reactor, &mut facts, |facts| facts.len() == 3); // which a read finds out
    assert_eq!(turn_now(&mut reactor, &mut facts), 0, "{facts:?}");
    std::fs::remove_file(&path)?;
    Ok(())
}

#[test]
fn a_list_of_more_slices_than_one_call_takes_is_written_to_its_end() -> Result {
    let (near, mut far) = tcp_pair()?;
    let bytes: Vec<u8> = (0..3000_u32).map(|byte| byte as u8).collect();
    let mut left = bytes.clone();
    let mut reactor = Reactor::<()>::new()?;
    reactor.add(near, Interest::WRITABLE, move |near, _| {
        let slices: Vec<IoSlice<'_>> = left.chunks(1).map(IoSlice::new).collect();
        let n = near.write_vectored(&slices)?;
        left.drain(..n);
        Ok(if left.is_empty() { Next::Remove } else { Next::Keep })
    })?;
    while !reactor.is_empty() {
        assert!(reactor.turn(&mut (), Some(PATIENCE))? > 0, "nothing happened: {reactor:#?}");
    }
    let mut received = Vec::new();
    far.read_to_end(&mut received)?;
    assert_eq!(received, bytes);
    Ok(())
}

#[test]
fn a_short_vectored_read_ends_readiness_like_any_other() -> Result {
    let (near, mut far) = tcp_pair()?;
    far.write_all(b"abc")?;
    let mut reactor = Reactor::<(Vec<u8>, bool)>::new()?;
    reactor.add(near, Interest::READABLE, |near, cx| {
        let (mut one, mut two) = ([0; 2], [0; 2]);
        let n = near.read_vectored(&mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)])?;
        *cx.state = ([one, two].concat()[..n].to_vec(), near.readiness().is_readable());
        near.flush()?;
        Ok(Next::Remove)
    })?;
    let mut read = (Vec::new(), true);
    reactor.run(&mut read)?;
    assert_eq!(read, (b"abc".to_vec(), false));
    Ok(())
}

#[test]
fn what_epoll_refuses_is_always_ready_and_read_to_its_end() -> Result {
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
fn an_always_ready_source_rests_while_nothing_is_wanted() -> Result {
    let mut reactor = Reactor::<u32>::new()?;
    let key = reactor.add(File::open("/dev/null")?, Interest::NONE, |_, cx| {
        *cx.state += 1;
        Ok(Next::Keep)
    })?;
    let mut calls = 0;
    assert_eq!(turn_now(&mut reactor, &mut calls), 0);
    reactor.set_interest(key, Interest::READABLE)?;
    assert_eq!((turn_now(&mut reactor, &mut calls), turn_now(&mut reactor, &mut calls)), (1, 1));
    reactor.set_interest(key, Interest::NONE)?;
    assert_eq!(turn_now(&mut reactor, &mut calls), 0);
    Ok(())
}
