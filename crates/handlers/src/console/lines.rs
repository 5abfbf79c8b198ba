//! Splits the input into lines and skips lines that are too long. This module is arithmetic on
//! bytes.
//!
//! The lines depend on the bytes alone, not on the boundaries of the reads.

use memchr::memchr;

use crate::framing::{Framing, Lines, Search};

/// The number of bytes per read. A terminal returns at most one line.
const READ_MAX: usize = 16 * 1024;

/// A line found in the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ConsoleLine<'a> {
    Whole(&'a [u8]),
    TooLong,
}

/// Bytes that are not reported yet: at most one line and one read.
pub(super) struct LineBuffer {
    bytes: Vec<u8>,
    /// The number of bytes that were reported or skipped.
    done: usize,
    framing: Lines,
    max_line_length: usize,
    /// Set within a line that is too long, until its end is found.
    skipping: bool,
}

impl LineBuffer {
    pub(super) const fn new(max_line_length: usize) -> Self {
        Self {
            bytes: Vec::new(),
            done: 0,
            framing: Lines::new(max_line_length),
            max_line_length,
            skipping: false,
        }
    }

    /// Returns the buffer for the next read, with room for it.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        self.bytes.drain(..self.done);
        self.done = 0;
        self.bytes.reserve(READ_MAX);
        &mut self.bytes
    }

    /// Returns the next line. Returns `None` if no complete line is left.
    pub(super) fn next(&mut self) -> Option<ConsoleLine<'_>> {
        self.skip();
        self.find(Lines::decode)
    }

    /// Returns the next line after the end of the input, even if it has no line ending. After
    /// `None` the buffer is empty, and the next read begins a new line.
    pub(super) fn last(&mut self) -> Option<ConsoleLine<'_>> {
        self.skip();
        self.skipping = false;
        self.find(Lines::decode_eof)
    }

    fn skip(&mut self) {
        if self.skipping {
            let end = memchr(b'\n', &self.bytes[self.done..]);
            self.done = end.map_or(self.bytes.len(), |end| self.done + end + 1);
            self.skipping = end.is_none();
        }
    }

    fn find(&mut self, search: Search<Lines>) -> Option<ConsoleLine<'_>> {
        let Ok(frame) = search(&mut self.framing, &self.bytes[self.done..]) else {
            // The old framing would repeat its error for ever.
            self.framing = Lines::new(self.max_line_length);
            self.skipping = true;
            return Some(ConsoleLine::TooLong);
        };
        let frame = frame?;
        self.done += frame.consumed;
        Some(ConsoleLine::Whole(frame.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the lines of `input`, read in pieces of `cut` bytes. A line that is too long is
    /// shown as `None`.
    fn lines_of(input: &[u8], cut: usize, max_line_length: usize) -> Vec<Option<Vec<u8>>> {
        let mut buffer = LineBuffer::new(max_line_length);
        let mut lines = Vec::new();
        let mut note = |found: ConsoleLine<'_>| match found {
            ConsoleLine::Whole(line) => lines.push(Some(line.to_vec())),
            ConsoleLine::TooLong => lines.push(None),
        };
        for piece in input.chunks(cut) {
            buffer.room().extend_from_slice(piece);
            while let Some(found) = buffer.next() {
                note(found);
            }
        }
        while let Some(found) = buffer.last() {
            note(found);
        }
        lines
    }

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        let cases: [(&[u8], &[Option<&str>]); 8] = [
            (
                b"one\ntwo\r\n\nlast",
                &[Some("one"), Some("two"), Some(""), Some("last")],
            ),
            (b"1234\n12345\n1234\n", &[Some("1234"), None, Some("1234")]),
            (b"1234567890123\nok\n", &[None, Some("ok")]),
            (b"ok\n1234567890", &[Some("ok"), None]),
            (b"12345\r\n1234\r\n", &[None, Some("1234")]),
            (b"1234567\n7654321\n\n", &[None, None, Some("")]),
            (b"\n", &[Some("")]),
            (b"", &[]),
        ];
        for (input, expected) in cases {
            let expected: Vec<_> = expected
                .iter()
                .map(|line| line.map(|line| line.as_bytes().to_vec()))
                .collect();
            for cut in 1..=input.len().max(1) {
                assert_eq!(
                    lines_of(input, cut, 4),
                    expected,
                    "{:?} in pieces of {cut}",
                    input.escape_ascii()
                );
            }
        }
    }

    #[test]
    fn a_new_line_begins_after_an_end() {
        let mut buffer = LineBuffer::new(4);
        for (read, found) in [
            (&b"half"[..], ConsoleLine::Whole(b"half")),
            (b"too long", ConsoleLine::TooLong),
            (b"ok", ConsoleLine::Whole(b"ok")),
        ] {
            buffer.room().extend_from_slice(read);
            assert_eq!(buffer.last(), Some(found));
            assert_eq!(buffer.last(), None);
        }
        buffer.room().extend_from_slice(b"ok\n");
        assert_eq!(buffer.next(), Some(ConsoleLine::Whole(b"ok")));
    }

    #[test]
    fn a_line_without_an_end_takes_no_memory() {
        let mut buffer = LineBuffer::new(1000);
        for read in 0..1000 {
            buffer.room().extend_from_slice(&[b'x'; READ_MAX]);
            assert_eq!(buffer.next(), (read == 0).then_some(ConsoleLine::TooLong));
            assert_eq!(buffer.next(), None);
        }
        assert!(
            buffer.bytes.capacity() <= 4 * READ_MAX,
            "{}",
            buffer.bytes.capacity()
        );
    }
}
