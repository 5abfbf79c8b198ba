//! Limits: each option of the ready-made handlers holds at 0, at 1 and at the greatest value of its
//! type.

#![cfg(all(
    feature = "child",
    feature = "console",
    feature = "files",
    feature = "udp"
))]

use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket as StdSocket};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use handlers::child::{self, RestartPolicy};
use handlers::udp::{self, Datagram, DatagramHandler, Sending, Udp, UdpSocket};
use handlers::{
    Address, Backoff, CloseReason, Connection, ConnectionHandler, ConnectionLimit,
    ConnectionOptions, Console, Delimited, Framing, Jitter, LengthPrefix, LengthPrefixed, Lines,
    ListenOptions, RateLimit, Refusal, WorkerPool, files, on_data,
};
use reactor::{Context, ManualClock, Next, Reactor};
use support::Result;

type Ends = Vec<CloseReason>;

const SIZES: [usize; 3] = [0, 1, usize::MAX];
const RATES: [u64; 3] = [0, 1, u64::MAX];

/// Echoes its input at once, or piece by piece.
struct Echo;

impl ConnectionHandler<Ends> for Echo {
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Ends>,
        _: &mut Context<'_, Ends>,
    ) -> io::Result<usize> {
        let _ = connection.write(data)?;
        Ok(data.len())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Ends>) {
        cx.state.push(reason);
    }
}

/// Returns `true` if three bytes come back from a connection with `options`, within a minute of its
/// clock, and the ends of its connections.
fn echoes(options: &ConnectionOptions) -> Result<(bool, Ends)> {
    let mut reactor = Reactor::<Ends>::builder()
        .clock(ManualClock::new())
        .build()?;
    let (near, mut far) = UnixStream::pair()?;
    far.set_nonblocking(true)?;
    far.write_all(b"abc")?;
    Connection::open(&mut reactor, near, options, Echo)?;
    let (mut ends, mut answer) = (Ends::new(), Vec::new());
    for _ in 0..60 {
        reactor.advance(&mut ends, Duration::from_secs(1))?;
        let _ = far.read_to_end(&mut answer); // the stream has not ended, or this is its end
    }
    Ok((answer == b"abc", ends))
}

#[test]
fn connections_of_any_limits_answer() -> Result {
    let options = ConnectionOptions::new;
    let sized = |size: usize, rate: u64| {
        [
            options().watermarks(size, size),
            options().watermarks(usize::MAX, size),
            options().watermarks(size, usize::MAX),
            options().max_buffered_input(size),
            options().max_bytes_per_turn(size),
            options().read_rate(RateLimit::new(rate, rate)),
            options().write_rate(RateLimit::new(rate, rate)),
            options().shared_read_rate(RateLimit::new(rate, 1)),
            options().shared_write_rate(RateLimit::new(1, rate)),
        ]
    };
    for (size, rate) in SIZES.into_iter().zip(RATES) {
        for (number, options) in sized(size, rate).iter().enumerate() {
            let (answered, ends) = echoes(options)?;
            assert!(
                answered && ends.is_empty(),
                "option {number} at {size}: {ends:?}"
            );
        }
    }
    for timeout in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        for options in [
            options().idle_timeout(timeout),
            options().read_timeout(timeout),
            options().write_timeout(timeout),
        ] {
            let (_, ends) = echoes(&options)?;
            assert!(
                ends.iter()
                    .all(|end| matches!(end, CloseReason::TimedOut(_))),
                "{timeout:?}: {ends:?}"
            );
            assert!(
                ends.is_empty() || timeout < Duration::MAX,
                "{timeout:?}: {ends:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn unconsumed_bytes_are_kept_up_to_the_limit_and_not_beyond() -> Result {
    for max in SIZES {
        for left in 0..3 {
            let mut reactor = Reactor::<Ends>::new()?;
            let (near, mut far) = UnixStream::pair()?;
            let leaves = on_data(move |data, _, _: &mut Context<'_, Ends>| Ok(data.len() - left));
            Connection::open(
                &mut reactor,
                near,
                &ConnectionOptions::new().max_buffered_input(max),
                leaves,
            )?;
            far.write_all(b"abc")?;
            (0..3).try_for_each(|_| {
                reactor
                    .turn(&mut Ends::new(), Some(Duration::ZERO))
                    .map(drop)
            })?;
            assert_eq!(!reactor.is_empty(), left <= max, "{left} of {max}");
        }
    }
    Ok(())
}

#[test]
fn listeners_accept_as_many_connections_as_their_limits_say() -> Result {
    for size in SIZES {
        let mut reactor = Reactor::<Ends>::new()?;
        let options = ListenOptions::new()
            .backlog(u16::try_from(size).unwrap_or(u16::MAX))
            .max_accepts_per_turn(size);
        let limit = ConnectionLimit::new(size);
        let listener = options.limit(limit.clone()).bind(&"127.0.0.1:0".parse()?)?;
        let Address::Tcp(address) = listener.local_addr()? else {
            return Err("a TCP address".into());
        };
        listener.serve(&mut reactor, &ConnectionOptions::new(), |_, _| Ok(Echo))?;
        let _client = TcpStream::connect(address)?;
        let mut ends = Ends::new();
        for _ in 0..5 {
            reactor.turn(&mut ends, Some(Duration::ZERO))?;
        }
        assert_eq!(limit.open(), size.min(1), "{size}");
        limit.set_max(usize::MAX);
        while limit.open() == 0 {
            reactor.turn(&mut ends, None)?;
        }
    }
    Ok(())
}

#[test]
fn framings_accept_frames_up_to_their_length() -> Result {
    fn longest(mut framing: impl Framing, streams: [&[u8]; 3]) -> usize {
        streams
            .iter()
            .take_while(|stream| framing.decode(stream).is_ok_and(|frame| frame.is_some()))
            .count()
    }
    for max in SIZES {
        let fit = max.saturating_add(1).min(3); // frames of 0, 1 and 2 bytes
        assert_eq!(
            longest(Lines::new(max), [b"\n", b"x\n", b"xy\n"]),
            fit,
            "{max}"
        );
        assert_eq!(
            longest(Delimited::new("--", max), [b"--", b"x--", b"xy--"]),
            fit,
            "{max}"
        );
        let prefixed = LengthPrefixed::new(LengthPrefix::U8, max);
        assert_eq!(
            longest(prefixed, [b"\x00", b"\x01x", b"\x02xy"]),
            fit,
            "{max}"
        );
    }
    Ok(())
}

#[test]
fn pools_files_and_children_hold_their_limits() -> Result {
    for size in SIZES {
        let mut reactor = Reactor::<usize>::new()?;
        let pool = WorkerPool::builder()
            .workers(size.min(2))
            .max_queued_jobs(size)
            .build(&mut reactor)?;
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let (begin, begun) = std::sync::mpsc::channel::<()>();
        let mut first = Some(move || {
            let _ = begin.send(());
            let _ = ended.recv();
        });
        // A sleeping worker counts as room too, and one may not be asleep yet.
        while let Some(job) = first.take() {
            first = pool.submit(job, |_, _| ()).err().map(|refused| refused.job);
        }
        begun.recv()?;
        if size == 0 {
            assert_eq!(
                pool.submit(|| (), |_, _| ())
                    .err()
                    .map(|refused| refused.reason),
                Some(Refusal::Full)
            );
        }
        drop(end);
        reactor.run(&mut 0)?;
        let mut read = 0;
        let path = tempfile::NamedTempFile::new()?;
        std::fs::write(path.path(), "x")?;
        while files::read(&pool, path.path(), size, |bytes, cx| {
            *cx.state += bytes.map_or(0, |bytes| bytes.len())
        })
        .is_err()
        {}
        reactor.run(&mut read)?;
        assert_eq!(read, size.min(1), "a file of one byte, a limit of {size}");
    }
    for (delay, most) in [Duration::ZERO, Duration::MAX]
        .into_iter()
        .flat_map(|delay| [(delay, Duration::ZERO), (delay, Duration::MAX)])
    {
        let mut reactor = Reactor::<u32>::builder()
            .clock(ManualClock::jumping())
            .build()?;
        let policy = RestartPolicy::always()
            .backoff(Backoff::new(delay, most).jitter(Jitter::None))
            .steady_after(Duration::MAX)
            .max_restarts(1);
        let key = child::supervise(
            &mut reactor,
            policy,
            || Ok(Command::new("true")),
            |news, cx| {
                *cx.state += u32::from(matches!(news, child::SupervisorEvent::Exited { .. }));
                Ok(())
            },
        );
        let mut exits = 0;
        if delay.min(most) < Duration::MAX {
            reactor.run(&mut exits)?;
            assert_eq!(exits, 2, "{delay:?}, {most:?}");
        } else {
            while exits == 0 {
                reactor.turn(&mut exits, Some(Duration::from_millis(10)))?;
            }
            key.stop(&mut reactor, Duration::MAX)?;
            reactor.run(&mut exits)?;
        }
    }
    Ok(())
}

struct Keeps;

impl DatagramHandler<Vec<u8>> for Keeps {
    fn on_datagram(
        &mut self,
        datagram: &Datagram<'_>,
        _: &mut Sending<'_>,
        cx: &mut Context<'_, Vec<u8>>,
    ) -> io::Result<Next> {
        cx.state.extend(datagram.bytes);
        Ok(Next::Keep)
    }
}

#[test]
fn datagrams_and_the_console_hold_their_limits() -> Result {
    for size in SIZES {
        let mut reactor = Reactor::<Vec<u8>>::new()?;
        let peer = StdSocket::bind("127.0.0.1:0")?;
        let socket = UdpSocket::bind("127.0.0.1:0".parse()?)?;
        let to = socket.local_addr()?;
        let udp = Udp::new(Keeps)
            .max_queued_datagrams(size)
            .max_queued_bytes(size);
        let key = udp::add_handler(&mut reactor, socket, udp)?.key();
        peer.send_to(b"x", to)?;
        let mut seen = Vec::new();
        while seen.is_empty() {
            reactor.turn(&mut seen, None)?;
        }
        assert_eq!(seen, b"x");
        reactor.remove(key)?;
        let (near, mut far) = UnixStream::pair()?;
        Console::new()
            .max_line_length(size)
            .open_on(&mut reactor, near, |input, cx| {
                match input {
                    handlers::ConsoleInput::Line(line) => cx.state.extend(line.as_bytes()),
                    handlers::ConsoleInput::End => return Ok(Next::Remove),
                    _ => {}
                }
                Ok(Next::Keep)
            })?;
        far.write_all(b"\ny\nzz\n")?;
        drop(far);
        let mut lines = Vec::new();
        reactor.run(&mut lines)?;
        assert_eq!(lines, b"yzz"[..[0, 1, 3][size.min(2)]]);
    }
    Ok(())
}
