//! RESP2, the protocol of Redis: commands in, replies out.
//!
//! Ground rule: a command is read where it lies. [`Parser`] keeps offsets into what it is given, so an argument costs
//! neither a copy nor an allocation, and what was understood of a command that is not complete is not looked at again. Only
//! inline commands are copied, since their quotes go. What is answered does not depend on how the bytes were cut.
//! Source: "Redis serialization protocol specification"; `networking.c` of Redis 7.0 for order and texts of the errors.

use std::borrow::Cow;
use std::ops::Range;

/// The longest inline command, and the longest line that says a count or a length (`PROTO_INLINE_MAX_SIZE`).
pub(crate) const LINE_MAX: usize = 64 * 1024;
/// Room for so many arguments is kept from one command to the next.
const ARGUMENTS_KEPT: usize = 1024;

/// What a client may ask for at most.
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

/// What a client is told went wrong, in the words of Redis.
pub(crate) type Refusal = Cow<'static, str>;

/// A command where it lies: its name, which is argument 0, and its arguments. An empty one says nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command<'a> {
    bytes: &'a [u8],
    arguments: &'a [Range<usize>],
    /// How much of what was given it takes.
    pub(crate) length: usize,
}

impl<'a> Command<'a> {
    pub(crate) const fn count(self) -> usize {
        self.arguments.len()
    }

    /// An argument by its number; empty if there is none.
    pub(crate) fn argument(self, number: usize) -> &'a [u8] {
        self.arguments.get(number).map_or(&[], |range| &self.bytes[range.clone()])
    }

    pub(crate) fn words(self, first: usize) -> impl Iterator<Item = &'a [u8]> {
        (first..self.count()).map(move |number| self.argument(number))
    }
}

/// Finds the commands in what a client sends.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// Where the arguments found so far are: in what was given, or in `inline`.
    arguments: Vec<Range<usize>>,
    /// The arguments of an inline command, without their quotes.
    inline: Vec<u8>,
    /// How much of the present command has been understood: 0 before it has begun.
    position: usize,
    /// How many arguments are still to come.
    missing: usize,
    /// How long the argument at `position` is, once that is known.
    length: Option<usize>,
}

impl Parser {
    /// The command at the beginning of `data`; `None` if more of it has to come.
    ///
    /// Until there is a command, `data` has to begin with what it began with last time. After a refusal nobody knows where
    /// the next command begins. O(what is new), but for a line without its end, of which there are [`LINE_MAX`] bytes.
    pub(crate) fn parse<'a>(&'a mut self, data: &'a [u8], limits: &Limits) -> Result<Option<Command<'a>>, Refusal> {
        if self.position == 0 {
            self.arguments.clear();
            self.arguments.shrink_to(ARGUMENTS_KEPT);
            match data.first() {
                None => return Ok(None),
                Some(b'*') if !self.read_count(data, limits)? => return Ok(None),
                Some(b'*') => {}
                Some(_) => return self.parse_inline(data, limits),
            }
        }
        while self.missing > 0 {
            if !self.read_argument(data, limits)? {
                return Ok(None);
            }
        }
        let length = std::mem::take(&mut self.position);
        Ok(Some(Command { bytes: data, arguments: &self.arguments, length }))
    }

    /// Reads how many arguments there are: whether that has come.
    fn read_count(&mut self, data: &[u8], limits: &Limits) -> Result<bool, Refusal> {
        let Some(line) = self.read_line(data, "too big mbulk count string")? else { return Ok(false) };
        let count = integer(&line[1..]).map(|count| usize::try_from(count).unwrap_or(0)); // less than none is none
        self.missing = count.filter(|count| *count <= limits.max_arguments).ok_or("invalid multibulk length")?;
        Ok(true)
    }

    /// Reads one argument: whether it has come.
    fn read_argument(&mut self, data: &[u8], limits: &Limits) -> Result<bool, Refusal> {
        if self.length.is_none() {
            let Some(line) = self.read_line(data, "too big bulk count string")? else { return Ok(false) };
            let [b'$', digits @ ..] = line else {
                return Err(format!("expected '$', got '{}'", char::from(*line.first().unwrap_or(&b' '))).into());
            };
            let length = integer(digits).and_then(|length| usize::try_from(length).ok());
            self.length = length.filter(|length| *length <= limits.max_argument);
        }
        let end = self.position + self.length.ok_or("invalid bulk length")?;
        if data.len() < end + 2 {
            return Ok(false);
        }
        self.arguments.push(self.position..end);
        self.position = end + 2; // as Redis we do not ask whether these two are the end of a line
        (self.missing, self.length) = (self.missing - 1, None);
        Ok(true)
    }

    /// Takes the line at `position`; `None` if it has not come.
    fn read_line<'a>(&mut self, data: &'a [u8], too_long: &'static str) -> Result<Option<&'a [u8]>, Refusal> {
        let rest = &data[self.position..];
        let end = find(b'\r', rest, too_long)?.filter(|end| rest.len() > end + 1);
        self.position += end.map_or(0, |end| end + 2);
        Ok(end.map(|end| &rest[..end]))
    }

    /// A command as a line of words: what people type.
    fn parse_inline(&mut self, data: &[u8], limits: &Limits) -> Result<Option<Command<'_>>, Refusal> {
        let Some(end) = find(b'\n', data, "too big inline request")? else { return Ok(None) };
        self.inline.clear();
        let mut rest = data[..end].trim_ascii();
        while !rest.is_empty() {
            let start = self.inline.len();
            rest = self.take_word(rest).ok_or("unbalanced quotes in request")?.trim_ascii_start();
            self.arguments.push(start..self.inline.len());
        }
        if self.arguments.len() > limits.max_arguments {
            return Err("invalid multibulk length".into());
        }
        Ok(Some(Command { bytes: &self.inline, arguments: &self.arguments, length: end + 1 }))
    }

    /// Appends the word at the beginning of `rest` to `inline`, without its quotes; gives what comes behind it. A backslash
    /// takes a quote for itself; Redis knows control characters by names too.
    fn take_word<'a>(&mut self, mut rest: &'a [u8]) -> Option<&'a [u8]> {
        let mut quote = None;
        loop {
            let (byte, behind) = match (quote, rest) {
                (None, []) => return Some(rest),
                (None, [space, ..]) if space.is_ascii_whitespace() => return Some(rest),
                (None, [mark @ (b'"' | b'\''), behind @ ..]) => {
                    (quote, rest) = (Some(*mark), behind);
                    continue;
                }
                (Some(mark), [byte, behind @ ..]) if *byte == mark => {
                    return behind.first().is_none_or(u8::is_ascii_whitespace).then_some(behind);
                }
                (Some(b'"'), [b'\\', byte, behind @ ..]) | (Some(b'\''), [b'\\', byte @ b'\'', behind @ ..]) => {
                    (byte, behind)
                }
                (_, [byte, behind @ ..]) => (byte, behind),
                (Some(_), []) => return None,
            };
            self.inline.push(*byte);
            rest = behind;
        }
    }
}

/// Where the end of the first line is, if it has come.
fn find(end: u8, data: &[u8], too_long: &'static str) -> Result<Option<usize>, Refusal> {
    match data.iter().take(LINE_MAX).position(|byte| *byte == end) {
        None if data.len() > LINE_MAX => Err(too_long.into()),
        found => Ok(found),
    }
}

/// A whole number as Redis reads it: decimal, without spaces, `+` or leading zeros.
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let plain = matches!(text, b"0" | [b'1'..=b'9', ..] | [b'-', b'1'..=b'9', ..]);
    if plain { str::from_utf8(text).ok()?.parse().ok() } else { None }
}

/// Replies, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Replies(pub(crate) Vec<u8>);

impl Replies {
    pub(crate) fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// What would end the line becomes a space.
    pub(crate) fn error(&mut self, text: &str) {
        self.line(b'-', format!("ERR {text}").replace(['\r', '\n'], " ").as_bytes());
    }

    pub(crate) fn integer(&mut self, number: i64) {
        self.line(b':', itoa::Buffer::new().format(number).as_bytes());
    }

    /// A string of bytes, or that there is none.
    pub(crate) fn bulk(&mut self, bytes: Option<&[u8]>) {
        let Some(bytes) = bytes else { return self.line(b'$', b"-1") };
        self.line(b'$', itoa::Buffer::new().format(bytes.len()).as_bytes());
        self.0.extend_from_slice(bytes);
        self.0.extend_from_slice(b"\r\n");
    }

    pub(crate) fn count<T>(&mut self, items: impl Iterator<Item = T>) {
        self.integer(items.count() as i64);
    }

    /// As many replies have to follow.
    pub(crate) fn array(&mut self, length: usize) {
        self.line(b'*', itoa::Buffer::new().format(length).as_bytes());
    }

    pub(crate) fn strings(&mut self, strings: &[&[u8]]) {
        self.array(strings.len());
        strings.iter().for_each(|string| self.bulk(Some(string)));
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.0.push(kind);
        self.0.extend_from_slice(text);
        self.0.extend_from_slice(b"\r\n");
    }
}
