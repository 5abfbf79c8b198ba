//! RESP2 and RESP3, the protocol of Redis: commands in, replies out.
//!
//! Ground rule: a command is parsed in place. Its words are slices of the input, so they cost no
//! copy. The parsed part of an incomplete command is not parsed again. The result does not depend
//! on how the input was split. Source: "Redis serialization protocol specification"; `networking.c`
//! of Redis 7.0 for order and texts of the errors.

use std::borrow::Cow;
use std::mem::take;
use std::ops::Range;

use handlers::{Framing, Lines};

/// The maximum length of an inline command, and of a line with a count or a length
/// (`PROTO_INLINE_MAX_SIZE`).
pub(crate) const LINE_MAX: usize = 64 * 1024;
/// The number of arguments whose memory is kept from one command to the next.
const ARGUMENTS_KEPT: usize = 1024;
/// The length of a reply whose memory is kept.
const REPLY_KEPT: usize = 1 << 20;
pub(crate) const NOT_AN_INTEGER: &str = "value is not an integer or out of range";

const BAD_COUNT: &str = "invalid multibulk length";

/// The limits of a client's commands.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Limits {
    /// Arguments of one command, its name included; more end the connection
    #[arg(long, value_name = "N", default_value_t = 65_536)]
    pub(crate) max_arguments: usize,
    /// The length of an argument; a longer one ends the connection
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    pub(crate) max_argument: usize,
    /// The length of a key, or of a channel's name
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 10)]
    pub(crate) max_key: usize,
    /// The length of a value
    #[arg(long, value_name = "BYTES", default_value_t = 8 << 20)]
    pub(crate) max_value: usize,
}

impl Limits {
    /// Checks if a key and a value may be stored.
    pub(crate) fn check(&self, key: &[u8], value: &[u8]) -> Result<(), Refusal> {
        let fits = key.len() <= self.max_key && value.len() <= self.max_value;
        if fits {
            Ok(())
        } else {
            Err("string exceeds maximum allowed size".into())
        }
    }
}

/// An error reply, in the words of Redis.
pub(crate) type Refusal = Cow<'static, str>;

/// Finds the commands in the input of a client.
#[derive(Debug)]
pub(crate) struct Parser {
    lines: Lines,
    /// The positions of the arguments found so far.
    found: Vec<Range<usize>>,
    /// The number of arguments still to come.
    missing: usize,
    /// The length of the parsed part of the present command; 0 before it has begun.
    position: usize,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            lines: Lines::new(LINE_MAX),
            found: Vec::new(),
            missing: 0,
            position: 0,
        }
    }
}

impl Parser {
    /// Parses the command at the beginning of `data` into `words`, its name first. Returns its
    /// length, or `None` if it is incomplete. An empty command has no words.
    ///
    /// Until a command is complete, `data` must begin with the same bytes as in the last call.
    /// After a refusal, the position of the next command is unknown. O(new bytes).
    pub(crate) fn parse<'a>(
        &mut self,
        data: &'a [u8],
        limits: &Limits,
        words: &mut Vec<&'a [u8]>,
    ) -> Result<Option<usize>, Refusal> {
        words.clear();
        if self.position == 0 {
            let is_inline = data.first() != Some(&b'*');
            let too_long = if is_inline {
                "too big inline request"
            } else {
                "too big mbulk count string"
            };
            let Some(line) = self.lines.decode(data).map_err(|_| too_long)? else {
                return Ok(None);
            };
            self.position = line.consumed;
            if is_inline {
                split(line.bytes, words)?;
            } else {
                // A negative count is the same as 0.
                self.missing = integer(&line.bytes[1..])
                    .ok_or(BAD_COUNT)?
                    .max(0)
                    .unsigned_abs() as usize;
            }
            if self.missing.max(words.len()) > limits.max_arguments {
                return Err(BAD_COUNT.into());
            }
        }
        while self.missing > 0 {
            let Some(argument) = self.find_argument(data, limits.max_argument)? else {
                return Ok(None);
            };
            // Like Redis, this does not check that these two bytes are a line ending.
            self.position = argument.end + 2;
            self.found.push(argument);
            self.missing -= 1;
        }
        words.extend(self.found.iter().map(|range| &data[range.clone()]));
        self.found.clear();
        self.found.shrink_to(ARGUMENTS_KEPT);
        Ok(Some(take(&mut self.position)))
    }

    /// Returns the position of the next argument, if it is complete.
    fn find_argument(
        &mut self,
        data: &[u8],
        max_length: usize,
    ) -> Result<Option<Range<usize>>, Refusal> {
        let line = self
            .lines
            .decode(&data[self.position..])
            .map_err(|_| "too big bulk count string")?;
        let Some(line) = line else { return Ok(None) };
        let [b'$', digits @ ..] = line.bytes else {
            return Err(format!(
                "expected '$', got '{}'",
                char::from(*line.bytes.first().unwrap_or(&b' '))
            )
            .into());
        };
        let length = integer(digits).and_then(|length| usize::try_from(length).ok());
        let length = length
            .filter(|length| *length <= max_length)
            .ok_or("invalid bulk length")?;
        let start = self.position + line.consumed;
        Ok((data.len() >= start + length + 2).then(|| start..start + length))
    }
}

/// Appends the words of a typed line. A word with spaces is put in quotes; there are no escapes.
fn split<'a>(line: &'a [u8], words: &mut Vec<&'a [u8]>) -> Result<(), Refusal> {
    let mut rest = line.trim_ascii();
    while let Some(first) = rest.first() {
        let (word, behind) = if matches!(first, b'"' | b'\'') {
            let end = rest[1..]
                .iter()
                .position(|byte| byte == first)
                .ok_or("unbalanced quotes in request")?;
            (&rest[1..=end], &rest[end + 2..])
        } else {
            rest.split_at(
                rest.iter()
                    .position(u8::is_ascii_whitespace)
                    .unwrap_or(rest.len()),
            )
        };
        if !behind.first().is_none_or(u8::is_ascii_whitespace) {
            return Err("unbalanced quotes in request".into());
        }
        words.push(word);
        rest = behind.trim_ascii_start();
    }
    Ok(())
}

/// Parses an integer as Redis does: decimal, without spaces, `+` or leading zeros.
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        b"0" => return Some(0),
        [b'-', digits @ ..] => (-1, digits),
        digits => (1, digits),
    };
    digits.first().filter(|first| **first != b'0')?;
    digits.iter().try_fold(0_i64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(sign * digit)
    })
}

/// Returns `text` in lower case. Returns an empty slice if `room` is too short.
pub(crate) fn lowercase<'a>(text: &[u8], room: &'a mut [u8]) -> &'a [u8] {
    let Some(small) = room.get_mut(..text.len()) else {
        return &[];
    };
    small.copy_from_slice(text);
    small.make_ascii_lowercase();
    small
}

/// The protocol version of the replies to a client. Commands are the same in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Resp {
    /// The default.
    #[default]
    V2,
    /// Chosen by `HELLO 3`: one null for all types, maps, and messages that are distinct from
    /// replies.
    V3,
}

/// Replies, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    pub(crate) bytes: Vec<u8>,
    pub(crate) resp: Resp,
}

impl Replies {
    /// Clears the buffer, for replies to a client that speaks `resp`.
    pub(crate) fn begin(&mut self, resp: Resp) {
        self.bytes.clear();
        self.bytes.shrink_to(REPLY_KEPT);
        self.resp = resp;
    }

    pub(crate) fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// Replaces the replies so far by an error. Line breaks in `text` become spaces.
    pub(crate) fn error(&mut self, text: &str) {
        self.error_of("ERR", text);
    }

    /// Does the same as [`error`](Self::error), for an error with a `code` that programs can check.
    pub(crate) fn error_of(&mut self, code: &str, text: &str) {
        self.bytes.clear();
        self.line(
            b'-',
            format!("{code} {text}")
                .replace(['\r', '\n'], " ")
                .as_bytes(),
        );
    }

    pub(crate) fn integer(&mut self, number: impl itoa::Integer) {
        self.line(b':', itoa::Buffer::new().format(number).as_bytes());
    }

    /// Appends a byte string, or null for `None`.
    pub(crate) fn bulk(&mut self, bytes: Option<&[u8]>) {
        match (bytes, self.resp) {
            (Some(bytes), _) => self.sized(b'$', bytes),
            (None, Resp::V2) => self.line(b'$', b"-1"),
            (None, Resp::V3) => self.line(b'_', b""),
        }
    }

    /// Appends a text for people to read.
    pub(crate) fn text(&mut self, text: &str) {
        match self.resp {
            Resp::V2 => self.sized(b'$', text.as_bytes()),
            Resp::V3 => self.sized(b'=', format!("txt:{text}").as_bytes()),
        }
    }

    /// Appends the head of an array. `length` replies must follow.
    pub(crate) fn array(&mut self, length: usize) {
        self.line(b'*', itoa::Buffer::new().format(length).as_bytes());
    }

    /// Appends the head of a map. `pairs` pairs of replies must follow.
    pub(crate) fn map(&mut self, pairs: usize) {
        match self.resp {
            Resp::V2 => self.array(2 * pairs),
            Resp::V3 => self.line(b'%', itoa::Buffer::new().format(pairs).as_bytes()),
        }
    }

    /// Appends a map of one pair.
    pub(crate) fn pair(&mut self, key: &[u8], value: &[u8]) {
        self.map(1);
        self.bulk(Some(key));
        self.bulk(Some(value));
    }

    /// Appends the head of a message, which answers no command. `length` replies must follow.
    pub(crate) fn push(&mut self, length: usize) {
        let kind = if self.resp == Resp::V2 { b'*' } else { b'>' };
        self.line(kind, itoa::Buffer::new().format(length).as_bytes());
    }

    pub(crate) fn strings(&mut self, strings: &[&[u8]]) {
        self.array(strings.len());
        strings.iter().for_each(|string| self.bulk(Some(string)));
    }

    fn sized(&mut self, kind: u8, bytes: &[u8]) {
        self.line(kind, itoa::Buffer::new().format(bytes.len()).as_bytes());
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(text);
        self.bytes.extend_from_slice(b"\r\n");
    }
}
