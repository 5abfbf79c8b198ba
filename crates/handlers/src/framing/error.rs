//! Errors of framings: in a stream that is read, or in a frame that is written.

use std::fmt;
use std::io;

/// The error of a [`Framing`](crate::Framing) that cannot find a frame in the received bytes, or
/// cannot encode a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame is beyond the limit. Displays as "a line is longer than 1024 bytes", or as "a frame
    /// of 70000 bytes is longer than the 1024 allowed".
    TooLong {
        /// The name of the unit in the message of this error, for example "line".
        what: &'static str,
        /// The length of the frame without its framing. `None` if the length is not known, because
        /// the end of the frame has not arrived.
        length: Option<u64>,
        /// The maximum length.
        max_length: usize,
    },
    /// The receiver would see the end of the encoded frame too early. The reason is that the frame
    /// contains the bytes that end a frame, or ends with the first of these bytes. Only
    /// [`encode`](crate::Framing::encode) returns this error.
    EndInside {
        /// The name of the unit in the message of this error, for example "line".
        what: &'static str,
        /// The number of bytes that the receiver would take for the frame.
        at: usize,
    },
    /// The stream ended before the frame did.
    Truncated {
        /// The number of missing bytes. `None` if not even the length of the frame has arrived.
        missing: Option<u64>,
    },
    /// The bytes are not a frame. The text states the reason.
    /// [`LengthPrefixed`](crate::LengthPrefixed) returns this for an invalid varint. A framing of
    /// your own can return it with any text.
    Malformed(&'static str),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong {
                what,
                length: None,
                max_length,
            } => write!(f, "a {what} is longer than {max_length} bytes"),
            Self::TooLong {
                what,
                length: Some(length),
                max_length,
            } => {
                write!(
                    f,
                    "a {what} of {length} bytes is longer than the {max_length} allowed"
                )
            }
            Self::EndInside { what, at } => {
                write!(f, "a {what} contains its own terminator after {at} bytes")
            }
            Self::Truncated {
                missing: Some(missing),
            } => {
                write!(f, "the stream ended {missing} bytes before a frame did")
            }
            Self::Truncated { missing: None } => {
                f.write_str("the stream ended within the length of a frame")
            }
            Self::Malformed(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for FrameError {}

/// Converts into an error of kind [`InvalidData`](io::ErrorKind::InvalidData), so that `?` ends a
/// connection whose bytes are invalid.
impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_limit_and_the_size_and_survives_as_an_io_error() {
        let said = |error: FrameError| error.to_string();
        let line = FrameError::TooLong {
            what: "line",
            length: None,
            max_length: 1024,
        };
        assert_eq!(said(line), "a line is longer than 1024 bytes");
        let frame = FrameError::TooLong {
            what: "frame",
            length: Some(70_000),
            max_length: 1024,
        };
        assert_eq!(
            said(frame),
            "a frame of 70000 bytes is longer than the 1024 allowed"
        );
        let ended = FrameError::EndInside {
            what: "line",
            at: 3,
        };
        assert_eq!(
            said(ended),
            "a line contains its own terminator after 3 bytes"
        );
        let truncated = FrameError::Truncated { missing: Some(7) };
        assert_eq!(
            said(truncated),
            "the stream ended 7 bytes before a frame did"
        );
        assert_eq!(
            said(FrameError::Truncated { missing: None }),
            "the stream ended within the length of a frame"
        );

        let error = io::Error::from(line);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(
            error.get_ref().and_then(|inner| inner.downcast_ref()),
            Some(&line)
        );
    }
}
