//! Delimited messages: each message ends with the same bytes, which occur nowhere inside it.

use std::fmt;

use memchr::memmem::Finder;

use super::{Frame, FrameError, Framing, check_length, unended};

/// A framing for messages that end with a delimiter. The delimiter is any string of bytes, such as
/// `\0`, `\r\n\r\n`, or a word.
///
/// The last message of a stream needs no delimiter. If the stream ends within a delimiter, the part
/// of the delimiter that has arrived counts as content.
///
/// If each message of your protocol must have its delimiter, compare the length of `bytes` in each
/// [`Frame`] with `consumed`: they are equal only if the delimiter is missing. Alternatively, do
/// not call [`decode_eof`](Framing::decode_eof) and [`frames_at_eof`](Framing::frames_at_eof): no
/// other method returns a message without its delimiter.
///
/// ```
/// use handlers::{Delimited, Frame, FrameError, Framing};
///
/// let mut framing = Delimited::new(b"\0", 100);
/// let last = Frame { bytes: b"two", consumed: 3 }; // without a delimiter
/// assert_eq!(framing.decode(b"one\0two")?, Some(Frame { bytes: b"one", consumed: 4 }));
/// assert_eq!(framing.decode(b"two")?, None);
/// assert_eq!(framing.decode_eof(b"two")?, Some(last));
/// # Ok::<(), FrameError>(())
/// ```
#[doc(alias("AnyDelimiterCodec"))]
#[derive(Clone)]
pub struct Delimited {
    delimiter: Finder<'static>,
    max_length: usize,
    /// The number of bytes at the start of the data in which no delimiter begins.
    searched: usize,
}

impl Delimited {
    /// Returns a framing for messages of at most `max_length` bytes, not counting the delimiter.
    ///
    /// ```
    /// use handlers::{Delimited, FrameError, Framing};
    ///
    /// let mut framing = Delimited::new(b"\0", 100);
    /// let frames = framing.frames(b"one\0two\0thr").collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(frames, [b"one", b"two"]);
    /// # Ok::<(), FrameError>(())
    /// ```
    ///
    /// # Cost
    /// Allocates a copy of the delimiter.
    ///
    /// # Panics
    /// If the delimiter is empty.
    #[track_caller]
    pub fn new(delimiter: impl AsRef<[u8]>, max_length: usize) -> Self {
        let delimiter = delimiter.as_ref();
        assert!(!delimiter.is_empty(), "the delimiter is empty");
        Self {
            delimiter: Finder::new(delimiter).into_owned(),
            max_length,
            searched: 0,
        }
    }

    /// Returns `true` if more bytes can complete a frame within the limit. `data` must contain no
    /// delimiter. The frame can be completed if `data` is within the limit itself, or if a
    /// delimiter may have begun within the limit.
    fn may_hold_frame(&self, data: &[u8]) -> bool {
        let delimiter = self.delimiter.needle();
        let first = data.len().saturating_sub(delimiter.len());
        data.len() <= self.max_length
            || (first..=self.max_length).any(|begin| delimiter.starts_with(&data[begin..]))
    }
}

impl Framing for Delimited {
    fn decode<'a>(&mut self, data: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        let delimiter = self.delimiter.needle().len();
        // A frame that ends after this place is too long.
        let within = &data[..data.len().min(self.max_length.saturating_add(delimiter))];
        let unsearched = self.searched.min(within.len());
        if let Some(found) = self.delimiter.find(&within[unsearched..]) {
            self.searched = 0;
            let length = unsearched + found;
            return Ok(Some(Frame {
                bytes: &within[..length],
                consumed: length + delimiter,
            }));
        }
        // After this place a delimiter may have begun.
        self.searched = within.len().saturating_sub(delimiter - 1);
        if self.may_hold_frame(data) {
            return Ok(None);
        }
        Err(FrameError::TooLong {
            what: "frame",
            length: None,
            max_length: self.max_length,
        })
    }

    fn decode_eof<'a>(&mut self, rest: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        let frame = self.decode(rest)?;
        if frame.is_some() {
            return Ok(frame);
        }
        self.searched = 0; // nothing will follow what was searched
        unended(rest, "frame", self.max_length)
    }

    fn encode(&self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        check_length(frame, "frame", self.max_length)?;
        let begin = out.len();
        out.extend_from_slice(frame);
        out.extend_from_slice(self.delimiter.needle());
        // The receiver may find a delimiter that begins in the frame and ends in the delimiter.
        // With the frame "xa" and the delimiter "aa", the first "aa" begins in the frame.
        match self.delimiter.find(&out[begin..]) {
            Some(at) if at < frame.len() => {
                out.truncate(begin);
                Err(FrameError::EndInside { what: "frame", at })
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Delimited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delimited")
            .field(
                "delimiter",
                &self.delimiter.needle().escape_ascii().to_string(),
            )
            .field("max_length", &self.max_length)
            .field("searched", &self.searched)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::tests::{every_cut, frames_of};

    const TOO_LONG: FrameError = FrameError::TooLong {
        what: "frame",
        length: None,
        max_length: 3,
    };

    #[test]
    fn a_partial_delimiter_is_content() {
        let read = frames_of(
            &mut Delimited::new("\r\n\r\n", 20),
            b"a\r\n\r\n\r\n\r\nb\r\n\r\r\n\r\n",
        );
        assert_eq!(
            read,
            (vec![b"a".to_vec(), vec![], b"b\r\n\r".to_vec()], None)
        );
    }

    #[test]
    fn a_frame_of_the_limit_passes_and_a_byte_more_does_not_however_it_is_cut() {
        every_cut(
            &Delimited::new("--", 3),
            b"abc--",
            &(vec![b"abc".to_vec()], None),
        );
        every_cut(
            &Delimited::new("--", 3),
            b"ab-",
            &(vec![b"ab-".to_vec()], None),
        );
        every_cut(&Delimited::new("--", 3), b"abc-", &(vec![], Some(TOO_LONG)));
        every_cut(
            &Delimited::new("--", 3),
            b"abcd--",
            &(vec![], Some(TOO_LONG)),
        );
        every_cut(
            &Delimited::new("--", 3),
            b"ab-c--",
            &(vec![], Some(TOO_LONG)),
        );
        every_cut(
            &Delimited::new("\0", 3),
            b"abc\0a",
            &(vec![b"abc".to_vec(), b"a".to_vec()], None),
        );
        every_cut(
            &Delimited::new("\0", 3),
            b"abcd\0",
            &(vec![], Some(TOO_LONG)),
        );
    }

    #[test]
    fn a_frame_is_too_long_with_the_first_byte_that_leaves_no_way_to_end_it() {
        let mut frames = Delimited::new("-=-=", 3);
        for hopeful in [b"abc".as_slice(), b"abc-", b"abc-=", b"abc-=-"] {
            assert_eq!(frames.decode(hopeful), Ok(None));
        }
        assert_eq!(frames.decode(b"abc-=--"), Err(TOO_LONG));
        assert_eq!(
            frames.decode(b"abc-=--=-="),
            Err(TOO_LONG),
            "the second time"
        );
        assert_eq!(Delimited::new("-=-=", 3).decode(b"abcd"), Err(TOO_LONG));
        assert_eq!(Delimited::new("-=-=", 3).decode(b"abc=-="), Err(TOO_LONG));
    }

    /// After the first search, the searched bytes are replaced by delimiters. A second search of
    /// these bytes would find one.
    #[test]
    fn bytes_that_were_searched_are_not_searched_again() {
        for delimiter in [b"|".as_slice(), b"||", b"|||||"] {
            let mut frames = Delimited::new(delimiter, 100);
            for length in 0..50 {
                assert_eq!(frames.decode(&vec![b'x'; length]), Ok(None));
                // these bytes may hold the beginning of a delimiter
                let again = length.min(delimiter.len() - 1);
                let mut swapped = vec![b'|'; length - again];
                swapped.extend(vec![b'x'; again + 1]);
                assert_eq!(
                    frames.clone().decode(&swapped),
                    Ok(None),
                    "searched again after {length} bytes"
                );
            }
            assert_eq!(
                frames.decode(delimiter),
                Ok(None),
                "fewer bytes than before are a mistake of the caller, not a panic"
            );
        }
    }

    #[test]
    fn a_frame_that_would_be_read_as_another_is_not_put() {
        let mut out = b"before".to_vec();
        let mut put = |delimiter: &str, frame: &[u8]| {
            let result = Delimited::new(delimiter, 9).encode(frame, &mut out);
            assert!(
                result.is_ok() || out == b"before",
                "a refused frame has left bytes"
            );
            out.truncate(6);
            result
        };
        assert_eq!(
            put("aa", b"xaay"),
            Err(FrameError::EndInside {
                what: "frame",
                at: 1
            })
        );
        assert_eq!(
            put("aa", b"xa"),
            Err(FrameError::EndInside {
                what: "frame",
                at: 1
            }),
            "a delimiter that begins in the frame"
        );
        assert_eq!(put("aa", b"ax"), Ok(()));
        assert_eq!(put("ab", b"xa"), Ok(()));
        let too_long = FrameError::TooLong {
            what: "frame",
            length: Some(10),
            max_length: 9,
        };
        assert_eq!(put("ab", b"0123456789"), Err(too_long));
    }

    #[test]
    #[should_panic(expected = "the delimiter is empty")]
    fn an_empty_delimiter_is_refused() {
        Delimited::new("", 3);
    }
}
