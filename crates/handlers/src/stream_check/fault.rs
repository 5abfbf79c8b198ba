//! The result of a check: which rule was broken, and where.

use std::error::Error;
use std::fmt;
use std::io;

/// A rule of the contract of [`Stream`](crate::Stream). Displays as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StreamRule {
    /// A written byte, or the end after it, does not reach the peer.
    Delivery,
    /// A byte arrives that was not written there: the bytes are changed, repeated, in another
    /// order, or some are left out.
    Order,
    /// [`has_buffered_input`](crate::Stream::has_buffered_input) is wrong. It returns `false` while
    /// the stream holds input, or `true` while [`try_read`](crate::Stream::try_read) finds nothing.
    BufferedInput,
    /// [`buffered_output`](crate::Stream::buffered_output) is wrong, or
    /// [`try_flush`](crate::Stream::try_flush) returns `Ok` while output is left.
    BufferedOutput,
    /// The stream holds too much output, because it takes bytes that it cannot send.
    BoundedOutput,
    /// A read or a write returns a count that is too large, or a write returns 0.
    Count,
    /// [`try_shutdown`](crate::Stream::try_shutdown) returns `Ok` while output is left.
    Shutdown,
    /// A stream that was cut ends as if it were complete.
    Cut,
    /// A connection whose stream was cut does not end.
    Close,
    /// A handshake that stalls is not ended by
    /// [`Timeout::Handshake`](crate::Timeout::Handshake).
    Handshake,
    /// A stream that has nothing to do is called again and again.
    Rest,
    /// A method of the stream blocks.
    Block,
}

impl fmt::Display for StreamRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delivery => "every written byte, and the end after it, must reach the peer",
            Self::Order => "bytes must arrive as they were written, each of them once",
            Self::BufferedInput => {
                "has_buffered_input must say whether try_read finds something without the fd"
            }
            Self::BufferedOutput => {
                "buffered_output must count the held bytes, and try_flush must send them"
            }
            Self::BoundedOutput => "a write must be refused while held output cannot be sent",
            Self::Count => "a count must be that of the bytes read or taken",
            Self::Shutdown => "try_shutdown must not return Ok while output is left",
            Self::Cut => "a stream that was cut must not look complete",
            Self::Close => "a stream that was cut must end",
            Self::Handshake => "a handshake that stalls must leave its end to its timeout",
            Self::Rest => "a stream with nothing to do must not be ready",
            Self::Block => "no method may block",
        })
    }
}

/// A fault of a stream. This is the error of [`StreamCheck::run`](crate::StreamCheck::run).
/// Displays as the rule, the observation and the scenario, for example "a stream that was cut must
/// not look complete: the peer was notified of an end [one piece, 20 and 20 bytes, …, a cut after
/// 7 bytes of the stream]".
#[derive(Debug)]
#[non_exhaustive]
pub enum StreamFault {
    /// The stream breaks a rule of its contract.
    Broken {
        /// The rule.
        rule: StreamRule,
        /// The observation. "The stream" is the stream under test, "the peer" is the other one.
        found: String,
        /// The scenario: how the bytes travel, how many there are, and what goes wrong.
        scenario: String,
    },
    /// The check itself has failed, for example because no file descriptor is free.
    System(io::Error),
}

impl StreamFault {
    /// Returns the rule that is broken, or `None` if the check itself has failed.
    pub const fn rule(&self) -> Option<StreamRule> {
        match self {
            Self::Broken { rule, .. } => Some(*rule),
            Self::System(_) => None,
        }
    }
}

impl fmt::Display for StreamFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken {
                rule,
                found,
                scenario,
            } => write!(f, "{rule}: {found} [{scenario}]"),
            Self::System(error) => write!(f, "the check has failed: {error}"),
        }
    }
}

impl Error for StreamFault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Broken { .. } => None,
            Self::System(error) => Some(error),
        }
    }
}

/// Why a run ends early. It becomes a [`StreamFault`] together with the scenario.
#[derive(Debug)]
pub(super) enum Stop {
    Broken(StreamRule, String),
    System(io::Error),
}

impl Stop {
    pub(super) fn in_scenario(self, scenario: impl fmt::Display) -> StreamFault {
        match self {
            Self::Broken(rule, found) => StreamFault::Broken {
                rule,
                found,
                scenario: scenario.to_string(),
            },
            Self::System(error) => StreamFault::System(error),
        }
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<reactor::Error> for Stop {
    fn from(error: reactor::Error) -> Self {
        Self::System(error.into())
    }
}

pub(super) type Result<T = ()> = std::result::Result<T, Stop>;

/// Returns the failure of a rule.
pub(super) fn broken<T>(rule: StreamRule, found: impl Into<String>) -> Result<T> {
    Err(Stop::Broken(rule, found.into()))
}
