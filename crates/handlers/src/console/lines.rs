//! Lines out of what is read, those that are too long passed over: arithmetic on bytes.
//!
//! What is found depends on the bytes alone, and not on how the reads have cut them.

use memchr::memchr;

use crate::framing::{Framing, Lines, Search};

/// What is read at once; a terminal gives a line at most.
const READ_MAX: usize = 16 * 1024;

/// A line that was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ConsoleLine<'a> {
    Whole(&'a [u8]),
    TooLong,
}

/// Bytes on their way to be lines: at most a line and what is read at once.
pub(super) struct LineBuffer {
    bytes: Vec<u8>,
    /// How many of them have been told or passed over.
    done: usize,
    framing: Lines,
    max_line_length: usize,
    /// Within a line that is too long, up to its end.
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

    /// Where to append what is read: it has room for that.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        self.bytes.drain(..self.done);
        self.done = 0;
        self.bytes.reserve(READ_MAX);
        &mut self.bytes
    }

    /// The next line. `None` if it is not whole yet.
    pub(super) fn next(&mut self) -> Option<ConsoleLine<'_>> {
        self.skip();
        self.find(Lines::decode)
    }

    /// The next line where no more bytes will follow, the last one whole or not. After `None` there is nothing left,
    /// and what is read next begins a line.
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
            self.framing = Lines::new(self.max_line_length); // the last one gives the same error for ever
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

    /// What is found in `input`, read in pieces of `cut` bytes. A line that is too long is shown as `None`.
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
