//! A check of any framing, for the tests of users: the result of a framing must not depend on the
//! cuts of the stream.

use std::fmt;

use super::{FrameError, Framing, Search};

/// Streams of up to this many bytes are cut in every possible way. 12 bytes can be cut in 2048
/// ways.
const ALL_CUTS_LEN_MAX: usize = 12;

/// The frames of a stream, and the error that was found after them. Returned by [`check_framing`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FramesFound {
    /// The frames, without their framing.
    pub frames: Vec<Vec<u8>>,
    /// The error that was found after the frames. `None` if the stream was read to its end.
    pub error: Option<FrameError>,
}

/// A fault of a framing. This is the error of [`check_framing`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FramingFault {
    /// The framing finds other frames or another error if the stream is cut.
    Cut {
        /// The positions of the cuts. A position is the number of bytes of the stream before the
        /// cut.
        cuts: Vec<usize>,
        /// The content that is found with these cuts.
        found: Box<FramesFound>,
        /// The content that is found if the stream comes in one piece.
        in_one_piece: Box<FramesFound>,
    },
    /// [`Frame::consumed`](crate::Frame::consumed) of a frame is 0, or greater than the number of
    /// bytes that were passed to the framing.
    Consumed {
        /// The number of bytes that the frame claims to take.
        consumed: usize,
        /// The number of bytes that were passed to the framing.
        available: usize,
    },
    /// [`Framing::decode_eof`] returns neither a frame nor an error for bytes that are left at the
    /// end. These bytes would be lost silently.
    Unfinished {
        /// The number of bytes that are left.
        left: usize,
    },
    /// A second call for the same bytes does not return the error of the first call.
    ErrorForgotten {
        /// The error.
        error: FrameError,
    },
    /// [`Framing::encode`] accepts a frame, but the encoded bytes are not read back as that frame.
    NotReadBack {
        /// The frame that was encoded.
        frame: Vec<u8>,
        /// The content that is found in the encoded bytes.
        found: Box<FramesFound>,
    },
    /// [`Framing::encode`] has changed bytes that were in the output before, or has appended bytes
    /// although it refused the frame.
    OutputSpoiled {
        /// The frame that was encoded.
        frame: Vec<u8>,
    },
}

/// Checks a framing with the bytes of one stream, and returns the frames and the error found in
/// them. Use it in the tests of a framing of your own.
///
/// `make` must return a new framing at each call, since the stream is read several times, each time
/// with a new framing. The readings are:
/// - First, the stream is read in one piece.
/// - A stream of up to 12 bytes is read with every possible combination of cuts.
/// - A longer stream is read in pieces of one byte, of two bytes, and so on. Then it is read in two
///   pieces, with the cut after each byte in turn.
///
/// Each reading must find the same frames and the same error, since the network may cut a stream at
/// any byte. Then each frame is [encoded](Framing::encode), and must be read back unchanged. If
/// `encode` refuses a frame, it must leave the output unchanged.
///
/// Test with these streams: several frames, half a frame at the end, a frame of the maximum length,
/// and a frame that is one byte longer.
///
/// ```
/// use handlers::{Frame, FrameError, Framing, check_framing};
///
/// /// Records of four bytes.
/// #[derive(Clone, Copy)]
/// struct Records;
///
/// impl Framing for Records {
///     fn decode<'a>(&mut self, data: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
///         Ok(data.get(..4).map(|bytes| Frame { bytes, consumed: 4 }))
///     }
///
///     fn decode_eof<'a>(&mut self, rest: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
///         match (self.decode(rest)?, rest.len()) {
///             (None, 1..) => Err(FrameError::Truncated { missing: Some(4 - rest.len() as u64) }),
///             (record, _) => Ok(record),
///         }
///     }
///
///     fn encode(&self, record: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
///         if record.len() != 4 {
///             return Err(FrameError::Malformed("a record has four bytes"));
///         }
///         out.extend_from_slice(record);
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<(), handlers::FramingFault> {
/// let found = check_framing(|| Records, b"onetwo12")?;
/// assert_eq!(found.frames, [b"onet", b"wo12"]);
/// let found = check_framing(|| Records, b"half a")?;
/// assert_eq!(found.error, Some(FrameError::Truncated { missing: Some(2) }));
/// # Ok(())
/// # }
/// ```
///
/// # Cost
/// O(length²) if the framing searches no byte twice. `length` is the length of the stream.
///
/// # Errors
/// [`FramingFault`] for the first reading that finds something else than the reading in one piece,
/// or for the first call that breaks the contract of [`Framing`].
pub fn check_framing<F: Framing>(
    make: impl Fn() -> F,
    stream: &[u8],
) -> Result<FramesFound, FramingFault> {
    let in_one_piece = read(&mut make(), stream, &[])?;
    for cuts in cuttings(stream.len()) {
        let found = read(&mut make(), stream, &cuts)?;
        if found != in_one_piece {
            let (found, in_one_piece) = (Box::new(found), Box::new(in_one_piece));
            return Err(FramingFault::Cut {
                cuts,
                found,
                in_one_piece,
            });
        }
    }
    for frame in &in_one_piece.frames {
        check_put(&make, frame)?;
    }
    Ok(in_one_piece)
}

/// Returns the ways in which a stream is cut. Each way is a list of places.
fn cuttings(len: usize) -> Box<dyn Iterator<Item = Vec<usize>>> {
    if (2..=ALL_CUTS_LEN_MAX).contains(&len) {
        let chosen = move |set: u32| (1..len).filter(|at| set & 1 << (at - 1) != 0).collect();
        return Box::new((1..1_u32 << (len - 1)).map(chosen));
    }
    let of_size = move |size| (size..len).step_by(size).collect();
    Box::new((1..len).map(of_size).chain((1..len).map(|at| vec![at])))
}

/// Reads as a connection does: unconsumed bytes are kept, and the next piece is added after them.
fn read<F: Framing>(
    framing: &mut F,
    stream: &[u8],
    cuts: &[usize],
) -> Result<FramesFound, FramingFault> {
    let (mut found, mut begin) = (FramesFound::default(), 0);
    for end in cuts.iter().copied().chain([stream.len()]) {
        begin += take_frames(framing, F::decode, &stream[begin..end], &mut found)?;
        if found.error.is_some() {
            return Ok(found);
        }
    }
    let left =
        stream.len() - begin - take_frames(framing, F::decode_eof, &stream[begin..], &mut found)?;
    if left > 0 && found.error.is_none() {
        return Err(FramingFault::Unfinished { left });
    }
    Ok(found)
}

/// Adds the frames of `data` to `found`, and returns the number of bytes that they take.
fn take_frames<F: Framing>(
    framing: &mut F,
    search: Search<F>,
    data: &[u8],
    found: &mut FramesFound,
) -> Result<usize, FramingFault> {
    let mut begin = 0;
    loop {
        let rest = &data[begin..];
        match search(framing, rest) {
            Ok(None) => return Ok(begin),
            Ok(Some(frame)) if !(1..=rest.len()).contains(&frame.consumed) => {
                return Err(FramingFault::Consumed {
                    consumed: frame.consumed,
                    available: rest.len(),
                });
            }
            Ok(Some(frame)) => {
                found.frames.push(frame.bytes.to_vec());
                begin += frame.consumed;
            }
            Err(error) => {
                // A stream ends with its first error, so a second call must return the same error.
                if search(framing, rest) != Err(error) {
                    return Err(FramingFault::ErrorForgotten { error });
                }
                found.error = Some(error);
                return Ok(begin);
            }
        }
    }
}

/// Checks that a frame is read back from its encoded bytes, or is refused with the output
/// unchanged.
fn check_put<F: Framing>(make: impl Fn() -> F, frame: &[u8]) -> Result<(), FramingFault> {
    const BEFORE: &[u8] = b"what was there before";
    let mut out = BEFORE.to_vec();
    let put = make().encode(frame, &mut out);
    let Some(written) = out
        .strip_prefix(BEFORE)
        .filter(|written| put.is_ok() || written.is_empty())
    else {
        return Err(FramingFault::OutputSpoiled {
            frame: frame.to_vec(),
        });
    };
    if put.is_err() {
        // A framing may accept a last frame without its end, and refuse to encode the same bytes.
        return Ok(());
    }
    let found = read(&mut make(), written, &[])?;
    if found.error.is_some() || found.frames != [frame] {
        return Err(FramingFault::NotReadBack {
            frame: frame.to_vec(),
            found: Box::new(found),
        });
    }
    Ok(())
}

impl fmt::Display for FramesFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (place, frame) in self.frames.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}\"{}\"", frame.escape_ascii())?;
        }
        match &self.error {
            Some(error) => write!(f, "] and the error \"{error}\""),
            None => f.write_str("]"),
        }
    }
}

impl fmt::Display for FramingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut {
                cuts,
                found,
                in_one_piece,
            } => {
                write!(
                    f,
                    "cut after bytes {cuts:?}, the stream is read as {found}; \
                     in one piece it is read as {in_one_piece}"
                )
            }
            Self::Consumed {
                consumed,
                available,
            } => write!(f, "a frame takes {consumed} of {available} bytes"),
            Self::Unfinished { left } => {
                write!(f, "{left} bytes are left at the end without an error")
            }
            Self::ErrorForgotten { error } => write!(
                f,
                "a second call after the error \"{error}\" does not return it"
            ),
            Self::NotReadBack { frame, found } => {
                write!(
                    f,
                    "the frame \"{}\" is encoded, and {found} is read back",
                    frame.escape_ascii()
                )
            }
            Self::OutputSpoiled { frame } => {
                write!(
                    f,
                    "encoding the frame \"{}\" changes bytes that are not its own",
                    frame.escape_ascii()
                )
            }
        }
    }
}

impl std::error::Error for FramingFault {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_short_stream_is_cut_once_in_every_way() {
        for len in 2..=ALL_CUTS_LEN_MAX {
            let ways: Vec<_> = cuttings(len).collect();
            assert_eq!(ways.len(), (1 << (len - 1)) - 1, "{len} bytes");
            assert_eq!(ways.iter().collect::<BTreeSet<_>>().len(), ways.len());
            for cuts in ways {
                assert!(!cuts.is_empty() && cuts.is_sorted_by(|one, next| one < next));
                assert!(cuts.iter().all(|at| (1..len).contains(at)), "{cuts:?}");
            }
        }
    }
}
