//! Sessions: bytes in, the replies of Redis out.

use std::time::Duration;

use reactor::{ManualClock, Reactor};

use crate::commands::{Next, REPLY_MAX, Server, Session};
use crate::protocol::Limits;

/// A server, and clients that are known by their numbers.
struct Setup {
    reactor: Reactor<Server<usize>>,
    server: Server<usize>,
    clients: Vec<Session<usize>>,
}

impl Setup {
    fn new() -> Self {
        let limits = Limits { max_arguments: 1000, max_argument: 1 << 20, max_key: 100, max_value: 1 << 20 };
        let reactor = Reactor::builder().clock(ManualClock::new()).build().unwrap();
        let mut server = Server::new(limits);
        let mut client = |number| {
            let mut session = Session::default();
            session.begin(number, &mut server);
            session
        };
        let clients = (0..3).map(&mut client).collect();
        Self { reactor, server, clients }
    }

    /// What `client` is told when it sends `data`, and what it waits for then.
    fn send(&mut self, client: usize, data: &[u8]) -> (String, Next) {
        let (mut done, mut told) = (0, Vec::new());
        loop {
            let (length, next) = self.clients[client].execute(&data[done..], &mut self.server, &mut self.reactor);
            done += length;
            told.append(&mut self.server.replies.0);
            if next != Next::Room {
                return (String::from_utf8_lossy(&told).into_owned(), next);
            }
            self.server.messages.0.clear();
            self.server.letters.clear();
        }
    }

    #[track_caller]
    fn expect(&mut self, line: &str, reply: &str) {
        assert_eq!(self.send(0, format!("{line}\r\n").as_bytes()).0, format!("{reply}\r\n"), "{line}");
    }
}

#[test]
fn commands_reply_as_redis_does() {
    let mut setup = Setup::new();
    for (line, reply) in [
        ("PING", "+PONG"),
        ("ping hi", "$2\r\nhi"),
        ("echo hi", "$2\r\nhi"),
        ("set k v", "+OK"),
        ("get k", "$1\r\nv"),
        ("get none", "$-1"),
        ("set k w nx", "$-1"),
        ("set none w xx", "$-1"),
        ("set k w XX ex 100", "+OK"),
        ("ttl k", ":100"),
        ("persist k", ":1"),
        ("persist k", ":0"),
        ("ttl k", ":-1"),
        ("ttl none", ":-2"),
        ("expire k 7", ":1"),
        ("expire none 7", ":0"),
        ("ttl k", ":7"),
        ("expire k -1", ":1"),
        ("exists k", ":0"),
        ("incr n", ":1"),
        ("decr n", ":0"),
        ("mset a 1 b 2", "+OK"),
        ("mget a none b", "*3\r\n$1\r\n1\r\n$-1\r\n$1\r\n2"),
        ("exists a a none", ":2"),
        ("dbsize", ":3"),
        ("del a a none", ":1"),
        ("flushall", "+OK"),
        ("dbsize", ":0"),
        ("select 0", "+OK"),
        ("command docs", "*0"),
        ("config get save", "*2\r\n$4\r\nsave\r\n$0\r\n"),
        ("config get nosuch", "*0"),
        ("publish c m", ":0"),
        ("unsubscribe", "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0"),
    ] {
        setup.expect(line, reply);
    }
    let (info, _) = setup.send(0, b"info\r\n");
    assert!(info.contains("\r\ntotal_commands_processed:35\r\n") && info.contains("db0:keys=0"), "{info}");
}

#[test]
fn a_command_is_refused_in_the_words_of_redis_and_changes_nothing() {
    let mut setup = Setup::new();
    setup.expect("set k v", "+OK");
    let not_an_integer = "value is not an integer or out of range";
    for (line, refusal) in [
        ("get", "wrong number of arguments for 'get' command"),
        ("MSET k 1 l", "wrong number of arguments for 'mset' command"),
        ("nosuch a 'b c'", "unknown command 'nosuch', with args beginning with: 'a' 'b c' "),
        ("''", "unknown command '', with args beginning with: "),
        ("set k w nx xx", "syntax error"),
        ("set k w ex", "syntax error"),
        ("set k w ex 1 px 1", "syntax error"),
        ("set k w ex one", not_an_integer),
        ("set k w ex 0", "invalid expire time in 'set' command"),
        ("set k w px 9223372036854775807", "invalid expire time in 'set' command"),
        ("set k w ex 9223372036854775807", "invalid expire time in 'set' command"),
        ("expire k -9223372036854775808", "invalid expire time in 'expire' command"),
        ("expire k one", not_an_integer),
        ("expire k 10 zz", "Unsupported option zz"),
        ("incr k", not_an_integer),
        ("select 1", "DB index is out of range"),
        ("select x", not_an_integer),
        ("flushall now", "syntax error"),
        ("config get", "wrong number of arguments for 'config' command"),
    ] {
        setup.expect(line, &format!("-ERR {refusal}"));
    }
    setup.expect("get k", "$1\r\nv");
    setup.expect("ttl k", ":-1");
    let key = "k".repeat(101);
    for line in [format!("set {key} v"), format!("mset a 1 {key} v"), format!("incr {key}"), format!("subscribe {key}")]
    {
        setup.expect(&line, "-ERR string exceeds maximum allowed size");
    }
    setup.expect("dbsize", ":1");
}

#[test]
fn a_name_of_many_lines_is_an_error_of_one() {
    let (reply, _) = Setup::new().send(0, b"*2\r\n$8\r\nno\r\nsuch\r\n$4\r\na\r\nb\r\n");
    assert_eq!(reply, "-ERR unknown command 'no  such', with args beginning with: 'a  b' \r\n");
}

#[test]
fn what_is_no_command_ends_the_session_after_the_replies_before_it() {
    let expected = "+PONG\r\n-ERR Protocol error: expected '$', got 'x'\r\n".to_owned();
    assert_eq!(Setup::new().send(0, b"PING\r\n*1\r\nx\r\nPING\r\n"), (expected, Next::End));
}

#[test]
fn nothing_is_done_after_quit() {
    assert_eq!(Setup::new().send(0, b"PING\r\nQUIT\r\nPING\r\n"), ("+PONG\r\n+OK\r\n".to_owned(), Next::End));
}

#[test]
fn a_web_page_cannot_speak_to_us() {
    assert_eq!(Setup::new().send(0, b"POST / HTTP/1.1\r\nHost: x\r\n\r\nflushall\r\n"), (String::new(), Next::End));
}

#[test]
fn a_key_expires_for_the_clients_too() {
    let mut setup = Setup::new();
    setup.expect("set k v px 1500", "+OK");
    setup.expect("ttl k", ":2");
    setup.reactor.advance(&mut setup.server, Duration::from_millis(1001)).unwrap();
    setup.expect("ttl k", ":0");
    setup.reactor.advance(&mut setup.server, Duration::from_millis(499)).unwrap();
    setup.expect("get k", "$-1");
    setup.expect("dbsize", ":0");
}

#[test]
fn a_message_goes_to_those_who_subscribe_and_are_still_there() {
    let mut setup = Setup::new();
    assert_eq!(setup.send(1, b"subscribe c\r\n").0, "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
    setup.send(2, b"subscribe c d\r\n");
    setup.expect("publish c hello", ":2");
    let mut to: Vec<_> = setup.server.letters.drain(..).collect();
    to.sort_unstable_by_key(|(client, _)| *client);
    let whole = 0..setup.server.messages.0.len();
    assert_eq!(to, [(1, whole.clone()), (2, whole)]);
    assert_eq!(setup.server.messages.0, b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\nhello\r\n");
    setup.clients[2].end(&mut setup.server);
    setup.expect("publish d hello", ":0");
    setup.expect("publish c hello", ":1");
    setup.send(1, b"unsubscribe\r\n");
    setup.expect("publish c hello", ":0");
    let (info, _) = setup.send(0, b"info\r\n");
    assert!(info.contains("pubsub_channels:0\r\n"), "{info}");
}

#[test]
fn many_messages_to_many_clients_are_handed_over_in_bounded_portions() {
    let mut setup = Setup::new();
    for number in 3..1000 {
        let mut session = Session::default();
        session.begin(number, &mut setup.server);
        setup.clients.push(session);
        setup.send(number, b"subscribe c\r\n");
    }
    let data = b"publish c x\r\n".repeat(1000);
    let (_, next) = setup.clients[0].execute(&data, &mut setup.server, &mut setup.reactor);
    assert_eq!(next, Next::Room);
    assert!(setup.server.letters.len() < 10_000, "{} letters", setup.server.letters.len());
}

#[test]
fn who_subscribes_may_do_little_else() {
    let mut setup = Setup::new();
    setup.send(0, b"subscribe c\r\n");
    setup.expect("ping", "*2\r\n$4\r\npong\r\n$0\r\n");
    setup.expect(
        "get k",
        "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
    );
    setup.expect("unsubscribe", "*3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:0");
    setup.expect("get k", "$-1");
}

#[test]
fn long_replies_are_sent_before_more_are_made() {
    let mut setup = Setup::new();
    setup.server.store.set(b"k", &vec![b'v'; 40_000], None, &mut setup.reactor);
    let data = b"get k\r\n".repeat(10);
    let (done, next) = setup.clients[0].execute(&data, &mut setup.server, &mut setup.reactor);
    assert_eq!((done, next), (14, Next::Room));
}

#[test]
fn a_reply_that_would_be_too_long_is_refused() {
    let mut setup = Setup::new();
    setup.server.store.set(b"k", &vec![b'v'; 1 << 20], None, &mut setup.reactor);
    let (reply, _) = setup.send(0, format!("mget{}\r\nping\r\n", " k".repeat((REPLY_MAX >> 20) + 1)).as_bytes());
    assert_eq!(reply, "-ERR reply exceeds maximum allowed size\r\n+PONG\r\n");
}
