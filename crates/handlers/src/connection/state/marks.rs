//! Marks in the written bytes. The handler is notified when the kernel has taken all bytes before a
//! mark.
//!
//! A position counts the bytes that were written on the connection before it. A bare stream passes
//! bytes on to the kernel at once, so the position up to which the kernel has bytes is the number
//! of written bytes. A layered stream may hold a part of its output, whose length differs from that
//! of the written bytes. There the position moves only when the stream holds nothing.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use super::{ConnectionMetrics, Flags, State};

impl State {
    /// Returns the numbers of bytes.
    pub(in crate::connection) const fn metrics(&self) -> ConnectionMetrics {
        let mut metrics = self.counters;
        if !self.flags.has(Flags::LAYERED) {
            metrics.sent = metrics.written;
        }
        metrics
    }

    /// Records that a layered stream holds no output: the kernel has all bytes that were written.
    pub(in crate::connection) const fn count_all_sent(&mut self) {
        self.counters.sent = self.counters.written;
    }

    /// Adds a mark after the queued bytes and `buffered` more. Returns its position.
    pub(in crate::connection) fn add_mark(&mut self, buffered: usize) -> u64 {
        let position = self.write_position(buffered);
        let marks = self.marks.get_or_insert_default();
        if marks.back() != Some(&position) {
            marks.push_back(position);
        }
        self.flags.insert(Flags::AWAITS_MARK);
        position
    }

    /// Returns the position after the queued bytes and `buffered` more.
    pub(in crate::connection) fn write_position(&self, buffered: usize) -> u64 {
        self.counters.written + self.queued() as u64 + buffered as u64
    }

    /// Returns `true` if the kernel has taken all bytes before a mark.
    pub(in crate::connection) fn has_reached_mark(&self) -> bool {
        let sent = self.metrics().sent;
        let first = self.marks.as_ref().and_then(|marks| marks.front());
        first.is_some_and(|mark| *mark <= sent)
    }

    /// Removes the marks that are reached. Returns the position of the last one.
    pub(in crate::connection) fn take_reached_marks(&mut self) -> Option<u64> {
        let sent = self.metrics().sent;
        let marks = self.marks.as_mut()?;
        let reached = marks.iter().take_while(|mark| **mark <= sent).count();
        let last = marks.drain(..reached).next_back();
        if marks.is_empty() {
            self.remove_marks();
        }
        last
    }

    pub(super) fn remove_marks(&mut self) {
        self.marks = None;
        self.flags.remove(Flags::AWAITS_MARK);
    }

    /// Writes at most `most` bytes of the queue, by one call of `write`. Returns how many bytes
    /// that call took. They are counted before they are dropped, because the destructor of a shared
    /// piece is user code, and may panic.
    pub(in crate::connection) fn write_queue_to(
        &mut self,
        most: usize,
        write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let Self {
            queue, counters, ..
        } = self;
        let Some(queue) = queue else { return Ok(0) };
        let sent = queue.write_to(most, |slices| {
            let sent = write(slices)?;
            counters.written += sent as u64;
            Ok(sent)
        })?;
        if queue.len() == 0 {
            self.remove_queue();
        }
        if let Some(times) = &mut self.times {
            times.count_written(sent);
        }
        Ok(sent)
    }
}

/// The positions that the handler is to be notified of, in order.
pub(super) type Marks = VecDeque<u64>;
