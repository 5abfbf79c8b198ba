//! The handler on each side: it writes its bytes, and compares those that arrive with the bytes of
//! the other side.

use std::io;

use reactor::Context;

use super::{fault::StreamRule, name, other};
use crate::{CloseReason, Connection, ConnectionHandler, Flow};

/// The most bytes of one write.
const WRITE_MAX: usize = 4096;

/// The acts of a side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// The number of bytes to write.
    pub(super) bytes: usize,
    /// When the side closes its write side.
    pub(super) ends: Ends,
    /// Reading is paused after each call.
    pub(super) pauses: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// Once all bytes are written.
    First,
    /// Once all bytes are written and the other side has ended.
    Second,
}

/// The notes of both sides.
pub(super) type Logs = [Log; 2];

#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) is_open: bool,
    pub(super) written: usize,
    pub(super) received: usize,
    pub(super) ends: usize,
    pub(super) closes: Vec<CloseReason>,
    /// The first rule that was broken.
    pub(super) broken: Option<(StreamRule, String)>,
}

pub(super) struct Party {
    pub(super) side: usize,
    pub(super) plan: Plan,
}

/// Returns `count` bytes of a side, from `place` on. No part of them is repeated.
pub(super) fn bytes_of(side: usize, place: usize, count: usize) -> Vec<u8> {
    let byte = |place: usize| {
        let mixed = (place as u64 * 2 + side as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).to_be_bytes()[1]
    };
    (place..place + count).map(byte).collect()
}

impl Party {
    /// Writes until all bytes are written or the queue is full, and ends then as planned.
    fn go_on(
        &self,
        connection: &mut Connection<'_, Logs>,
        cx: &mut Context<'_, Logs>,
    ) -> io::Result<()> {
        let log = &mut cx.state[self.side];
        while log.written < self.plan.bytes {
            let count = WRITE_MAX.min(self.plan.bytes - log.written);
            let flow = connection.write(&bytes_of(self.side, log.written, count))?;
            log.written += count;
            if flow == Flow::Full && log.written < self.plan.bytes {
                return Ok(());
            }
        }
        if self.plan.ends == Ends::First || log.ends > 0 {
            connection.shutdown();
        }
        Ok(())
    }
}

impl ConnectionHandler<Logs> for Party {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, Logs>,
        cx: &mut Context<'_, Logs>,
    ) -> io::Result<()> {
        cx.state[self.side].is_open = true;
        // Two sides that write much and do not read meanwhile would wait for each other.
        connection.read_while_full();
        self.go_on(connection, cx)
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Logs>,
        cx: &mut Context<'_, Logs>,
    ) -> io::Result<usize> {
        let place = cx.state[self.side].received;
        let written = cx.state[other(self.side)].written;
        let log = &mut cx.state[self.side];
        let is_expected = data == bytes_of(other(self.side), place, data.len());
        if !is_expected || place + data.len() > written {
            let found = format!(
                "{} bytes that {} got after {place} bytes are not the next ones of the {written} \
                 written bytes",
                data.len(),
                name(self.side)
            );
            log.broken.get_or_insert((StreamRule::Order, found));
        }
        log.received += data.len();
        if self.plan.pauses {
            connection.pause_reading();
        }
        Ok(data.len())
    }

    fn on_drain(
        &mut self,
        connection: &mut Connection<'_, Logs>,
        cx: &mut Context<'_, Logs>,
    ) -> io::Result<()> {
        self.go_on(connection, cx)
    }

    fn on_end(
        &mut self,
        _rest: &[u8],
        connection: &mut Connection<'_, Logs>,
        cx: &mut Context<'_, Logs>,
    ) -> io::Result<()> {
        cx.state[self.side].ends += 1;
        self.go_on(connection, cx)
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Logs>) {
        cx.state[self.side].closes.push(reason);
    }
}
