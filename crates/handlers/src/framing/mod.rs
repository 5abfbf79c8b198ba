//! Framing: finding the messages in the bytes of a stream. The network may cut a stream at any
//! byte.
//!
//! Ground rule: frames and errors depend on the bytes alone, never on the cuts. A framing remembers
//! only how far it has searched without success. This saves time and changes no result.

mod check_framing;
mod delimiter;
mod error;
mod length;
mod lines;
#[cfg(test)]
mod tests;

use std::iter::FusedIterator;

pub use self::check_framing::{FramesFound, FramingFault, check_framing};
pub use self::delimiter::Delimited;
pub use self::error::FrameError;
pub use self::length::{LengthPrefix, LengthPrefixed};
pub use self::lines::Lines;

/// A format that separates the messages of a stream. It finds messages in received bytes, and
/// encodes messages into bytes to send. A message is also called a *frame*. The bytes that mark
/// the end or the length of a frame are its framing.
///
/// Use one framing value for one direction of one stream. A framing copies nothing: the returned
/// messages are parts of the bytes that you pass in. After the first error no further frame can be
/// found, since the start of the next frame is unknown. If you pass in the same bytes again, the
/// framing returns the same error. If you implement this trait, test your framing with
/// [`check_framing`].
///
/// ```
/// use handlers::{FrameError, Framing, Lines};
///
/// struct Console {
///     lines: Lines,
///     commands: Vec<String>,
/// }
///
/// impl Console {
///     /// Returns how many bytes were consumed. The others are passed in again.
///     fn on_data(&mut self, data: &[u8]) -> Result<usize, FrameError> {
///         let mut lines = self.lines.frames(data);
///         for line in &mut lines {
///             self.commands.push(String::from_utf8_lossy(line?).into_owned());
///         }
///         Ok(lines.consumed())
///     }
/// }
///
/// let mut console = Console { lines: Lines::new(80), commands: Vec::new() };
/// assert_eq!(console.on_data(b"status\r\nsto")?, 8);
/// assert_eq!(console.on_data(b"stop\n")?, 5);
/// assert_eq!(console.commands, ["status", "stop"]);
/// # Ok::<(), FrameError>(())
/// ```
#[doc(alias("Decoder", "Encoder", "codec"))]
pub trait Framing {
    /// Finds the first frame of `data`. `data` must begin where the last frame ended. Returns
    /// `None` if the frame is not complete yet. When more bytes have arrived, call this method
    /// again with the same bytes, followed by the new bytes.
    ///
    /// # Cost
    /// All calls for one frame together cost O(length of the frame), since no byte is searched
    /// twice. Nothing is allocated.
    ///
    /// # Errors
    /// - [`FrameError::TooLong`] as soon as `data` has so many bytes that the frame must exceed the
    ///   limit. A framing with a length prefix returns this error as soon as a prefix with too
    ///   great a length is complete.
    /// - [`FrameError::Malformed`] if the bytes are not a frame.
    fn decode<'a>(&mut self, data: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError>;

    /// Finds the first frame of `rest`. Call this method when the stream has ended, so that no more
    /// bytes follow. `rest` must begin where the last frame ended. Returns `None` if `rest` is
    /// empty.
    ///
    /// # Errors
    /// - [`FrameError::TooLong`] if the frame is beyond the limit.
    /// - [`FrameError::Malformed`] if the bytes are not a frame.
    /// - [`FrameError::Truncated`] if `rest` is only a part of a frame, and this framing does not
    ///   allow the last frame to be incomplete.
    fn decode_eof<'a>(&mut self, rest: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError>;

    /// Appends `frame` to `out`, together with its framing.
    ///
    /// ```
    /// use handlers::{FrameError, Framing, Lines};
    ///
    /// let mut out = Vec::new();
    /// Lines::new(80).encode(b"hello", &mut out)?;
    /// assert_eq!(out, b"hello\n");
    /// assert!(Lines::new(80).encode(b"two\nlines", &mut out).is_err());
    /// # Ok::<(), FrameError>(())
    /// ```
    ///
    /// # Cost
    /// O(length of the frame). Allocates only if `out` must grow.
    ///
    /// # Errors
    /// - [`FrameError::TooLong`] if the frame is beyond the limit.
    /// - [`FrameError::EndInside`] if the receiver would find a shorter frame, for example because
    ///   a line to encode contains a line end.
    /// - [`FrameError::Malformed`] if the framing refuses `frame` for another reason.
    ///
    /// After an error `out` is unchanged.
    fn encode(&self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError>;

    /// Returns an iterator over the frames of `data`. `data` must begin where the last frame ended.
    ///
    /// # Cost
    /// O(1). Each frame is searched for when you advance the iterator to it.
    fn frames<'f, 'a>(&'f mut self, data: &'a [u8]) -> Frames<'f, 'a, Self>
    where
        Self: Sized,
    {
        Frames {
            framing: self,
            data,
            consumed: 0,
            expected: Expected::More,
        }
    }

    /// Returns an iterator over the frames of `rest`, the bytes that are left when the stream has
    /// ended. If the framing allows a last frame without its end, this frame is included.
    ///
    /// ```
    /// use handlers::{FrameError, Framing, Lines};
    ///
    /// let mut lines = Lines::new(80);
    /// let data = b"one\ntwo";
    /// assert_eq!(lines.frames(data).collect::<Result<Vec<_>, _>>()?, [b"one"]);
    /// // The peer has closed its side: the last line needs no end.
    /// assert_eq!(lines.frames_at_eof(&data[4..]).collect::<Result<Vec<_>, _>>()?, [b"two"]);
    /// # Ok::<(), FrameError>(())
    /// ```
    ///
    /// # Cost
    /// O(1). Each frame is searched for when you advance the iterator to it.
    fn frames_at_eof<'f, 'a>(&'f mut self, rest: &'a [u8]) -> Frames<'f, 'a, Self>
    where
        Self: Sized,
    {
        Frames {
            framing: self,
            data: rest,
            consumed: 0,
            expected: Expected::End,
        }
    }
}

/// A framing in a box, so that your program can choose its type at run time.
impl<F: Framing + ?Sized> Framing for Box<F> {
    fn decode<'a>(&mut self, data: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        (**self).decode(data)
    }

    fn decode_eof<'a>(&mut self, rest: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        (**self).decode_eof(rest)
    }

    fn encode(&self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        (**self).encode(frame, out)
    }
}

/// A message, and the number of bytes of the stream that it takes. Returned by [`Framing::decode`].
///
/// ```
/// use handlers::{Frame, FrameError, Framing, Lines};
///
/// let frame = Lines::new(80).decode(b"one\r\ntwo")?;
/// assert_eq!(frame, Some(Frame { bytes: b"one", consumed: 5 }));
/// # Ok::<(), FrameError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The message without its framing.
    pub bytes: &'a [u8],
    /// The number of bytes of the stream that the message takes, including its framing. The number
    /// is at least 1.
    pub consumed: usize,
}

/// An iterator over the frames of some bytes, returned by [`Framing::frames`] or
/// [`Framing::frames_at_eof`]. The iterator ends after an error, or when no complete frame is left.
///
/// You can stop before the iterator ends. In that case, skip the first [`consumed`](Self::consumed)
/// bytes, and pass the bytes after them to [`Framing::frames`] later.
#[derive(Debug)]
#[must_use = "the iterator is lazy: it searches when it is advanced"]
pub struct Frames<'f, 'a, F> {
    framing: &'f mut F,
    data: &'a [u8],
    consumed: usize,
    expected: Expected,
}

/// The bytes that are expected after those that are present.
#[derive(Clone, Copy, Debug)]
enum Expected {
    More,
    End,
    /// No bytes, since there was an error.
    Nothing,
}

impl<F> Frames<'_, '_, F> {
    /// Returns the length of all frames that the iterator has returned so far, in bytes and
    /// including their framing. A [`ConnectionHandler`](crate::ConnectionHandler) returns this
    /// number from its `on_data`.
    pub fn consumed(&self) -> usize {
        self.consumed
    }
}

impl<'a, F: Framing> Iterator for Frames<'_, 'a, F> {
    type Item = Result<&'a [u8], FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.data[self.consumed..];
        let found = match self.expected {
            Expected::More => self.framing.decode(rest),
            Expected::End => self.framing.decode_eof(rest),
            Expected::Nothing => return None,
        };
        if found.is_err() {
            self.expected = Expected::Nothing;
        }
        let frame = found.transpose()?;
        Some(frame.map(|frame| {
            debug_assert!(
                frame.consumed > 0,
                "the framing returned a frame that takes no bytes"
            );
            self.consumed += frame.consumed;
            frame.bytes
        }))
    }
}

/// After `None` the iterator always returns `None`, since the bytes stay the same.
impl<F: Framing> FusedIterator for Frames<'_, '_, F> {}

/// [`Framing::decode`] or [`Framing::decode_eof`].
pub(crate) type Search<F> = for<'a> fn(&mut F, &'a [u8]) -> Result<Option<Frame<'a>>, FrameError>;

/// Returns `rest` as the last frame of a stream, for a framing whose last frame needs no end.
fn unended<'a>(
    rest: &'a [u8],
    what: &'static str,
    max_length: usize,
) -> Result<Option<Frame<'a>>, FrameError> {
    if rest.len() > max_length {
        return Err(FrameError::TooLong {
            what,
            length: None,
            max_length,
        });
    }
    Ok((!rest.is_empty()).then_some(Frame {
        bytes: rest,
        consumed: rest.len(),
    }))
}

/// Refuses a frame that the receiver, with the same limit, would not accept.
fn check_length(frame: &[u8], what: &'static str, max_length: usize) -> Result<(), FrameError> {
    if frame.len() > max_length {
        return Err(FrameError::TooLong {
            what,
            length: Some(frame.len() as u64),
            max_length,
        });
    }
    Ok(())
}
