//! Sources whose short reads prove nothing: types of a user, files, long lists of slices.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use handlers::futures::{self, Async};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

use super::Result;
use crate::reactor;

/// A socket whose reads return one byte of a buffer, and whose writes wait for a flush.
struct Buffered {
    socket: UnixStream,
    input: RefCell<VecDeque<u8>>,
    output: RefCell<Vec<u8>>,
    flushes: Cell<u32>,
}

impl Buffered {
    fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            input: RefCell::default(),
            output: RefCell::default(),
            flushes: Cell::new(0),
        }
    }
}

impl AsFd for Buffered {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Read for &Buffered {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut input = self.input.borrow_mut();
        if input.is_empty() {
            let mut bytes = [0; 64];
            let read = (&self.socket).read(&mut bytes)?;
            input.extend(&bytes[..read]);
        }
        let next = buf.first_mut().zip(input.pop_front());
        Ok(next.map_or(0, |(place, byte)| {
            *place = byte;
            1
        }))
    }
}

impl Write for &Buffered {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.output.borrow_mut().extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flushes.set(self.flushes.get() + 1);
        (&self.socket).write_all(&self.output.take())
    }
}

#[test]
fn a_short_read_of_a_user_s_type_proves_nothing() -> Result {
    let mut reactor = reactor::<()>();
    let (near, mut far) = UnixStream::pair()?;
    let mut near = Async::new(Buffered::new(near))?;
    let read = futures::block_on(&mut reactor, &mut (), async move {
        let reader = futures::spawn_local(async move {
            let mut text = [0; 5];
            near.read_exact(&mut text).await?; // one by one
            io::Result::Ok(text)
        });
        futures::yield_now().await; // it waits
        far.write_all(b"hello")?;
        reader.await?.map(|text| (text, far))
    })??;
    assert_eq!(read.0, *b"hello");
    Ok(())
}

#[test]
fn a_user_s_type_is_flushed_by_a_flush_and_by_a_close() -> Result {
    let mut reactor = reactor::<()>();
    let (near, mut far) = UnixStream::pair()?;
    let mut near = Async::new(Buffered::new(near))?;
    let flushes = futures::block_on(&mut reactor, &mut (), async move {
        near.write_all(b"hello ").await?;
        near.flush().await?;
        let first = near.get_ref().flushes.get();
        near.write_all(b"world").await?;
        near.close().await?;
        io::Result::Ok((first, near.get_ref().flushes.get()))
    })??;
    assert_eq!(flushes, (1, 2));
    let mut text = String::new();
    far.read_to_string(&mut text)?;
    assert_eq!(text, "hello world");
    Ok(())
}

/// A file may be anything, for example a socket that keeps messages apart.
#[test]
fn a_short_read_of_a_file_proves_nothing() -> Result {
    let mut reactor = reactor::<()>();
    let flags = SocketFlags::empty();
    let (near, far) = net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let mut near = Async::new(File::from(near))?;
    let read = futures::block_on(&mut reactor, &mut (), async move {
        let reader = futures::spawn_local(async move {
            let mut buf = [0; 9];
            let sizes = [near.read(&mut buf).await?, near.read(&mut buf).await?];
            io::Result::Ok(sizes)
        });
        futures::yield_now().await; // it waits
        (&File::from(far.try_clone()?)).write_all(b"one")?;
        (&File::from(far.try_clone()?)).write_all(b"two2")?;
        reader.await?.map(|sizes| (sizes, far))
    })??;
    assert_eq!(read.0, [3, 4]);
    Ok(())
}

#[test]
fn a_read_into_more_slices_than_the_kernel_fills_is_not_short() -> Result {
    const SLICES: usize = 3000;
    let mut reactor = reactor::<()>();
    let (near, mut far) = UnixStream::pair()?;
    let mut near = Async::new(near)?;
    let read = futures::block_on(&mut reactor, &mut (), async move {
        let reader = futures::spawn_local(async move {
            let (mut bytes, mut total) = ([0; SLICES], 0);
            while total < SLICES {
                let slices = bytes.chunks_mut(1).map(IoSliceMut::new);
                total += near.read_vectored(&mut slices.collect::<Vec<_>>()).await?;
            }
            io::Result::Ok(total)
        });
        futures::yield_now().await; // it waits
        far.write_all(&[7; SLICES])?;
        reader.await?.map(|total| (total, far))
    })??;
    assert_eq!(read.0, SLICES);
    Ok(())
}
