//! Framing: where the messages are in the bytes of a stream, which the network cuts as it likes.
//!
//! Ground rule: frames and errors depend on the bytes alone, never on how they were cut. What a framing remembers is
//! how far it has searched in vain; that saves time and changes no result.

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

/// How messages are told apart in a stream: finds them in what was received, and puts them into what is to be sent.
///
/// One framing is for one direction of one stream. It copies nothing: frames are parts of the bytes it is given. A
/// stream is over with its first error, as nobody can say where the next frame begins; asked again, a framing gives the
/// same error. [`check_framing`] checks a framing of your own.
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
///     /// What is not consumed is given again, with more behind it.
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
    /// Finds the first frame of `data`, which begins where the last frame ended. `None` if it is not whole yet: the
    /// next call gets the same bytes with more behind them.
    ///
    /// Bytes that were searched are not searched again, so that a frame costs O(its length), however many calls it
    /// takes. No allocation.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] with the byte that leaves no way to end the frame within the limit, or that completes a
    /// length beyond it; [`FrameError::Malformed`].
    fn decode<'a>(&mut self, data: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError>;

    /// Finds the first frame of `rest`, as [`decode`](Self::decode) does, where no more bytes will follow: the stream has
    /// ended. `None` if `rest` is empty.
    ///
    /// # Errors
    /// Those of [`decode`](Self::decode); [`FrameError::Truncated`] where half a frame is none.
    fn decode_eof<'a>(&mut self, rest: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError>;

    /// Appends `frame` to `out` together with its framing. O(its length); it allocates only what `out` needs to grow.
    ///
    /// # Errors
    /// [`FrameError::TooLong`], and [`FrameError::EndInside`] if the other side would find another frame. `out` is
    /// unchanged then.
    fn encode(&self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError>;

    /// The frames of `data`, which begins where the last frame ended, one after the other. O(1) to make.
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

    /// The frames of what is left when the stream has ended, an unfinished last one included. O(1) to make.
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

/// For a framing that is chosen while the program runs.
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

/// A message, and how much of the stream it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The message without its framing.
    pub bytes: &'a [u8],
    /// How many bytes of the stream it takes together with its framing, 1 at least.
    pub consumed: usize,
}

/// The frames of some bytes, from [`Framing::frames`] or [`Framing::frames_at_eof`]. It ends where no whole frame is
/// left, and after an error.
///
/// To stop early is fine: give what is not [`consumed`](Self::consumed) to [`Framing::frames`] later.
#[derive(Debug)]
#[must_use = "frames are looked for as they are asked for"]
pub struct Frames<'f, 'a, F> {
    framing: &'f mut F,
    data: &'a [u8],
    consumed: usize,
    expected: Expected,
}

/// What is expected after the bytes at hand.
#[derive(Clone, Copy, Debug)]
enum Expected {
    More,
    End,
    /// Nothing that could be read: there was an error.
    Nothing,
}

impl<F> Frames<'_, '_, F> {
    /// How many bytes the frames that have been given took, framing included: what a handler reports as consumed.
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
                "a frame that takes nothing is found for ever"
            );
            self.consumed += frame.consumed;
            frame.bytes
        }))
    }
}

/// Whatever was `None` stays so: the bytes are the same.
impl<F: Framing> FusedIterator for Frames<'_, '_, F> {}

/// [`Framing::decode`] or [`Framing::decode_eof`].
pub(crate) type Search<F> = for<'a> fn(&mut F, &'a [u8]) -> Result<Option<Frame<'a>>, FrameError>;

/// What is left of a stream whose frames need no end there.
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

/// Refuses to send what the other side, with the same limit, would not accept.
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
