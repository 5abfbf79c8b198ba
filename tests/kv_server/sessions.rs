//! Sessions: bytes in, the replies of Redis out, over connections of a loop on a manual clock.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use handlers::{Address, Connection, ConnectionLimit, ConnectionOptions, ListenOptions};
use reactor::{ManualClock, Reactor};

use crate::protocol::Limits;
use crate::server::{Client, REPLY_MAX, Server};

pub(crate) fn server() -> Server {
    let limits = Limits {
        max_arguments: 1000,
        max_argument: 1 << 20,
        max_key: 100,
        max_value: 1 << 20,
    };
    Server::new(limits, ConnectionLimit::new(10))
}

/// A server, and numbered clients.
struct Setup {
    reactor: Reactor<Server>,
    server: Server,
    clients: Vec<UnixStream>,
}

impl Setup {
    fn new() -> Self {
        let mut reactor = Reactor::builder()
            .clock(ManualClock::new())
            .build()
            .unwrap();
        let options = ConnectionOptions::new().max_write_queue(2 * REPLY_MAX);
        let mut server = server();
        let mut connect = |_| {
            let (near, far) = UnixStream::pair().unwrap();
            far.set_nonblocking(true).unwrap();
            Connection::open(&mut reactor, near, &options, Client::new(&mut server)).unwrap();
            far
        };
        let clients = (0..3).map(&mut connect).collect();
        Self {
            reactor,
            server,
            clients,
        }
    }

    fn turn(&mut self) {
        self.reactor
            .turn(&mut self.server, Some(Duration::ZERO))
            .unwrap();
    }

    /// Returns the bytes that `client` has got so far, and `true` if that was the end.
    fn told(&mut self, client: usize) -> (String, bool) {
        let mut told = Vec::new();
        let end = self.clients[client].read_to_end(&mut told);
        assert!(
            end.as_ref().is_ok()
                || end
                    .as_ref()
                    .is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        );
        (String::from_utf8_lossy(&told).into_owned(), end.is_ok())
    }

    /// Sends `data` from `client`. Returns its replies, and `true` if its connection has ended.
    fn send(&mut self, client: usize, mut data: &[u8]) -> (String, bool) {
        let mut all = String::new();
        loop {
            data = &data[self.clients[client].write(data).unwrap_or(0)..]; // there may be no room
            self.turn();
            self.turn(); // messages for others leave in the next turn
            let (told, is_end) = self.told(client);
            all += &told;
            if is_end || data.is_empty() && told.is_empty() {
                return (all, is_end);
            }
        }
    }

    #[track_caller]
    fn expect(&mut self, line: &str, reply: &str) {
        assert_eq!(
            self.send(0, format!("{line}\r\n").as_bytes()).0,
            format!("{reply}\r\n"),
            "{line}"
        );
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
        ("incrby n 5", ":5"),
        ("decrby n -2", ":7"),
        ("decrby n 7", ":0"),
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
    assert!(
        info.contains("\r\ntotal_commands_processed:38\r\n") && info.contains("db0:keys=0"),
        "{info}"
    );
}

#[test]
fn a_configured_timeout_holds_for_clients_that_connect_later()
-> Result<(), Box<dyn std::error::Error>> {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let (mut server, options) = (server(), ConnectionOptions::new());
    let listener = ListenOptions::new().bind(&"127.0.0.1:0".parse()?)?;
    let Address::Tcp(address) = listener.local_addr()? else {
        return Err("it is TCP".into());
    };
    let key = listener.serve(&mut reactor, &options, |_peer, cx| {
        Ok(Client::new(cx.state))
    })?;
    server.listener = Some((key, options));
    let mut before = TcpStream::connect(address)?;
    before.write_all(b"config set timeout 60\r\n")?;
    let mut reply = [0; 5];
    before.set_nonblocking(true)?;
    while before
        .read(&mut reply)
        .is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    {
        reactor.turn(&mut server, Some(Duration::from_millis(10)))?;
    }
    assert_eq!(&reply, b"+OK\r\n");
    let mut after = TcpStream::connect(address)?;
    after.set_nonblocking(true)?;
    after.write_all(b"ping\r\n")?;
    let mut told = Vec::new();
    while after.read_to_end(&mut told).is_err() && told.is_empty() {
        reactor.turn(&mut server, Some(Duration::from_millis(10)))?;
    }
    reactor.advance(&mut server, Duration::from_secs(60))?;
    while after
        .read_to_end(&mut told)
        .is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    {
        reactor.turn(&mut server, Some(Duration::from_millis(10)))?;
    }
    assert_eq!(told, b"+PONG\r\n");
    let still_open = before.read(&mut [0]).expect_err("it has no timeout");
    assert_eq!(still_open.kind(), ErrorKind::WouldBlock);
    Ok(())
}

#[test]
fn a_command_is_refused_in_the_words_of_redis_and_changes_nothing() {
    let mut setup = Setup::new();
    setup.expect("set k v", "+OK");
    let not_an_integer = "value is not an integer or out of range";
    for (line, refusal) in [
        ("GET", "unknown command 'get', or wrong number of arguments"),
        (
            "mset k 1 l",
            "unknown command 'mset', or wrong number of arguments",
        ),
        (
            "nosuch a 'b c'",
            "unknown command 'nosuch', or wrong number of arguments",
        ),
        ("''", "unknown command '', or wrong number of arguments"),
        ("set k w nx xx", "syntax error"),
        ("set k w ex", "syntax error"),
        ("set k w ex 1 px 1", "syntax error"),
        ("set k w ex one", not_an_integer),
        ("set k w ex 0", "invalid expire time in 'set' command"),
        (
            "set k w px 9223372036854775807",
            "invalid expire time in 'set' command",
        ),
        (
            "set k w ex 9223372036854775807",
            "invalid expire time in 'set' command",
        ),
        (
            "expire k -9223372036854775808",
            "invalid expire time in 'expire' command",
        ),
        ("expire k one", not_an_integer),
        ("incr k", not_an_integer),
        ("incrby n one", not_an_integer),
        ("decrby n -9223372036854775808", "decrement would overflow"),
        ("select 1", "DB index is out of range"),
        (
            "config get",
            "unknown command 'config', or wrong number of arguments",
        ),
        ("config set timeout 1", "there is no listener"),
        ("config set timeout -1", not_an_integer),
    ] {
        setup.expect(line, &format!("-ERR {refusal}"));
    }
    setup.expect("get k", "$1\r\nv");
    setup.expect("ttl k", ":-1");
    let key = "k".repeat(101);
    for line in [
        format!("set {key} v"),
        format!("mset a 1 {key} v"),
        format!("incr {key}"),
        format!("subscribe {key}"),
    ] {
        setup.expect(&line, "-ERR string exceeds maximum allowed size");
    }
    setup.expect("dbsize", ":1");
}

#[test]
fn a_name_of_many_lines_is_an_error_of_one() {
    let (reply, _) = Setup::new().send(0, b"*1\r\n$8\r\nno\r\nsuch\r\n");
    assert_eq!(
        reply,
        "-ERR unknown command 'no\\r\\nsuch', or wrong number of arguments\r\n"
    );
    let (reply, _) = Setup::new().send(0, b"*1\r\n\r\r\n");
    assert_eq!(reply, "-ERR Protocol error: expected '$', got ' '\r\n");
}

#[test]
fn an_invalid_command_ends_the_session_after_the_earlier_replies() {
    let expected = "+PONG\r\n-ERR Protocol error: expected '$', got 'x'\r\n".to_owned();
    assert_eq!(
        Setup::new().send(0, b"PING\r\n*1\r\nx\r\nPING\r\n"),
        (expected, true)
    );
}

#[test]
fn nothing_is_done_after_quit() {
    assert_eq!(
        Setup::new().send(0, b"PING\r\nQUIT\r\nPING\r\n"),
        ("+PONG\r\n+OK\r\n".to_owned(), true)
    );
}

#[test]
fn a_web_page_cannot_speak_to_us() {
    assert_eq!(
        Setup::new().send(0, b"POST / HTTP/1.1\r\nHost: x\r\n\r\nflushall\r\n"),
        (String::new(), true)
    );
}

#[test]
fn a_key_expires_for_the_clients_too() {
    let mut setup = Setup::new();
    setup.expect("set k v px 1500", "+OK");
    setup.expect("ttl k", ":2");
    setup
        .reactor
        .advance(&mut setup.server, Duration::from_millis(1001))
        .unwrap();
    setup.expect("ttl k", ":0");
    setup
        .reactor
        .advance(&mut setup.server, Duration::from_millis(499))
        .unwrap();
    setup.expect("get k", "$-1");
    setup.expect("dbsize", ":0");
}

#[test]
fn a_message_goes_to_the_subscribers_that_are_still_connected() {
    let mut setup = Setup::new();
    assert_eq!(
        setup.send(1, b"subscribe c\r\n").0,
        "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
    );
    setup.send(2, b"subscribe c d\r\n");
    setup.expect("publish c hello", ":2");
    setup.expect("publish e hello", ":0");
    let message = "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\nhello\r\n".to_owned();
    assert_eq!(
        (setup.told(1).0, setup.told(2).0),
        (message.clone(), message)
    );
    setup.clients.pop();
    setup.turn();
    setup.expect("publish d hello", ":0");
    setup.expect("publish c hello", ":1");
    setup.send(1, b"unsubscribe\r\n");
    setup.expect("publish c hello", ":0");
    let (info, _) = setup.send(0, b"info\r\n");
    assert!(info.contains("pubsub_channels:0\r\n"), "{info}");
}

const HELLO: &str = "$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:PROTO\r\n\
    $2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0";

#[test]
fn a_client_is_answered_in_the_protocol_of_its_hello() {
    let mut setup = Setup::new();
    let (v2, v3) = (
        format!("*14\r\n{}", HELLO.replace("PROTO", "2")),
        format!("%7\r\n{}", HELLO.replace("PROTO", "3")),
    );
    for (line, reply) in [
        ("hello", &*v2),
        ("get none", "$-1"),
        ("HELLO 3", &*v3),
        ("hello", &*v3),
        ("get none", "_"),
        ("mget none", "*1\r\n_"),
        ("set none v xx", "_"),
        ("set k v", "+OK"),
        ("get k", "$1\r\nv"),
        ("ttl k", ":-1"),
        ("config get save", "%1\r\n$4\r\nsave\r\n$0\r\n"),
        ("config get nosuch", "%0"),
        ("command docs", "%0"),
        ("command", "*0"),
        ("client getname", "_"),
        ("unsubscribe", ">3\r\n$11\r\nunsubscribe\r\n_\r\n:0"),
        ("hello 4", "-NOPROTO unsupported protocol version"),
        ("get none", "_"),
        ("hello 2", &*v2),
        ("get none", "$-1"),
    ] {
        setup.expect(line, reply);
    }
    let (info, _) = setup.send(0, b"hello 3\r\ninfo\r\n");
    let (_, info) = info.split_once("*0\r\n=").unwrap();
    let (length, text) = info.split_once("\r\n").unwrap();
    assert!(
        text.starts_with("txt:connected_clients:")
            && text.len() == length.parse::<usize>().unwrap() + 2,
        "{info}"
    );
    assert_eq!(
        setup.send(1, b"get none\r\n").0,
        "$-1\r\n",
        "the others are not meant"
    );
}

#[test]
fn client_commands_are_answered_as_redis_does() {
    let mut setup = Setup::new();
    let v2 = format!("*14\r\n{}", HELLO.replace("PROTO", "2"));
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.";
    let special = "-ERR Client names cannot contain spaces, newlines or special characters.";
    for (line, reply) in [
        ("client setinfo LIB-NAME redis-py", "+OK"),
        ("client setinfo lib-ver 8.1.0", "+OK"),
        (
            "client setinfo lib-age 8",
            "-ERR Unrecognized option 'lib-age'",
        ),
        ("client id", ":1"),
        ("client getname", "$-1"),
        ("client setname tom", "+OK"),
        ("client getname", "$3\r\ntom"),
        ("client setname 'tom cat'", special),
        (
            "client maint_notifications on",
            "-ERR unknown subcommand 'maint_notifications'. Try CLIENT HELP.",
        ),
        (
            "client",
            "-ERR wrong number of arguments for 'client' command",
        ),
        ("hello 2 setname jerry auth default any", &*v2),
        ("client getname", "$5\r\njerry"),
        ("hello 3 auth nobody any setname x", wrong),
        ("hello 3 setname 'a b'", special),
        (
            "hello 3 auth default",
            "-ERR Syntax error in HELLO option 'auth'",
        ),
        ("hello 3 x", "-ERR Syntax error in HELLO option 'x'"),
        (
            "hello three",
            "-ERR Protocol version is not an integer or out of range",
        ),
        (
            "hello 9223372036854775808",
            "-ERR Protocol version is not an integer or out of range",
        ),
        ("hello 0", "-NOPROTO unsupported protocol version"),
        ("client getname", "$5\r\njerry"),
        ("get none", "$-1"),
        ("auth default any", "+OK"),
        ("auth nobody any", wrong),
        (
            "auth",
            "-ERR unknown command 'auth', or wrong number of arguments",
        ),
    ] {
        setup.expect(line, reply);
    }
    assert!(
        setup
            .send(0, b"auth any\r\n")
            .0
            .starts_with("-ERR AUTH <password> called without any password")
    );
    assert_eq!(setup.send(1, b"client id\r\n").0, ":2\r\n");
    let name = "k".repeat(101);
    setup.expect(
        &format!("client setname {name}"),
        "-ERR string exceeds maximum allowed size",
    );
}

#[test]
fn a_resp3_subscriber_gets_pushes_and_may_use_all_commands() {
    let mut setup = Setup::new();
    setup.send(0, b"hello 3\r\n");
    setup.expect("subscribe c", ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1");
    setup.send(1, b"subscribe c\r\n");
    let message = "3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n";
    assert_eq!(setup.send(2, b"publish c hi\r\n").0, ":2\r\n");
    assert_eq!(
        (setup.told(0).0, setup.told(1).0),
        (format!(">{message}"), format!("*{message}"))
    );
    setup.expect("ping", "+PONG");
    setup.expect("get none", "_");
    assert_eq!(
        setup.send(0, b"publish c hi\r\n").0,
        format!(":2\r\n>{message}")
    );
    assert_eq!(
        setup.told(1).0,
        format!("*{message}"),
        "the publisher is one of two subscribers"
    );
    setup.send(0, b"hello 2\r\n");
    setup.expect("ping", "*2\r\n$4\r\npong\r\n$0\r\n");
    setup.send(2, b"publish c hi\r\n");
    assert_eq!(setup.told(0).0, format!("*{message}"));
    setup.expect(
        "hello 3",
        "-ERR only SUBSCRIBE, UNSUBSCRIBE, PING and QUIT are for subscribers",
    );
    setup.expect("unsubscribe", "*3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:0");
}

#[test]
fn a_subscriber_may_use_few_other_commands() {
    let mut setup = Setup::new();
    setup.send(0, b"subscribe c\r\n");
    setup.expect("ping", "*2\r\n$4\r\npong\r\n$0\r\n");
    setup.expect(
        "get k",
        "-ERR only SUBSCRIBE, UNSUBSCRIBE, PING and QUIT are for subscribers",
    );
    setup.expect("unsubscribe", "*3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:0");
    setup.expect("get k", "$-1");
}

#[test]
fn a_client_that_does_not_read_gets_no_reply_until_it_does() {
    let mut setup = Setup::new();
    setup
        .server
        .store
        .set(b"k", &vec![b'v'; 40_000], None, &mut setup.reactor);
    let gets = 1000;
    setup.clients[1]
        .write_all(&b"get k\r\n".repeat(gets))
        .unwrap();
    for _ in 0..10 {
        setup.turn();
    }
    let (info, _) = setup.send(0, b"info\r\n");
    let executed = info
        .lines()
        .find_map(|line| line.strip_prefix("total_commands_processed:"))
        .unwrap();
    assert!(
        (2..50).contains(&executed.parse::<usize>().unwrap()),
        "{executed} commands"
    );
    assert_eq!(
        setup.send(1, b"").0.len(),
        gets * "$40000\r\n\r\n".len() + gets * 40_000
    );
}

#[test]
fn a_reply_for_a_client_that_has_gone_reaches_no_other_client() {
    let mut setup = Setup::new();
    setup
        .server
        .store
        .set(b"k", &vec![b'v'; 40_000], None, &mut setup.reactor);
    setup.clients[2].write_all(b"get k\r\n").unwrap();
    setup.clients.pop();
    setup.expect("ping", "+PONG");
}

#[test]
fn a_reply_that_would_be_too_long_is_refused() {
    let mut setup = Setup::new();
    setup
        .server
        .store
        .set(b"k", &vec![b'v'; 1 << 20], None, &mut setup.reactor);
    let (reply, _) = setup.send(
        0,
        format!("mget{}\r\nping\r\n", " k".repeat((REPLY_MAX >> 20) + 1)).as_bytes(),
    );
    assert_eq!(
        reply,
        "-ERR reply exceeds maximum allowed size\r\n+PONG\r\n"
    );
}
