//! What is wrong with a stream, or with a frame that is to be put into one.

use std::fmt;
use std::io;

/// Why there is no frame, or why one cannot be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame is beyond the limit. Displays as "a line is longer than 1024 bytes", or as "a frame of 70000 bytes is longer
    /// than the 1024 allowed".
    TooLong {
        /// What it is called: a line, a frame.
        what: &'static str,
        /// Its bytes, without its framing; `None` where its end has not been seen.
        length: Option<u64>,
        /// How many are allowed.
        max_length: usize,
    },
    /// The frame would end too early, because what ends a frame is in it. Only for a frame that is put.
    EndInside {
        /// What it is called: a line, a frame.
        what: &'static str,
        /// How many bytes of it the other side would take for the frame.
        at: usize,
    },
    /// The stream ended before the frame did.
    Truncated {
        /// How many bytes are missing; `None` where the length of the frame is missing too.
        missing: Option<u64>,
    },
    /// The bytes are no frame at all, for the reason given: a varint that is none, or what a framing of your own found.
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
                write!(f, "a {what} holds what would end it after {at} bytes")
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

/// So that `?` ends a connection whose bytes make no sense, as [`InvalidData`](io::ErrorKind::InvalidData).
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
        assert_eq!(said(ended), "a line holds what would end it after 3 bytes");
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
