//! Length-prefixed messages. The length states where the next message begins, so no byte is
//! searched, and a message can contain any byte.

use super::{Frame, FrameError, Framing, check_length};

/// The maximum number of bytes of a varint of 64 bits. Each byte holds 7 bits.
const VARINT_BYTES_MAX: usize = 10;

/// A framing for messages that begin with their length. The length stands in a prefix, and does not
/// count the bytes of the prefix. Finding a message is O(1).
///
/// If the length is beyond the limit that [`new`](Self::new) sets, the framing returns an error as
/// soon as the prefix is complete. So it does not wait for the bytes of such a message, and does
/// not buffer them.
///
/// ```
/// use handlers::{FrameError, Framing, LengthPrefix, LengthPrefixed};
///
/// let mut framing = LengthPrefixed::new(LengthPrefix::U8, 100);
/// let frames = framing.frames(b"\x03one\x03two\x05thr").collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(frames, [b"one", b"two"]);
/// assert!(framing.decode(b"\xff").is_err(), "a message of 255 bytes");
/// # Ok::<(), FrameError>(())
/// ```
#[doc(alias("LengthDelimitedCodec"))]
#[derive(Clone, Debug)]
pub struct LengthPrefixed {
    prefix: LengthPrefix,
    max_length: usize,
}

/// The format of a length prefix, which is an unsigned integer.
///
/// ```
/// use handlers::{FrameError, Framing, LengthPrefix, LengthPrefixed};
///
/// let mut stream = Vec::new();
/// LengthPrefixed::new(LengthPrefix::U16Le, 100).encode(b"hi", &mut stream)?;
/// LengthPrefixed::new(LengthPrefix::Varint, 100).encode(b"hi", &mut stream)?;
/// assert_eq!(stream, b"\x02\0hi\x02hi");
/// # Ok::<(), FrameError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LengthPrefix {
    /// 1 byte.
    U8,
    /// 2 bytes, the most significant first (network byte order).
    U16Be,
    /// 2 bytes, the least significant first.
    U16Le,
    /// 4 bytes, the most significant first (network byte order).
    U32Be,
    /// 4 bytes, the least significant first.
    U32Le,
    /// 1 to 10 bytes of 7 bits each, the least significant first (LEB128, as in Protocol Buffers).
    /// All bytes except the last have the highest bit set. Only the shortest form of a number is
    /// accepted, so each number has exactly one form.
    Varint,
}

impl LengthPrefixed {
    /// Returns a framing for messages of at most `max_length` bytes, not counting the prefix. If
    /// the prefix cannot hold `max_length`, the limit is the greatest length that the prefix can
    /// hold.
    ///
    /// ```
    /// use handlers::{FrameError, Framing, LengthPrefix, LengthPrefixed};
    ///
    /// let mut framing = LengthPrefixed::new(LengthPrefix::U16Be, 1024);
    /// let mut stream = Vec::new();
    /// framing.encode(b"hello", &mut stream)?;
    /// assert_eq!(stream, b"\0\x05hello");
    /// let frame = framing.decode(&stream)?.expect("a whole frame");
    /// assert_eq!((frame.bytes, frame.consumed), (b"hello".as_slice(), 7));
    /// # Ok::<(), FrameError>(())
    /// ```
    pub const fn new(prefix: LengthPrefix, max_length: usize) -> Self {
        let sayable = prefix.max_length();
        Self {
            prefix,
            max_length: if max_length < sayable {
                max_length
            } else {
                sayable
            },
        }
    }

    /// Returns the length at the start of `data`, and the bytes after the prefix.
    fn read<'a>(&self, data: &'a [u8]) -> Result<Option<(usize, &'a [u8])>, FrameError> {
        let Some((said, prefix)) = self.prefix.read(data)? else {
            return Ok(None);
        };
        match usize::try_from(said) {
            Ok(length) if length <= self.max_length => Ok(Some((length, &data[prefix..]))),
            _ => Err(FrameError::TooLong {
                what: "frame",
                length: Some(said),
                max_length: self.max_length,
            }),
        }
    }
}

impl Framing for LengthPrefixed {
    fn decode<'a>(&mut self, data: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        let Some((length, behind)) = self.read(data)? else {
            return Ok(None);
        };
        let prefix = data.len() - behind.len();
        Ok(behind.get(..length).map(|bytes| Frame {
            bytes,
            consumed: prefix + length,
        }))
    }

    fn decode_eof<'a>(&mut self, rest: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        let frame = self.decode(rest)?;
        if frame.is_some() || rest.is_empty() {
            return Ok(frame);
        }
        let missing = self
            .read(rest)?
            .map(|(length, behind)| (length - behind.len()) as u64);
        Err(FrameError::Truncated { missing })
    }

    fn encode(&self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        check_length(frame, "frame", self.max_length)?;
        self.prefix.write(frame.len(), out);
        out.extend_from_slice(frame);
        Ok(())
    }
}

impl LengthPrefix {
    /// Returns the greatest length that the prefix can hold.
    const fn max_length(self) -> usize {
        match self {
            Self::U8 => u8::MAX as usize,
            Self::U16Be | Self::U16Le => u16::MAX as usize,
            Self::U32Be | Self::U32Le => u32::MAX as usize,
            Self::Varint => usize::MAX,
        }
    }

    /// Returns the length at the start of `data`, and the number of bytes that the prefix takes.
    /// Returns `None` if there are too few bytes.
    fn read(self, data: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
        Ok(match self {
            Self::U8 => data.first().map(|byte| (u64::from(*byte), 1)),
            Self::U16Be => data
                .first_chunk()
                .map(|bytes| (u16::from_be_bytes(*bytes).into(), 2)),
            Self::U16Le => data
                .first_chunk()
                .map(|bytes| (u16::from_le_bytes(*bytes).into(), 2)),
            Self::U32Be => data
                .first_chunk()
                .map(|bytes| (u32::from_be_bytes(*bytes).into(), 4)),
            Self::U32Le => data
                .first_chunk()
                .map(|bytes| (u32::from_le_bytes(*bytes).into(), 4)),
            Self::Varint => return read_varint(data),
        })
    }

    /// Appends a length, which must be at most [`max_length`](Self::max_length).
    fn write(self, length: usize, out: &mut Vec<u8>) {
        match self {
            Self::U8 => out.push(length as u8),
            Self::U16Be => out.extend_from_slice(&(length as u16).to_be_bytes()),
            Self::U16Le => out.extend_from_slice(&(length as u16).to_le_bytes()),
            Self::U32Be => out.extend_from_slice(&(length as u32).to_be_bytes()),
            Self::U32Le => out.extend_from_slice(&(length as u32).to_le_bytes()),
            Self::Varint => write_varint(length as u64, out),
        }
    }
}

fn read_varint(data: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    let mut value = 0;
    for (place, &byte) in data.iter().take(VARINT_BYTES_MAX).enumerate() {
        if place == VARINT_BYTES_MAX - 1 && byte > 1 {
            return Err(FrameError::Malformed(
                "the length of a frame is a varint of more than 64 bits",
            ));
        }
        if place > 0 && byte == 0 {
            return Err(FrameError::Malformed(
                "the length of a frame is a varint longer than necessary",
            ));
        }
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Ok(Some((value, place + 1)));
        }
    }
    Ok(None)
}

fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::tests::{every_cut, frames_of};

    const PREFIXES: [LengthPrefix; 6] = [
        LengthPrefix::U8,
        LengthPrefix::U16Be,
        LengthPrefix::U16Le,
        LengthPrefix::U32Be,
        LengthPrefix::U32Le,
        LengthPrefix::Varint,
    ];

    #[test]
    fn each_prefix_is_the_bytes_that_its_name_says() {
        let said: [&[u8]; 6] = [
            &[200],
            &[0, 200],
            &[200, 0],
            &[0, 0, 0, 200],
            &[200, 0, 0, 0],
            &[0xc8, 0x01],
        ];
        for (prefix, said) in PREFIXES.into_iter().zip(said) {
            let mut out = Vec::new();
            LengthPrefixed::new(prefix, 200)
                .encode(&[7; 200], &mut out)
                .unwrap();
            assert_eq!(out, [said, &[7; 200]].concat(), "{prefix:?}");
        }
    }

    #[test]
    fn lengths_around_every_power_that_matters_come_back() {
        for prefix in PREFIXES {
            for length in [
                0, 1, 127, 128, 255, 256, 16_383, 16_384, 65_535, 65_536, 2_097_151, 2_097_152,
            ] {
                let mut framing = LengthPrefixed::new(prefix, usize::MAX);
                let (frame, mut out) = (vec![7; length], Vec::new());
                if length <= prefix.max_length() {
                    framing.encode(&frame, &mut out).unwrap();
                    assert_eq!(frames_of(&mut framing, &out), (vec![frame], None));
                } else {
                    let max_length = prefix.max_length();
                    let too_long = FrameError::TooLong {
                        what: "frame",
                        length: Some(length as u64),
                        max_length,
                    };
                    assert_eq!(framing.encode(&frame, &mut out), Err(too_long));
                    assert!(out.is_empty());
                }
            }
        }
    }

    #[test]
    fn a_frame_of_the_limit_passes_and_a_byte_more_does_not_however_it_is_cut() {
        for prefix in PREFIXES {
            let mut stream = Vec::new();
            LengthPrefixed::new(prefix, 4)
                .encode(b"abc", &mut stream)
                .unwrap();
            every_cut(
                &LengthPrefixed::new(prefix, 3),
                &stream,
                &(vec![b"abc".to_vec()], None),
            );
            stream.clear();
            LengthPrefixed::new(prefix, 4)
                .encode(b"abcd", &mut stream)
                .unwrap();
            let too_long = FrameError::TooLong {
                what: "frame",
                length: Some(4),
                max_length: 3,
            };
            every_cut(
                &LengthPrefixed::new(prefix, 3),
                &stream,
                &(vec![], Some(too_long)),
            );
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_an_error_before_any_byte_of_the_frame() {
        for prefix in PREFIXES {
            let mut said = Vec::new();
            prefix.write(101, &mut said);
            let too_long = FrameError::TooLong {
                what: "frame",
                length: Some(101),
                max_length: 100,
            };
            assert_eq!(
                LengthPrefixed::new(prefix, 100).decode(&said),
                Err(too_long)
            );
        }
    }

    #[test]
    fn half_a_frame_is_an_error_when_the_stream_ends() {
        for prefix in PREFIXES {
            let mut framing = LengthPrefixed::new(prefix, 1000);
            let mut stream = Vec::new();
            framing.encode(&[7; 200], &mut stream).unwrap();
            let said = stream.len() - 200;
            assert_eq!(framing.decode_eof(b""), Ok(None));
            for end in 1..stream.len() {
                let missing = (end >= said).then(|| (stream.len() - end) as u64);
                assert_eq!(
                    framing.decode_eof(&stream[..end]),
                    Err(FrameError::Truncated { missing })
                );
            }
        }
    }

    #[test]
    fn a_varint_holds_64_bits_in_its_shortest_form_and_no_other() {
        let read = |bytes: &[u8]| read_varint(bytes);
        let with = |byte: u8, times: usize, last: u8| [vec![byte; times], vec![last]].concat();
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[0]), Ok(Some((0, 1))));
        assert_eq!(read(&[0x7f, 0xff]), Ok(Some((127, 1))));
        assert_eq!(read(&[0x80, 0x01]), Ok(Some((128, 2))));
        assert_eq!(read(&with(0xff, 9, 0x01)), Ok(Some((u64::MAX, 10))));
        assert_eq!(read(&with(0x80, 9, 0x01)), Ok(Some((1 << 63, 10))));
        assert_eq!(read(&[0xff; 9]), Ok(None));
        for beyond in [
            with(0xff, 9, 0x02),
            with(0x80, 9, 0x7f),
            vec![0xff; 10],
            vec![0x80; 10],
            vec![0xff; 11],
        ] {
            assert!(
                matches!(read(&beyond), Err(FrameError::Malformed(reason)) if reason.contains("64 bits"))
            );
        }
        for longer in [
            vec![0x80, 0],
            with(0x81, 1, 0),
            with(0x80, 5, 0),
            with(0xff, 9, 0),
        ] {
            assert!(
                matches!(read(&longer), Err(FrameError::Malformed(reason)) if reason.contains("longer"))
            );
        }
        for bit in 0..64 {
            for value in [1 << bit, (1_u64 << bit) - 1, (1 << bit) + 1] {
                let mut said = Vec::new();
                write_varint(value, &mut said);
                assert_eq!(read(&said), Ok(Some((value, said.len()))));
                assert_eq!(read(&said[..said.len() - 1]), Ok(None));
            }
        }
    }

    #[test]
    fn the_greatest_length_of_a_prefix_overflows_nothing() {
        let mut said = Vec::new();
        write_varint(u64::MAX, &mut said);
        let mut framing = LengthPrefixed::new(LengthPrefix::Varint, usize::MAX);
        assert_eq!(framing.decode(&said), Ok(None));
        assert_eq!(
            framing.decode_eof(&said),
            Err(FrameError::Truncated {
                missing: Some(u64::MAX)
            })
        );
    }
}
