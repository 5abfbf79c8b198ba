//! File descriptors that are sent and received over Unix sockets.
//!
//! The tests count the open descriptors of this process, so they run one after the other.

#![allow(clippy::expect_used, reason = "helpers of tests")]

mod limits;
mod receiving;
mod sending;

use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use handlers::{
    CloseReason, Connection, ConnectionHandler, ConnectionKey, ConnectionOptions, FdStream,
};
use reactor::{Context, Reactor};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use support::Result;

static ONE_BY_ONE: Mutex<()> = Mutex::new(());

/// The number of open descriptors, while no other test runs.
struct Open {
    before: usize,
    _alone: MutexGuard<'static, ()>,
}

fn open_fds() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

impl Open {
    fn count() -> io::Result<Self> {
        let _alone = ONE_BY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let before = open_fds()?;
        Ok(Self { before, _alone })
    }

    /// Checks that no descriptor is left open. The caller has closed its own by now.
    #[track_caller]
    fn expect_no_leak(self) -> Result {
        assert_eq!(open_fds()?, self.before);
        Ok(())
    }
}

/// A handler that notes its input, and takes the descriptors when it is called with bytes.
#[derive(Debug, Default)]
struct Takes {
    leaves_fds: bool,
}

#[derive(Debug, Default)]
struct Seen {
    received: Vec<u8>,
    fds: Vec<OwnedFd>,
    ended: bool,
    closed: Option<CloseReason>,
}

impl ConnectionHandler<Seen> for Takes {
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<usize> {
        cx.state.received.extend(data);
        if !self.leaves_fds {
            cx.state
                .fds
                .extend(std::iter::from_fn(|| connection.take_fd()));
        }
        Ok(data.len())
    }

    fn on_end(
        &mut self,
        _rest: &[u8],
        _connection: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        cx.state.ended = true;
        Ok(())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Seen>) {
        cx.state.closed = Some(reason);
    }
}

/// Returns a loop with a connection at which `max_fds` descriptors may wait, and its peer.
fn connected(
    max_fds: usize,
    handler: impl ConnectionHandler<Seen>,
) -> Result<(Reactor<Seen>, Seen, ConnectionKey<Seen>, UnixStream)> {
    let mut reactor = Reactor::new()?;
    let (near, far) = UnixStream::pair()?;
    far.set_read_timeout(Some(support::PATIENCE))?;
    let near = FdStream::new(near, max_fds);
    let key = Connection::open(&mut reactor, near, &ConnectionOptions::new(), handler)?;
    Ok((reactor, Seen::default(), key, far))
}

/// Returns `count` descriptors.
fn descriptors(count: usize) -> io::Result<Vec<OwnedFd>> {
    (0..count)
        .map(|_| Ok(File::open("/dev/null")?.into()))
        .collect()
}

/// Returns the number that identifies an open file.
fn inode(fd: impl AsFd) -> io::Result<u64> {
    Ok(File::from(fd.as_fd().try_clone_to_owned()?)
        .metadata()?
        .ino())
}

/// Sends bytes and descriptors in one message. Returns how many bytes were sent.
fn send(peer: &UnixStream, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<usize> {
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(&fds)));
    let bufs = [IoSlice::new(bytes)];
    Ok(sendmsg(peer, &bufs, &mut control, SendFlags::NOSIGNAL)?)
}

/// Receives at most `most` bytes, and the descriptors with them.
fn receive(peer: &UnixStream, most: usize) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; most];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let count = recvmsg(
        peer,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        flags,
    )?
    .bytes;
    bytes.truncate(count);
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok((bytes, fds))
}
