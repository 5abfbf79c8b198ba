//! Lines of text, as in many text protocols.

use memchr::memchr;

use super::{Frame, FrameError, Framing, check_length, unended};

/// A framing for lines that end with `\n` or `\r\n`. Both line ends may occur in one stream. A
/// returned line does not contain its line end.
///
/// A `\r` that does not stand before a `\n` is content. The last line of a stream needs no line
/// end. If the stream ends with a `\r`, this `\r` is content of the last line too. You can
/// recognise a line without a line end by its [`Frame`]: the length of `bytes` equals `consumed`.
///
/// ```
/// use handlers::{FrameError, Framing, Lines};
///
/// let mut lines = Lines::new(80);
/// let found = lines.frames_at_eof(b"one\r\ntwo\nlast").collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(found, [b"one".as_slice(), b"two", b"last"]);
/// # Ok::<(), FrameError>(())
/// ```
#[doc(alias("LinesCodec", "evbuffer_readln"))]
#[derive(Clone, Debug)]
pub struct Lines {
    end: &'static [u8],
    max_length: usize,
    /// The number of bytes at the start of the data in which no line ends.
    searched: usize,
}

impl Lines {
    /// Returns a framing for lines of at most `max_length` bytes, not counting the line end.
    /// [Encoded](Framing::encode) lines end with `\n`.
    ///
    /// ```
    /// use handlers::{FrameError, Framing, Lines};
    ///
    /// let mut lines = Lines::new(80);
    /// let found = lines.frames(b"HELO me\r\nQUIT\nres").collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(found, [b"HELO me".as_slice(), b"QUIT"]);
    /// # Ok::<(), FrameError>(())
    /// ```
    pub const fn new(max_length: usize) -> Self {
        Self {
            end: b"\n",
            max_length,
            searched: 0,
        }
    }

    /// Returns a framing for lines of at most `max_length` bytes, not counting the line end.
    /// [Encoded](Framing::encode) lines end with `\r\n`, as in the protocols of the Internet.
    /// Decoding accepts `\n` too.
    ///
    /// ```
    /// use handlers::{FrameError, Framing, Lines};
    ///
    /// let mut out = Vec::new();
    /// Lines::crlf(80).encode(b"250 OK", &mut out)?;
    /// assert_eq!(out, b"250 OK\r\n");
    /// # Ok::<(), FrameError>(())
    /// ```
    pub const fn crlf(max_length: usize) -> Self {
        Self {
            end: b"\r\n",
            ..Self::new(max_length)
        }
    }

    const fn too_long(&self) -> FrameError {
        FrameError::TooLong {
            what: "line",
            length: None,
            max_length: self.max_length,
        }
    }
}

impl Framing for Lines {
    fn decode<'a>(&mut self, data: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        let within = &data[..data
            .len()
            // a line that ends after this place is too long
            .min(self.max_length.saturating_add(b"\r\n".len()))];
        let unsearched = self.searched.min(within.len());
        let Some(found) = memchr(b'\n', &within[unsearched..]) else {
            self.searched = within.len();
            // A `\r` just after the limit may be half of a line end.
            let hopeful = matches!(data.get(self.max_length..), None | Some([] | [b'\r']));
            return if hopeful {
                Ok(None)
            } else {
                Err(self.too_long())
            };
        };
        let end = unsearched + found;
        let bytes = without_return(&within[..end]);
        if bytes.len() > self.max_length {
            return Err(self.too_long());
        }
        self.searched = 0;
        Ok(Some(Frame {
            bytes,
            consumed: end + 1,
        }))
    }

    fn decode_eof<'a>(&mut self, rest: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        let line = self.decode(rest)?;
        if line.is_some() {
            return Ok(line);
        }
        self.searched = 0; // nothing will follow what was searched
        unended(rest, "line", self.max_length)
    }

    /// Appends a line and its end.
    ///
    /// If encoded lines end with `\n`, a line whose last byte is a `\r` is refused, since the
    /// receiver would drop the `\r`. If encoded lines end with `\r\n`, such a line is accepted.
    fn encode(&self, line: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        check_length(line, "line", self.max_length)?;
        let read = match memchr(b'\n', line) {
            Some(end) => without_return(&line[..end]),
            None if self.end == b"\n" => without_return(line),
            None => line,
        };
        if read.len() < line.len() {
            return Err(FrameError::EndInside {
                what: "line",
                at: read.len(),
            });
        }
        out.extend_from_slice(line);
        out.extend_from_slice(self.end);
        Ok(())
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::tests::{every_cut, frames_of};

    const TOO_LONG: FrameError = FrameError::TooLong {
        what: "line",
        length: None,
        max_length: 3,
    };

    #[test]
    fn a_line_ends_with_either_end_and_a_lone_return_is_content() {
        let read = frames_of(&mut Lines::new(9), b"a\nb\r\n\r\n\nc\rd\n\re\r\r\n");
        let lines: [&[u8]; 6] = [b"a", b"b", b"", b"", b"c\rd", b"\re\r"];
        assert_eq!(read, (lines.map(<[u8]>::to_vec).to_vec(), None));
    }

    #[test]
    fn a_line_of_the_limit_passes_and_a_byte_more_does_not_however_it_is_cut() {
        for stream in [b"abc\n".as_slice(), b"abc\r\n", b"ab\r\r\n", b"abc"] {
            let line = stream.strip_suffix(b"\n").map_or(stream, without_return);
            every_cut(&Lines::new(3), stream, &(vec![line.to_vec()], None));
        }
        for stream in [
            b"abcd\n".as_slice(),
            b"abcd\r\n",
            b"abc\r\r\n",
            b"abc\rd\n",
            b"abcd",
            b"abc\r",
            b"a\nabcd",
        ] {
            let before = if stream.starts_with(b"a\n") {
                vec![b"a".to_vec()]
            } else {
                vec![]
            };
            every_cut(&Lines::new(3), stream, &(before, Some(TOO_LONG)));
        }
    }

    #[test]
    fn a_limit_of_nothing_allows_empty_lines() {
        assert_eq!(
            frames_of(&mut Lines::new(0), b"\n\r\n"),
            (vec![vec![]; 2], None)
        );
        assert!(Lines::new(0).decode(b"a").is_err());
        assert_eq!(Lines::new(usize::MAX).decode(b"a"), Ok(None));
    }

    #[test]
    fn a_line_is_too_long_with_the_first_byte_that_leaves_no_way_to_end_it() {
        let mut lines = Lines::new(3);
        assert_eq!(lines.decode(b"abc"), Ok(None));
        assert_eq!(lines.decode(b"abc\r"), Ok(None));
        assert_eq!(lines.decode(b"abc\rd"), Err(TOO_LONG));
        assert_eq!(lines.decode(b"abc\rd\n"), Err(TOO_LONG), "the second time");
        assert_eq!(Lines::new(3).decode(b"abcd"), Err(TOO_LONG));
    }

    /// After the first search, the searched bytes are replaced by line ends. A second search of
    /// these bytes would find one.
    #[test]
    fn bytes_that_were_searched_are_not_searched_again() {
        let mut lines = Lines::new(100);
        for length in 0..50 {
            assert_eq!(lines.decode(&vec![b'x'; length]), Ok(None));
            let mut swapped = vec![b'\n'; length];
            swapped.push(b'x');
            assert_eq!(
                lines.clone().decode(&swapped),
                Ok(None),
                "searched again after {length} bytes"
            );
        }
        assert_eq!(
            lines.decode(b"shorter\n"),
            Ok(None),
            "fewer bytes than before are a mistake of the caller, not a panic"
        );
    }

    #[test]
    fn the_last_line_needs_no_end_and_keeps_its_return() {
        for (stream, last) in [
            (b"a\nb".as_slice(), b"b".as_slice()),
            (b"a\nb\r", b"b\r"),
            (b"a\n\r", b"\r"),
        ] {
            assert_eq!(
                frames_of(&mut Lines::new(9), stream),
                (vec![b"a".to_vec(), last.to_vec()], None)
            );
        }
        assert_eq!(
            frames_of(&mut Lines::new(9), b"a\n"),
            (vec![b"a".to_vec()], None)
        );
        assert_eq!(Lines::new(9).decode_eof(b""), Ok(None));
        assert_eq!(
            Lines::new(9).decode_eof(b"ab"),
            Ok(Some(Frame {
                bytes: b"ab",
                consumed: 2
            }))
        );
    }

    #[test]
    fn a_line_that_would_be_read_as_another_is_not_put() {
        let refused = |lines: Lines, line: &[u8]| {
            let mut out = b"before".to_vec();
            let refused = lines.encode(line, &mut out).unwrap_err();
            assert_eq!(out, b"before");
            refused
        };
        assert_eq!(
            refused(Lines::new(9), b"ab\nc"),
            FrameError::EndInside {
                what: "line",
                at: 2
            }
        );
        assert_eq!(
            refused(Lines::crlf(9), b"ab\r\nc"),
            FrameError::EndInside {
                what: "line",
                at: 2
            }
        );
        assert_eq!(
            refused(Lines::new(9), b"ab\r"),
            FrameError::EndInside {
                what: "line",
                at: 2
            }
        );
        let too_long = FrameError::TooLong {
            what: "line",
            length: Some(4),
            max_length: 3,
        };
        assert_eq!(refused(Lines::new(3), b"abcd"), too_long);

        let mut out = Vec::new();
        Lines::crlf(3).encode(b"ab\r", &mut out).unwrap();
        Lines::new(3).encode(b"\ra", &mut out).unwrap();
        assert_eq!(out, b"ab\r\r\n\ra\n");
    }
}
