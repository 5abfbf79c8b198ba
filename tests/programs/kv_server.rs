//! `kv_server`: the input of Redis clients in pieces of any size, and invalid input.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Result;
use crate::server::{PATIENCE, Server, run};

fn start(arguments: &[&str]) -> Result<Server> {
    Server::start(
        "kv_server",
        &[&["--listen", "127.0.0.1:0"], arguments].concat(),
    )
}

/// Returns a command as clients send it.
fn command(arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend(format!("${}\r\n", argument.len()).into_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Sends `request` and expects exactly `reply`.
#[track_caller]
fn expect(client: &mut TcpStream, request: &[u8], reply: &str) -> Result {
    client.write_all(request)?;
    let mut received = vec![0; reply.len()];
    client.read_exact(&mut received)?;
    assert_eq!(String::from_utf8(received)?, reply);
    Ok(())
}

#[test]
fn clients_share_what_they_store_and_count() -> Result {
    let server = start(&[])?;
    let (mut one, mut other) = (server.connect()?, server.connect()?);
    expect(&mut one, &command(&[b"SET", b"key", b"value"]), "+OK\r\n")?;
    expect(&mut other, &command(&[b"GET", b"key"]), "$5\r\nvalue\r\n")?;
    expect(&mut other, b"INCR hits\r\nINCR hits\r\n", ":1\r\n:2\r\n")?;
    expect(&mut one, b"decr hits\r\n", ":1\r\n")?;
    expect(&mut one, b"DBSIZE\r\n", ":2\r\n")?;
    Ok(())
}

#[test]
fn ten_thousand_commands_at_once_get_as_many_replies_in_order() -> Result {
    let server = start(&[])?;
    let mut client = server.connect()?;
    let requests: Vec<u8> = (0..10_000)
        .flat_map(|n| command(&[b"ECHO", format!("{n:05}").as_bytes()]))
        .collect();
    let replies: String = (0..10_000).map(|n| format!("$5\r\n{n:05}\r\n")).collect();
    let mut reader = client.try_clone()?;
    std::thread::scope(|scope| {
        scope.spawn(|| client.write_all(&requests));
        let mut received = vec![0; replies.len()];
        reader.read_exact(&mut received)?;
        assert!(received == replies.as_bytes());
        Ok(())
    })
}

#[test]
fn a_large_value_comes_back_unchanged_and_a_too_large_one_is_refused() -> Result {
    let server = start(&["--max-value", "5000000"])?;
    let mut client = server.connect()?;
    let value = crate::echo::pattern(5_000_000);
    expect(
        &mut client,
        &command(&[b"SET", b"large", &value]),
        "+OK\r\n",
    )?;
    client.write_all(&command(&[b"GET", b"large"]))?;
    let mut reply = vec![0; "$5000000\r\n".len() + value.len() + 2];
    client.read_exact(&mut reply)?;
    assert!(reply[10..].starts_with(&value));
    let too_large = command(&[b"SET", b"large", &crate::echo::pattern(5_000_001)]);
    expect(
        &mut client,
        &too_large,
        "-ERR string exceeds maximum allowed size\r\n",
    )?;
    expect(&mut client, b"PING\r\n", "+PONG\r\n")?;
    Ok(())
}

#[test]
fn a_key_expires_at_the_end_of_its_time_to_live_and_not_before() -> Result {
    let server = start(&[])?;
    let mut client = server.connect()?;
    let began = Instant::now();
    expect(&mut client, b"SET brief x PX 200\r\n", "+OK\r\n")?;
    expect(&mut client, b"TTL brief\r\n", ":0\r\n")?;
    loop {
        client.write_all(b"EXISTS brief\r\n")?;
        let mut reply = [0; 4];
        client.read_exact(&mut reply)?;
        if &reply == b":0\r\n" {
            break;
        }
        assert!(began.elapsed() < PATIENCE);
    }
    assert!(
        began.elapsed() >= Duration::from_millis(200),
        "gone after {:?}",
        began.elapsed()
    );
    Ok(())
}

#[test]
fn a_message_reaches_all_subscribers_and_no_other_client() -> Result {
    let server = start(&[])?;
    let mut subscribers = (0..50)
        .map(|_| server.connect())
        .collect::<Result<Vec<_>>>()?;
    for subscriber in &mut subscribers {
        let confirmed = "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n";
        expect(subscriber, b"SUBSCRIBE news\r\n", confirmed)?;
    }
    let mut publisher = server.connect()?;
    subscribers.pop(); // closed, which the server may not have noticed
    for number in 0..100 {
        publisher.write_all(format!("PUBLISH news {number:03}\r\n").as_bytes())?;
        let mut reply = [0; 5];
        publisher.read_exact(&mut reply)?;
        assert!(
            matches!(&reply, b":49\r\n" | b":50\r\n"),
            "{}",
            reply.escape_ascii()
        );
    }
    for subscriber in &mut subscribers {
        let all: String = (0..100)
            .map(|n| format!("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$3\r\n{n:03}\r\n"))
            .collect();
        expect(subscriber, b"", &all)?;
        expect(
            subscriber,
            b"UNSUBSCRIBE\r\n",
            "*3\r\n$11\r\nunsubscribe\r\n$4\r\nnews\r\n:0\r\n",
        )?;
    }
    expect(&mut publisher, b"PUBLISH news x\r\n", ":0\r\n")?;
    Ok(())
}

#[test]
fn a_subscriber_that_does_not_read_costs_bounded_memory_and_is_closed() -> Result {
    let server = start(&[])?;
    let mut deaf = server.connect()?;
    expect(
        &mut deaf,
        b"SUBSCRIBE news\r\n",
        "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n",
    )?;
    let mut publisher = server.connect()?;
    let message = command(&[b"PUBLISH", b"news", &[b'x'; 4_000_000]]);
    let mut reached = 0;
    while reached < 100 {
        publisher.write_all(&message)?;
        let mut reply = [0; 4];
        publisher.read_exact(&mut reply)?;
        if &reply == b":0\r\n" {
            assert!(
                server.anonymous_bytes()? < 250_000_000,
                "{} bytes",
                server.anonymous_bytes()?
            );
            return Ok(());
        }
        reached += 1;
    }
    Err("400 MB are queued for a client that does not read".into())
}

#[test]
fn a_client_that_never_ends_its_command_is_closed_when_it_is_silent() -> Result {
    let server = start(&["--idle-timeout", "1"])?;
    let mut client = server.connect()?;
    client.write_all(b"*1\r\n$4\r\nPI")?;
    assert_eq!(client.read(&mut [0; 16])?, 0);
    Ok(())
}

#[test]
fn a_message_is_kept_once_for_all_clients_that_have_not_read_it() -> Result {
    let server = start(&[])?;
    let mut subscribers = (0..50)
        .map(|_| server.connect())
        .collect::<Result<Vec<_>>>()?;
    for subscriber in &mut subscribers {
        expect(
            subscriber,
            b"SUBSCRIBE news\r\n",
            "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n",
        )?;
    }
    let mut publisher = server.connect()?;
    for _ in 0..10 {
        expect(
            &mut publisher,
            &command(&[b"PUBLISH", b"news", &[b'x'; 4_000_000]]),
            ":50\r\n",
        )?;
    }
    assert!(
        server.anonymous_bytes()? < 100_000_000,
        "{} bytes",
        server.anonymous_bytes()?
    );
    Ok(())
}

#[test]
fn a_reply_for_a_client_that_has_gone_reaches_no_other_client() -> Result {
    let server = start(&[])?;
    let (mut one, mut other) = (server.connect()?, server.connect()?);
    expect(
        &mut one,
        &command(&[b"SET", b"k", &[b'v'; 40_000]]),
        "+OK\r\n",
    )?;
    expect(&mut other, b"PING\r\n", "+PONG\r\n")?;
    server.signal(Signal::STOP)?;
    one.write_all(&b"GET k\r\n".repeat(20))?;
    drop(one); // the kernel answers the first reply by a reset, which the second reply meets
    server.signal(Signal::CONT)?;
    for _ in 0..100 {
        expect(&mut other, b"ECHO mine\r\n", "$4\r\nmine\r\n")?;
    }
    Ok(())
}

#[test]
fn a_protocol_violation_is_answered_as_redis_does_and_closed() -> Result {
    let server = start(&["--max-arguments", "10", "--max-argument", "100"])?;
    let long = [&b"x".repeat(70_000)[..], b"\r\n"].concat();
    let cases: [(&[u8], &str); 8] = [
        (
            b"*1\r\n+PING\r\n",
            "-ERR Protocol error: expected '$', got '+'\r\n",
        ),
        (
            b"*x\r\n",
            "-ERR Protocol error: invalid multibulk length\r\n",
        ),
        (
            b"*11\r\n",
            "-ERR Protocol error: invalid multibulk length\r\n",
        ),
        (
            b"*1\r\n$101\r\n",
            "-ERR Protocol error: invalid bulk length\r\n",
        ),
        (
            b"*1\r\n$-5\r\n",
            "-ERR Protocol error: invalid bulk length\r\n",
        ),
        (
            b"ECHO \"open\r\n",
            "-ERR Protocol error: unbalanced quotes in request\r\n",
        ),
        (&long, "-ERR Protocol error: too big inline request\r\n"),
        (
            b"PING\r\n*1\r\n:3\r\nPING\r\n",
            "+PONG\r\n-ERR Protocol error: expected '$', got ':'\r\n",
        ),
    ];
    for (request, answer) in cases {
        assert_eq!(
            server.ask(request)?,
            answer,
            "{}",
            request[..request.len().min(40)].escape_ascii()
        );
    }
    assert_eq!(server.ask(b"PING\r\nQUIT\r\nPING\r\n")?, "+PONG\r\n+OK\r\n");
    Ok(())
}

/// Keys with a time to live do not keep the server running.
#[test]
fn a_signal_ends_it_with_0_and_a_bad_option_with_2() -> Result {
    let server = start(&[])?;
    let mut client = server.connect()?;
    expect(&mut client, b"SET k v EX 1000\r\n", "+OK\r\n")?;
    server.signal(Signal::TERM)?;
    assert_eq!(client.read(&mut [0])?, 0);
    drop(client);
    assert_eq!(server.wait()?.code(), Some(0));
    assert_eq!(
        run("kv_server", &["--max-value", "-1"])?.status.code(),
        Some(2)
    );
    Ok(())
}

#[test]
fn commands_that_were_sent_before_the_signal_are_answered() -> Result {
    let server = start(&[])?;
    let mut clients = (0..20)
        .map(|_| server.connect())
        .collect::<Result<Vec<_>>>()?;
    for client in &mut clients {
        expect(client, b"PING\r\n", "+PONG\r\n")?;
    }
    server.signal(Signal::STOP)?;
    for client in &mut clients {
        client.write_all(&b"INCR n\r\n".repeat(1000))?;
    }
    server.signal(Signal::TERM)?;
    server.signal(Signal::CONT)?;
    let mut answers = Vec::new();
    for client in &mut clients {
        let mut replies = String::new();
        client.read_to_string(&mut replies)?;
        assert_eq!(replies.lines().count(), 1000);
        answers.extend(
            replies
                .lines()
                .map(|reply| reply[1..].parse::<u32>())
                .collect::<std::result::Result<Vec<_>, _>>()?,
        );
    }
    answers.sort();
    assert!(answers.into_iter().eq(1..=20_000), "each was counted once");
    drop(clients);
    assert_eq!(server.wait()?.code(), Some(0));
    Ok(())
}
