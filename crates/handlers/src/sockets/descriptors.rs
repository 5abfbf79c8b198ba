//! Calls that send and receive file descriptors over a Unix socket: `SCM_RIGHTS` of `unix(7)`.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

#[cfg(feature = "simulation")]
use crate::simulation;

/// The most descriptors that one message carries: `SCM_MAX_FD` of `unix(7)`.
pub(crate) const FDS_MAX: usize = 253;

/// The room for the descriptors of one message, as the kernel lays them out.
const SPACE: usize = cmsg_space!(ScmRights(FDS_MAX));

/// Returns `true` if the socket can carry descriptors. A simulated socket carries only bytes.
pub(crate) fn are_carried_by(fd: BorrowedFd<'_>) -> bool {
    #[cfg(feature = "simulation")]
    if simulation::owner(fd).is_some() {
        return false;
    }
    let _ = fd;
    true
}

/// The outcome of [`receive`].
pub(crate) struct Received {
    pub(crate) bytes: usize,
    /// `true` if the kernel has closed descriptors that were sent, because there was no room for
    /// them here, or in the table of this process.
    pub(crate) is_truncated: bool,
}

/// Receives bytes, and at most about `room` descriptors, which are close-on-exec. The call ends
/// after the bytes of a message with descriptors, so these are the last bytes of `buf`.
pub(crate) fn receive(
    fd: BorrowedFd<'_>,
    buf: &mut [u8],
    room: usize,
    fds: &mut impl Extend<OwnedFd>,
) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let length = cmsg_space!(ScmRights(room.min(FDS_MAX)));
    let mut control = RecvAncillaryBuffer::new(&mut space[..length]);
    let bufs = &mut [IoSliceMut::new(buf)];
    let received = recvmsg(fd, bufs, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(Received {
        bytes: received.bytes,
        is_truncated: received.flags.contains(ReturnFlags::CTRUNC),
    })
}

/// Sends bytes with at most [`FDS_MAX`] descriptors. If a byte was sent, all descriptors were.
pub(crate) fn send(fd: BorrowedFd<'_>, bufs: &[IoSlice<'_>], fds: &[OwnedFd]) -> io::Result<usize> {
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = control.push(SendAncillaryMessage::ScmRights(&fds));
    debug_assert!(fits, "{} descriptors in one message", fds.len());
    Ok(sendmsg(fd, bufs, &mut control, SendFlags::NOSIGNAL)?)
}
