//! The end of readiness: a short read or write of a kind that allows the conclusion, and
//! `WouldBlock`.

use std::cell::Cell;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use reactor::{Interest, Next, Reactor};
use rustix::net::SendFlags;

use crate::{PATIENCE, Result, readable, tcp_pair, turn_until};

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

/// A source that reads from a buffer of its own, as TLS does: its short reads have no meaning.
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
    reactor.add(
        Chunked {
            stream,
            buffer: Vec::new(),
            reads,
        },
        Interest::READABLE,
        |source, cx| {
            let mut buf = [0; 8];
            let n = source.read(&mut buf)?;
            cx.state.extend(&buf[..n]);
            Ok(Next::Keep)
        },
    )?;
    let mut received = Vec::new();
    turn_until(&mut reactor, &mut received, |received| received.len() == 10);
    assert_eq!(received, b"0123456789");
    Ok(())
}

#[test]
fn a_read_that_would_block_for_certain_is_not_tried() -> Result {
    let (stream, _far) = readable()?;
    let reads = Rc::new(Cell::new(0));
    let source = Chunked {
        stream,
        buffer: Vec::new(),
        reads: Rc::clone(&reads),
    };
    let mut reactor = Reactor::<()>::new()?;
    reactor.add(source, Interest::READABLE, |source, _| {
        assert!(!source.is_always_ready());
        assert_eq!(source.read(&mut [0; 8])?, 1);
        for _ in 0..3 {
            assert_eq!(
                source.read(&mut [0; 8]).unwrap_err().kind(),
                ErrorKind::WouldBlock
            );
        }
        // An operation that does not depend on readiness is always done.
        source.try_io(Interest::NONE, |_| Ok(()))?;
        Ok(Next::Remove)
    })?;
    reactor.run(&mut ())?;
    assert_eq!(reads.get(), 2, "one byte, one WouldBlock");
    Ok(())
}

#[test]
fn a_direction_that_is_not_watched_is_tried() -> Result {
    let (near, mut far) = readable()?;
    let mut reactor = Reactor::<()>::new()?;
    reactor.add(near, Interest::READABLE, |near, _| {
        assert!(!near.readiness().is_writable(), "this was not requested");
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
    // Both bytes have arrived before the reactor polls: there will be no second report.
    while near.peek(&mut [0; 8])? < 4 {}
    let mut reactor = Reactor::<Vec<usize>>::new()?;
    reactor.add(near, Interest::READABLE, |near, cx| {
        assert!(
            cx.readiness().is_readable(),
            "an end to be found is readable"
        );
        let n = near.read(&mut [0; 64])?;
        cx.state.push(n);
        Ok(if n == 0 { Next::Remove } else { Next::Keep })
    })?;
    let mut read = Vec::new();
    turn_until(&mut reactor, &mut read, |read| read.len() == 2);
    assert_eq!(read, [4, 0]);
    Ok(())
}

/// Returns the number of bytes that the kernel holds for `stream`, including urgent ones and those
/// after them: proc_pid_net(5).
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
fn urgent_data_does_not_hide_the_bytes_after_it() -> Result {
    let (near, mut far) = tcp_pair()?;
    far.write_all(b"before")?;
    rustix::net::send(&far, b"!", SendFlags::OOB)?;
    far.write_all(b"behind")?;
    // All bytes have arrived before the reactor polls, so that there is one report.
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
fn a_list_of_more_slices_than_one_call_takes_is_written_to_its_end() -> Result {
    let (near, mut far) = tcp_pair()?;
    let bytes: Vec<u8> = (0..3000_u32).map(|byte| byte as u8).collect();
    let mut left = bytes.clone();
    let mut reactor = Reactor::<()>::new()?;
    reactor.add(near, Interest::WRITABLE, move |near, _| {
        let slices: Vec<IoSlice<'_>> = left.chunks(1).map(IoSlice::new).collect();
        let n = near.write_vectored(&slices)?;
        left.drain(..n);
        Ok(if left.is_empty() {
            Next::Remove
        } else {
            Next::Keep
        })
    })?;
    while !reactor.is_empty() {
        assert!(
            reactor.turn(&mut (), Some(PATIENCE))? > 0,
            "nothing happened: {reactor:#?}"
        );
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
        *cx.state = (
            [one, two].concat()[..n].to_vec(),
            near.readiness().is_readable(),
        );
        near.flush()?;
        Ok(Next::Remove)
    })?;
    let mut read = (Vec::new(), true);
    reactor.run(&mut read)?;
    assert_eq!(read, (b"abc".to_vec(), false));
    Ok(())
}
