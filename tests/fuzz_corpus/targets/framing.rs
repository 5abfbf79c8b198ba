//! Every framing: the frames do not depend on how the stream is cut, and they are its content.

use arbitrary::{Result, Unstructured};
use handlers::{Delimited, Framing, LengthPrefix, LengthPrefixed, Lines, check_framing};

const STREAM_MAX: usize = 160;

/// A framing, and how the content of its stream is rebuilt from its frames.
enum Kind {
    Lines,
    LinesCrlf,
    Delimited(Vec<u8>),
    LengthPrefixed(LengthPrefix),
}

impl Kind {
    fn draw(u: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match u.int_in_range(0..=8)? {
            0 => Self::Lines,
            1 => Self::LinesCrlf,
            2 => {
                let more = bytes(u)?;
                Self::Delimited([&[u.arbitrary()?], more].concat())
            }
            prefix => Self::LengthPrefixed(
                [
                    LengthPrefix::U8,
                    LengthPrefix::U16Be,
                    LengthPrefix::U16Le,
                    LengthPrefix::U32Be,
                    LengthPrefix::U32Le,
                    LengthPrefix::Varint,
                ][prefix - 3],
            ),
        })
    }

    fn build(&self, max_length: usize) -> Box<dyn Framing> {
        match self {
            Self::Lines => Box::new(Lines::new(max_length)),
            Self::LinesCrlf => Box::new(Lines::crlf(max_length)),
            Self::Delimited(delimiter) => Box::new(Delimited::new(delimiter, max_length)),
            Self::LengthPrefixed(prefix) => Box::new(LengthPrefixed::new(*prefix, max_length)),
        }
    }

    /// Returns the bytes after each frame.
    fn end(&self) -> &[u8] {
        match self {
            Self::Lines | Self::LinesCrlf => b"\n",
            Self::Delimited(delimiter) => delimiter,
            Self::LengthPrefixed(_) => b"",
        }
    }
}

fn bytes<'a>(u: &mut Unstructured<'a>) -> Result<&'a [u8]> {
    super::bytes(u, 5)
}

/// Returns `stream` with one ending for all lines.
fn with_plain_endings(stream: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(stream.len());
    for byte in stream {
        if *byte == b'\n' && plain.last() == Some(&b'\r') {
            plain.pop();
        }
        plain.push(*byte);
    }
    plain
}

pub(super) fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let kind = Kind::draw(u)?;
    let max_length = match u.arbitrary::<u8>()? {
        255 => usize::MAX,
        small => usize::from(small),
    };
    let stream = super::bytes(u, STREAM_MAX)?;
    let found = check_framing(|| kind.build(max_length), stream).unwrap();
    assert!(found.frames.iter().all(|frame| frame.len() <= max_length));

    // The frames and what ends them are the stream. After an error they are its beginning.
    let (mut rebuilt, framing) = (Vec::new(), kind.build(max_length));
    for frame in &found.frames {
        match kind {
            Kind::LengthPrefixed(_) => framing.encode(frame, &mut rebuilt).unwrap(),
            _ => rebuilt.extend([frame, kind.end()].concat()),
        }
    }
    let whole = match kind {
        Kind::Lines | Kind::LinesCrlf => with_plain_endings(stream),
        Kind::Delimited(_) | Kind::LengthPrefixed(_) => stream.to_vec(),
    };
    let without_end = rebuilt.strip_suffix(kind.end()).unwrap_or(&rebuilt);
    let is_whole = whole == rebuilt || whole == without_end;
    assert!(
        is_whole || found.error.is_some() && whole.starts_with(&rebuilt),
        "{found}"
    );
    Ok(())
}
