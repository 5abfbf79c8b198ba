//! `kv_server`: its parser, and whole sessions of two clients.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use handlers::{Connection, ConnectionLimit, ConnectionOptions};
use reactor::{ManualClock, Reactor};

use self::protocol::{Limits, Parser, Replies, integer};
use self::server::{Client, REPLY_MAX, Server};
use super::{bytes, cut, run_until_idle};

#[path = "../../../examples/kv_server/handshake.rs"]
mod handshake;
#[path = "../../../examples/kv_server/protocol.rs"]
mod protocol;
#[path = "../../../examples/kv_server/server.rs"]
mod server;
#[path = "../../../examples/kv_server/store.rs"]
mod store;

const INPUT_MAX: usize = 2000;
const COMMANDS_MAX: usize = 60;
/// Arguments that have a meaning for some command.
const WORDS: [&str; 24] = [
    "a",
    "b",
    "ch",
    "0",
    "1",
    "-1",
    "2",
    "3",
    "9223372036854775807",
    "-9223372036854775808",
    "x y",
    "\r\n",
    "",
    "ex",
    "px",
    "nx",
    "xx",
    "keepttl",
    "get",
    "timeout",
    "setname",
    "auth",
    "save",
    "id",
];
const COMMANDS: [&str; 29] = [
    "get",
    "set",
    "del",
    "exists",
    "incr",
    "decr",
    "incrby",
    "decrby",
    "mget",
    "mset",
    "expire",
    "ttl",
    "persist",
    "dbsize",
    "flushall",
    "ping",
    "echo",
    "select",
    "command",
    "config",
    "info",
    "hello",
    "auth",
    "client",
    "subscribe",
    "unsubscribe",
    "publish",
    "quit",
    "nosuch",
];

fn limits() -> Limits {
    Limits {
        max_arguments: 20,
        max_argument: 300,
        max_key: 100,
        max_value: 200,
    }
}

/// The commands of a stream, and the error that ended it.
type Parsed = (Vec<Vec<Vec<u8>>>, Option<String>);

fn parse_all<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Parsed {
    let (mut parser, mut commands, mut data) = (Parser::default(), Vec::new(), Vec::new());
    for piece in pieces {
        data.extend_from_slice(piece);
        loop {
            let mut words = Vec::new();
            let length = match parser.parse(&data, &limits(), &mut words) {
                Ok(Some(length)) => length,
                Ok(None) => break,
                Err(refusal) => return (commands, Some(refusal.into_owned())),
            };
            assert!((1..=data.len()).contains(&length));
            commands.push(words.into_iter().map(<[u8]>::to_vec).collect());
            data.drain(..length);
        }
    }
    (commands, None)
}

/// The commands do not depend on how the stream is cut, and are parsed again as they are encoded.
pub(super) fn parse(u: &mut Unstructured<'_>) -> Result<()> {
    let input = bytes(u, INPUT_MAX)?;
    let (mut pieces, mut rest) = (Vec::new(), input);
    while !rest.is_empty() {
        let (piece, behind) = cut(rest, u)?;
        pieces.push(piece);
        rest = behind;
    }
    let whole = parse_all([input]);
    assert_eq!(parse_all(pieces), whole);
    assert_eq!(parse_all(input.chunks(1)), whole);
    // The words of an inline command may be longer than an argument.
    let can_be_encoded = |command: &&Vec<Vec<u8>>| {
        !command.is_empty()
            && command
                .iter()
                .all(|word| word.len() <= limits().max_argument)
    };
    for command in whole.0.iter().filter(can_be_encoded) {
        let mut encoded = Replies::default();
        encoded.strings(&command.iter().map(Vec::as_slice).collect::<Vec<_>>());
        assert_eq!(parse_all([&*encoded.bytes]), (vec![command.clone()], None));
        for word in command {
            let text = str::from_utf8(word).unwrap_or_default();
            if let Some(number) = integer(word) {
                assert_eq!(number.to_string(), text);
            } else {
                assert!(
                    text.parse::<i64>().is_err() || has_other_spelling(text),
                    "{text}"
                );
            }
        }
    }
    Ok(())
}

/// Returns whether `text` is a number that is written as Redis never writes it.
fn has_other_spelling(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    text.starts_with('+') || digits.starts_with('0')
}

/// Returns the bytes after the first value, or `None` if it is incomplete or invalid.
fn skip_value(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(2).position(|window| window == b"\r\n")?;
    let (kind, line, mut rest) = (bytes[0], &bytes[1..end], &bytes[end + 2..]);
    if line.contains(&b'\r') || line.contains(&b'\n') {
        return None;
    }
    let count = || {
        integer(line)
            .filter(|count| *count >= -1)
            .map(|count| count.max(0) as usize)
    };
    match kind {
        b'+' | b'-' => {}
        b':' => drop(integer(line)?),
        b'_' if line.is_empty() => {}
        b'$' if line == b"-1" => {}
        b'$' | b'=' => rest = rest.get(count()?..)?.strip_prefix(b"\r\n")?,
        b'*' | b'>' | b'%' => {
            let values = count()? * if kind == b'%' { 2 } else { 1 };
            for _ in 0..values {
                rest = skip_value(rest)?;
            }
        }
        _ => return None,
    }
    Some(rest)
}

fn draw_command(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    if u.ratio(1, 10)? {
        return Ok(bytes(u, 40)?.to_vec());
    }
    let mut words = vec![u.choose(&COMMANDS)?.as_bytes()];
    for _ in 0..u.int_in_range(0..=4)? {
        words.push(if u.ratio(1, 8)? {
            bytes(u, 20)?
        } else {
            u.choose(&WORDS)?.as_bytes()
        });
    }
    let mut encoded = Replies::default();
    encoded.strings(&words);
    Ok(encoded.bytes)
}

/// Checks that every client gets whole replies only, and that its connection ends with it.
pub(super) fn session(u: &mut Unstructured<'_>) -> Result<()> {
    let mut server = Server::new(limits(), ConnectionLimit::new(2));
    let mut reactor = Reactor::builder()
        .clock(ManualClock::new())
        .build()
        .unwrap();
    let options = ConnectionOptions::new().max_write_queue(2 * REPLY_MAX);
    let mut clients = [(); 2].map(|()| {
        let (near, far) = UnixStream::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        Connection::open(&mut reactor, near, &options, Client::new(&mut server)).unwrap();
        (far, Vec::new())
    });
    for _ in 0..COMMANDS_MAX {
        if u.is_empty() {
            break;
        }
        if u.ratio(1, 12)? {
            let time = Duration::from_millis(u.int_in_range(0..=5000)?);
            reactor.advance(&mut server, time).unwrap();
        }
        let command = draw_command(u)?;
        let (client, _) = &mut clients[usize::from(u.arbitrary::<bool>()?)];
        let (piece, behind) = cut(&command, u)?;
        for piece in [piece, behind] {
            let _ = client.write_all(piece); // the server may have closed
            run_until_idle(&mut reactor, &mut server);
        }
        for (client, replies) in &mut clients {
            read(client, replies);
        }
    }
    for (client, replies) in &mut clients {
        let _ = client.shutdown(Shutdown::Write); // the server may have closed
        run_until_idle(&mut reactor, &mut server);
        read(client, replies);
        let mut rest = &**replies;
        while !rest.is_empty() {
            let next = skip_value(rest);
            rest = next.unwrap_or_else(|| panic!("not a reply: {}", rest.escape_ascii()));
        }
    }
    run_until_idle(&mut reactor, &mut server);
    assert!(reactor.is_empty(), "a connection never ends");
    Ok(())
}

fn read(client: &mut UnixStream, replies: &mut Vec<u8>) {
    if let Err(error) = client.read_to_end(replies) {
        let kind = error.kind();
        assert!(
            matches!(kind, ErrorKind::WouldBlock | ErrorKind::ConnectionReset),
            "{error}"
        );
    }
}
