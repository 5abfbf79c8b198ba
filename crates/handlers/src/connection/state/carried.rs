//! The part of the state that stays with a stream when the stream leaves its registration.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use super::{Flags, Phase, State, Writing};
use crate::connection::reason::CloseReason;
use crate::connection::write::queue::WriteQueue;
use crate::limit::Permit;
use crate::server::Server;

/// The state of a stream without a loop.
#[derive(Debug)]
pub(in crate::connection) struct Carried {
    /// The bytes that the handler has not consumed.
    pub(in crate::connection) unread: Vec<u8>,
    pub(in crate::connection) queue: Option<Box<WriteQueue>>,
    pub(in crate::connection) is_read_ended: bool,
    /// The handshake of a layered stream is not complete.
    pub(in crate::connection) is_handshaking: bool,
    /// A layered stream holds output.
    pub(in crate::connection) holds_output: bool,
    pub(in crate::connection) writing: Writing,
    /// `true` if bytes or responses are missing in the stream, so that it must not end as if it
    /// were whole.
    pub(in crate::connection) is_truncated: bool,
    pub(in crate::connection) permit: Option<Permit>,
    pub(in crate::connection) server: Option<Arc<Server>>,
}

impl State {
    /// Ends the connection as taken. Returns the part of the state that its stream needs.
    ///
    /// # Errors
    /// The connection is unchanged if it is not open, or if its socket has failed.
    pub(in crate::connection) fn carry(&mut self) -> io::Result<Carried> {
        self.expect_open()?;
        let is_own = !self.flags.has(Flags::OTHER_SIDE);
        let carried = Carried {
            is_truncated: self.would_truncate(),
            unread: std::mem::take(&mut self.unconsumed),
            queue: self.queue.take(),
            is_read_ended: self.flags.has(Flags::READ_ENDED),
            is_handshaking: self.flags.has(Flags::HANDSHAKING),
            holds_output: self.flags.has(Flags::HOLDS_OUTPUT),
            writing: self.writing,
            permit: self.permit.take(),
            server: self.accepted_by.take().filter(|_| is_own),
        };
        self.remove_queue();
        self.end(CloseReason::Taken);
        Ok(carried)
    }

    /// Checks that the stream can be taken.
    pub(in crate::connection) fn expect_open(&self) -> io::Result<()> {
        let refused = |kind, text| Err(io::Error::new(kind, text));
        match (self.phase, self.writing) {
            (Phase::Connecting, _) => refused(
                ErrorKind::NotConnected,
                "cannot take the stream: the connection is not made yet",
            ),
            (Phase::Flushing | Phase::Lingering | Phase::Over, _) => refused(
                ErrorKind::BrokenPipe,
                "cannot take the stream: the connection is closing",
            ),
            (Phase::Opening | Phase::Open, Writing::Failed) => Err(self.copy_of_failure()),
            (Phase::Opening | Phase::Open, _) => Ok(()),
        }
    }

    /// Goes on with the stream of an earlier connection. This connection is not registered yet.
    pub(in crate::connection) fn resume(&mut self, carried: Carried) {
        let Carried {
            unread,
            queue,
            is_read_ended,
            is_handshaking,
            holds_output,
            writing,
            permit,
            server,
            is_truncated: _,
        } = carried;
        (self.permit, self.accepted_by) = (permit, server);
        self.flags.set(Flags::QUEUED, queue.is_some());
        (self.unconsumed, self.queue) = (unread, queue);
        if self.writing == Writing::Open {
            self.set_writing(writing);
        }
        self.flags.set(Flags::HOLDS_OUTPUT, holds_output);
        if self.flags.has(Flags::HANDSHAKING) && !is_handshaking {
            self.end_handshake();
        }
        self.flags.insert(Flags::REDELIVER);
        if is_read_ended && !self.flags.has(Flags::WRITE_ONLY) {
            self.flags.insert(Flags::READ_ENDED.union(Flags::END_AGAIN));
        }
        self.set_interest(self.wanted_interest());
    }
}
