//! All framings against naive models that see the whole stream at once.

use allocation_counter::measure;
use proptest::prelude::*;

use super::*;

/// The result of decoding a stream: its frames, and the error that has ended it, if there was one.
pub(super) type Read = (Vec<Vec<u8>>, Option<FrameError>);

/// Reads as a connection does: unconsumed bytes are kept, and the next piece comes after them. A
/// handler that consumes only `frames_max` frames at a time leaves the rest for later.
fn read_pieces<'s, F: Framing>(
    framing: &mut F,
    pieces: impl Iterator<Item = &'s [u8]>,
    frames_max: usize,
) -> Read {
    let (mut read, mut kept) = (Vec::new(), Vec::new());
    for piece in pieces {
        kept.extend_from_slice(piece);
        let mut frames = framing.frames(&kept);
        for frame in frames.by_ref().take(frames_max) {
            match frame {
                Ok(bytes) => read.push(bytes.to_vec()),
                Err(error) => return (read, Some(error)),
            }
        }
        let consumed = frames.consumed();
        kept.drain(..consumed);
    }
    for frame in framing.frames_at_eof(&kept) {
        match frame {
            Ok(bytes) => read.push(bytes.to_vec()),
            Err(error) => return (read, Some(error)),
        }
    }
    (read, None)
}

/// Reads a stream that comes in one piece.
pub(super) fn frames_of<F: Framing>(framing: &mut F, stream: &[u8]) -> Read {
    read_pieces(framing, std::iter::once(stream), usize::MAX)
}

/// Checks that a stream is decoded as `expected` however it is cut.
#[track_caller]
pub(super) fn every_cut<F: Framing + Clone>(framing: &F, stream: &[u8], expected: &Read) {
    let found = check_framing(|| framing.clone(), stream).unwrap();
    assert_eq!(&(found.frames, found.error), expected);
}

fn pieces(stream: &[u8], cut_at: impl Fn(usize) -> bool) -> impl Iterator<Item = &[u8]> {
    let mut begin = 0;
    (1..=stream.len())
        .filter(move |at| *at == stream.len() || cut_at(*at))
        .map(move |end| {
            let piece = &stream[begin..end];
            begin = end;
            piece
        })
}

#[derive(Clone, Debug)]
enum Kind {
    Lines,
    LinesCrlf,
    Delimited(Vec<u8>),
    LengthPrefixed(LengthPrefix),
}

impl Kind {
    fn build(&self, max_length: usize) -> Box<dyn Framing> {
        match self {
            Self::Lines => Box::new(Lines::new(max_length)),
            Self::LinesCrlf => Box::new(Lines::crlf(max_length)),
            Self::Delimited(delimiter) => Box::new(Delimited::new(delimiter, max_length)),
            Self::LengthPrefixed(prefix) => Box::new(LengthPrefixed::new(*prefix, max_length)),
        }
    }

    /// Returns the first frame of `stream`, and the bytes after the frame. `stream` must be
    /// complete and not empty.
    fn first<'a>(
        &self,
        stream: &'a [u8],
        max_length: usize,
    ) -> Result<(&'a [u8], &'a [u8]), FrameError> {
        let too_long = |what, length| FrameError::TooLong {
            what,
            length,
            max_length,
        };
        let (what, (frame, behind)) = match self {
            Self::Lines | Self::LinesCrlf => {
                let (line, behind) = split(stream, b"\n");
                let ended = line.len() < stream.len();
                (
                    "line",
                    (
                        line.strip_suffix(b"\r").filter(|_| ended).unwrap_or(line),
                        behind,
                    ),
                )
            }
            Self::Delimited(delimiter) => ("frame", split(stream, delimiter)),
            Self::LengthPrefixed(prefix) => {
                let (length, behind) = naive_length(*prefix, stream)?;
                if length > max_length as u128 {
                    return Err(too_long("frame", Some(length as u64)));
                }
                let missing = (length as usize)
                    .checked_sub(behind.len())
                    .filter(|missing| *missing > 0);
                if let Some(missing) = missing {
                    return Err(FrameError::Truncated {
                        missing: Some(missing as u64),
                    });
                }
                return Ok(behind.split_at(length as usize));
            }
        };
        if frame.len() > max_length {
            Err(too_long(what, None))
        } else {
            Ok((frame, behind))
        }
    }

    fn read(&self, mut stream: &[u8], max_length: usize) -> Read {
        let mut read = Vec::new();
        while !stream.is_empty() {
            match self.first(stream, max_length) {
                Ok((frame, behind)) => {
                    read.push(frame.to_vec());
                    stream = behind;
                }
                Err(error) => return (read, Some(error)),
            }
        }
        (read, None)
    }

    /// Returns the strings of bytes that may complete a frame whose end is missing.
    fn ends(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Lines | Self::LinesCrlf => vec![b"\n".to_vec(), b"\r\n".to_vec()],
            Self::Delimited(delimiter) => (0..delimiter.len())
                .map(|begin| delimiter[begin..].to_vec())
                .collect(),
            Self::LengthPrefixed(_) => vec![],
        }
    }
}

fn split<'a>(stream: &'a [u8], end: &[u8]) -> (&'a [u8], &'a [u8]) {
    let at = stream.windows(end.len()).position(|window| window == end);
    at.map_or((stream, &[]), |at| {
        (&stream[..at], &stream[at + end.len()..])
    })
}

fn naive_length(prefix: LengthPrefix, stream: &[u8]) -> Result<(u128, &[u8]), FrameError> {
    let (bytes, shift) = match prefix {
        LengthPrefix::U8 => (1, 8),
        LengthPrefix::U16Be | LengthPrefix::U16Le => (2, 8),
        LengthPrefix::U32Be | LengthPrefix::U32Le => (4, 8),
        LengthPrefix::Varint => (
            stream.iter().take_while(|byte| **byte >= 0x80).count() + 1,
            7,
        ),
    };
    let varint = prefix == LengthPrefix::Varint;
    let said = &stream[..stream.len().min(bytes.min(10))];
    let mut low_first = said.to_vec();
    if matches!(prefix, LengthPrefix::U16Be | LengthPrefix::U32Be) {
        low_first.reverse();
    }
    let bits = if varint { 0x7f } else { 0xff };
    let length = low_first
        .iter()
        .rev()
        .fold(0_u128, |sum, byte| sum << shift | u128::from(byte & bits));
    if varint && (bytes > 10 && said.len() == 10 || length > u128::from(u64::MAX)) {
        return Err(FrameError::Malformed(
            "the length of a frame is a varint of more than 64 bits",
        ));
    }
    if stream.len() < bytes {
        return Err(FrameError::Truncated { missing: None });
    }
    if varint && bytes > 1 && said.last() == Some(&0) {
        return Err(FrameError::Malformed(
            "the length of a frame is a varint longer than necessary",
        ));
    }
    Ok((length, &stream[bytes..]))
}

fn kind() -> impl Strategy<Value = Kind> {
    let prefix = prop::sample::select(vec![
        LengthPrefix::U8,
        LengthPrefix::U16Be,
        LengthPrefix::U16Le,
        LengthPrefix::U32Be,
        LengthPrefix::U32Le,
        LengthPrefix::Varint,
    ]);
    prop_oneof![
        1 => Just(Kind::Lines),
        1 => Just(Kind::LinesCrlf),
        2 => prop::collection::vec(prop::sample::select(b"ab".as_slice()), 1..5).prop_map(Kind::Delimited),
        2 => prefix.prop_map(Kind::LengthPrefixed),
    ]
}

/// Generates few different bytes, which have a meaning in some framing, so that meaningful
/// sequences are frequent.
fn bytes(max_length: usize) -> impl Strategy<Value = Vec<u8>> {
    let text = prop::collection::vec(prop::sample::select(b"aab\r\n".as_slice()), 0..=max_length);
    let numbers =
        prop::sample::select([0, 0, 0, 1, 1, 2, 3, 9, 0x7f, 0x80, 0x80, 0x81, 0xff].as_slice());
    prop_oneof![text, prop::collection::vec(numbers, 0..=max_length)]
}

fn cuts() -> impl Strategy<Value = Vec<bool>> {
    prop_oneof![
        prop::collection::vec(any::<bool>(), 64),
        prop::collection::vec(prop::bool::weighted(0.1), 64)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn encoded_frames_are_decoded_unchanged_however_they_are_cut(
        kind in kind(), max_length in 0..12_usize, frames in prop::collection::vec(bytes(12), 0..20),
        cuts in cuts(), frames_max in 1..5_usize,
    ) {
        let mut framing = kind.build(max_length);
        let (mut stream, mut put) = (Vec::new(), Vec::new());
        for frame in frames {
            let before = stream.len();
            if framing.encode(&frame, &mut stream).is_ok() {
                put.push(frame);
            } else {
                prop_assert_eq!(stream.len(), before, "a refused frame has left bytes");
            }
        }
        let pieces = pieces(&stream, |at| cuts[at % cuts.len()]);
        prop_assert_eq!(read_pieces(&mut framing, pieces, frames_max), (put, None));
    }

    /// A frame is refused if and only if the naive reader would not decode it unchanged.
    #[test]
    fn a_frame_that_encode_refuses_would_not_be_decoded_unchanged(kind in kind(), max_length in 0..12_usize, frame in bytes(14)) {
        let mut stream = Vec::new();
        let refused = kind.build(max_length).encode(&frame, &mut stream).is_err();
        match &kind {
            Kind::Lines => stream = [&frame, b"\n".as_slice()].concat(),
            Kind::LinesCrlf => stream = [&frame, b"\r\n".as_slice()].concat(),
            Kind::Delimited(delimiter) => stream = [&frame, delimiter.as_slice()].concat(),
            Kind::LengthPrefixed(_) => {
                prop_assert_eq!(refused, frame.len() > max_length);
                return Ok(());
            }
        }
        prop_assert_eq!(refused, kind.read(&stream, max_length) != (vec![frame], None));
    }

    /// The naive reader has the whole stream in one piece.
    #[test]
    fn garbage_is_decoded_as_by_a_naive_reader_however_it_is_cut(
        kind in kind(), max_length in 0..12_usize, stream in bytes(60), cuts in cuts(), frames_max in 1..5_usize,
    ) {
        let pieces = pieces(&stream, |at| cuts[at]);
        let read = read_pieces(&mut kind.build(max_length), pieces, frames_max);
        prop_assert!(read.0.iter().all(|frame| frame.len() <= max_length));
        prop_assert_eq!(read, kind.read(&stream, max_length));
    }

    /// There is no model for arbitrary bytes and limits. This checks only that there is no panic,
    /// and that the cuts change nothing.
    #[test]
    fn any_bytes_give_the_same_in_one_piece_and_in_many(
        kind in kind(), max_length in any::<prop::sample::Index>(), stream in prop::collection::vec(any::<u8>(), 0..200),
        cuts in cuts(),
    ) {
        for max_length in [max_length.index(300), max_length.index(usize::MAX), usize::MAX] {
            let in_one = frames_of(&mut kind.build(max_length), &stream);
            let pieces = pieces(&stream, |at| cuts[at % cuts.len()]);
            prop_assert!(in_one.0.iter().all(|frame| frame.len() <= max_length));
            prop_assert_eq!(read_pieces(&mut kind.build(max_length), pieces, usize::MAX), in_one);
        }
    }

    #[test]
    fn too_long_is_reported_at_the_first_byte_that_makes_it_certain(
        kind in kind(), max_length in 0..12_usize, stream in bytes(20),
    ) {
        prop_assume!(!matches!(kind, Kind::LengthPrefixed(_)));
        let mut framing = kind.build(max_length);
        for end in 0..=stream.len() {
            let data = &stream[..end];
            let saved = kind.ends().iter().any(|more| kind.first(&[data, more].concat(), max_length).is_ok());
            match framing.decode(data) {
                Ok(Some(_)) => break,
                Ok(None) => prop_assert!(saved),
                Err(_) => prop_assert!(!saved),
            }
        }
    }
}

#[test]
fn frames_end_with_the_first_error_and_count_what_came_before_it() {
    let mut lines = Lines::new(3);
    let mut frames = lines.frames(b"a\nbc\nlonger\nd\n");
    assert_eq!(frames.next(), Some(Ok(b"a".as_slice())));
    assert_eq!(frames.consumed(), 2);
    assert_eq!(
        frames.by_ref().take(9).count(),
        2,
        "a line and the error, once"
    );
    assert_eq!(frames.next(), None);
    assert_eq!(frames.consumed(), 5);
}

#[test]
fn an_iterator_of_frames_that_has_ended_stays_ended() {
    let mut lines = Lines::new(9);
    let mut frames = lines.frames(b"a\nb");
    assert_eq!(frames.by_ref().count(), 1);
    assert_eq!(frames.next(), None);
    assert_eq!(frames.consumed(), 2);
    let mut frames = lines.frames_at_eof(b"b\nc");
    assert_eq!(frames.by_ref().count(), 2);
    assert_eq!(frames.next(), None);
    assert_eq!(frames.consumed(), 3);
}

#[test]
fn decoding_a_frame_and_encoding_one_with_room_allocate_nothing() {
    for kind in [
        Kind::Lines,
        Kind::Delimited(b"--".to_vec()),
        Kind::LengthPrefixed(LengthPrefix::Varint),
    ] {
        let mut framing = kind.build(100);
        let mut stream = Vec::with_capacity(10_000);
        let allocations = measure(|| {
            for _ in 0..100 {
                framing.encode(b"a message", &mut stream).unwrap();
            }
            let mut frames = framing.frames(&stream);
            assert_eq!(frames.by_ref().flatten().count(), 100);
            assert_eq!(frames.consumed(), stream.len());
        });
        assert_eq!(allocations.count_total, 0, "{kind:?}");
    }
}

#[test]
fn a_framing_keeps_no_state_of_a_finished_stream() {
    for kind in [Kind::Lines, Kind::Delimited(b"\n".to_vec())] {
        let mut framing = kind.build(100);
        assert_eq!(framing.decode(b"unended"), Ok(None));
        assert_eq!(
            framing.decode_eof(b"unended"),
            Ok(Some(Frame {
                bytes: b"unended",
                consumed: 7
            }))
        );
        assert_eq!(
            framing.decode(b"a\n"),
            Ok(Some(Frame {
                bytes: b"a",
                consumed: 2
            }))
        );
    }
}
