//! Which errors any peer can cause.

use std::io::{self, ErrorKind};

use rustix::io::Errno;

use crate::error::{Error, errno};

/// Returns `true` if peers cause this error regularly: they vanish, cannot be reached, break off,
/// or send invalid data. A warning for each such error would let any peer fill the log. An error of
/// the loop itself is never one of a peer.
pub(crate) fn is_of_a_peer(error: &io::Error) -> bool {
    let vanishes = matches!(
        error.kind(),
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
    );
    // A firewall in front of a peer that has vanished answers by "refused" or "host down".
    let is_out_of_reach = matches!(
        error.kind(),
        ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::ConnectionRefused
    ) || errno(error) == Some(Errno::HOSTDOWN.raw_os_error());
    let makes_no_sense = matches!(
        error.kind(),
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::QuotaExceeded
    );
    let is_ours = error.get_ref().is_some_and(|inner| inner.is::<Error>());
    (vanishes || is_out_of_reach || makes_no_sense) && !is_ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyday_errors_of_peers_are_distinguished_from_our_own() {
        for kind in [
            ErrorKind::ConnectionReset,
            ErrorKind::InvalidData,
            ErrorKind::QuotaExceeded,
            ErrorKind::TimedOut,
            ErrorKind::ConnectionRefused,
        ] {
            assert!(
                is_of_a_peer(&kind.into()) && is_of_a_peer(&io::Error::new(kind, "with a text")),
                "{kind}"
            );
        }
        for kind in [
            ErrorKind::PermissionDenied,
            ErrorKind::Other,
            ErrorKind::AddrInUse,
            ErrorKind::OutOfMemory,
        ] {
            assert!(!is_of_a_peer(&kind.into()), "{kind}");
        }
        assert!(is_of_a_peer(&Errno::HOSTDOWN.into()));
        let full = io::Error::from(Error::Full {
            fd: 7,
            max_registrations: 1,
        });
        assert!(full.kind() == ErrorKind::QuotaExceeded && !is_of_a_peer(&full));
    }
}
