//! No state of a source spins the loop: a source without bytes is paused, and goes on when it has
//! bytes.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use reactor::{Interest, ManualClock, Next, Reactor};
use rustix::net::{AddressFamily, SocketType, socket};
use support::reset;

use crate::{Result, turn_now};

/// Returns a reactor on a clock that the test advances, and that clock.
fn still() -> Result<(Reactor<u32>, ManualClock)> {
    let clock = ManualClock::new();
    Ok((Reactor::builder().clock(clock.clone()).build()?, clock))
}

/// Returns the number of calls in a thousand turns that do not wait.
fn calls_of_a_thousand(reactor: &mut Reactor<u32>, calls: &mut u32) -> u32 {
    let before = *calls;
    for _ in 0..1000 {
        turn_now(reactor, calls);
    }
    *calls - before
}

/// Lets seconds pass, a tenth at a time: a source that a timer makes ready is called a turn later.
fn pass(seconds: u32, reactor: &mut Reactor<u32>, calls: &mut u32) -> Result {
    for _ in 0..10 * seconds {
        reactor.advance(calls, Duration::from_millis(100))?;
    }
    Ok(())
}

#[test]
fn a_file_at_its_end_with_a_waiting_handler_is_polled_again_later() -> Result {
    let path = std::env::temp_dir().join(format!("reactor-rest-{}", std::process::id()));
    let mut writer = File::create(&path)?;
    let reader = File::open(&path)?;
    std::fs::remove_file(&path)?;
    for met_by_io in [false, true] {
        let (mut reactor, _clock) = still()?;
        let source = reader.try_clone()?;
        reactor.add(source, Interest::READABLE, move |file, cx| {
            *cx.state += 1;
            let n = if met_by_io {
                file.try_io(Interest::READABLE, |file| {
                    match file.read(&mut [0; 64])? {
                        0 => Err(ErrorKind::WouldBlock.into()),
                        n => Ok(n),
                    }
                })?
            } else {
                file.read(&mut [0; 64])?
            };
            if n == 0 {
                Err(ErrorKind::WouldBlock.into())
            } else {
                Ok(Next::Keep)
            }
        })?;
        let mut calls = 0;
        let at_once = calls_of_a_thousand(&mut reactor, &mut calls);
        assert!(
            (1..=10).contains(&at_once),
            "{at_once} calls of a file at its end"
        );
        pass(60, &mut reactor, &mut calls)?;
        let in_a_minute = calls - at_once;
        assert!(
            (50..80).contains(&in_a_minute),
            "{in_a_minute}: once a second in the end"
        );
        writer.write_all(b"more")?;
        let before = calls;
        pass(2, &mut reactor, &mut calls)?;
        assert!(
            calls > before + 1,
            "what has come is read within a second, and it is called again"
        );
    }
    Ok(())
}

#[test]
fn a_fifo_between_two_writers_sleeps_and_wakes_for_the_next_at_once() -> Result {
    let path = std::env::temp_dir().join(format!("reactor-fifo-{}", std::process::id()));
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )?;
    let open_reader = || -> io::Result<File> {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
        Ok(rustix::fs::open(&path, flags, rustix::fs::Mode::empty())?.into())
    };
    let reader = open_reader()?;
    let mut first = File::options().write(true).open(&path)?;
    let (mut reactor, _clock) = still()?;
    reactor.add(reader, Interest::READABLE, |fifo, cx| {
        match fifo.read(&mut [0; 64])? {
            0 => {
                *cx.state += 1;
                Err(ErrorKind::WouldBlock.into()) // another writer will come
            }
            _ => {
                *cx.state += 1000;
                Ok(Next::Keep)
            }
        }
    })?;
    let mut calls = 0;
    first.write_all(b"x")?;
    turn_now(&mut reactor, &mut calls);
    assert_eq!(calls, 1000);
    drop(first);
    let vain = calls_of_a_thousand(&mut reactor, &mut calls);
    assert!((1..=10).contains(&vain), "{vain} calls between two writers");
    let mut second = File::options().write(true).open(&path)?;
    std::fs::remove_file(&path)?;
    second.write_all(b"x")?;
    let heard = calls_of_a_thousand(&mut reactor, &mut calls);
    assert!(
        (1000..1010).contains(&heard),
        "{heard}: no rest holds back what comes"
    );
    Ok(())
}

#[test]
fn a_would_block_beside_a_direction_that_stays_ready_does_not_spin() -> Result {
    let (near, mut far) = UnixStream::pair()?;
    let (mut reactor, _clock) = still()?;
    let both = Interest::READABLE | Interest::WRITABLE;
    reactor.add(near, both, move |near, cx| {
        *cx.state += 1;
        // A handshake that waits for the peer, with room to write.
        near.try_io(both, |near| near.read(&mut [0; 64]))?;
        *cx.state += 1000;
        Ok(Next::Remove)
    })?;
    let mut calls = 0;
    let vain = calls_of_a_thousand(&mut reactor, &mut calls);
    assert!(vain <= 10, "{vain} calls while nothing comes");
    far.write_all(b"hello")?;
    turn_now(&mut reactor, &mut calls);
    assert!(calls >= 1000, "the peer's word ends the rest");
    Ok(())
}

#[test]
fn a_source_read_past_its_io_each_turn_is_never_paused() -> Result {
    let (near, mut far) = UnixStream::pair()?;
    let (mut reactor, _clock) = still()?;
    reactor.add(near, Interest::READABLE, |near, cx| {
        loop {
            *cx.state += near.get_ref().read(&mut [0; 64])? as u32; // until `WouldBlock`
        }
    })?;
    let mut bytes = 0;
    for expected in 1..=1000 {
        far.write_all(b"x")?;
        turn_now(&mut reactor, &mut bytes);
        assert_eq!(bytes, expected);
    }
    assert!(reactor.timers().next().is_none());
    Ok(())
}

/// Returns the facts reported of a socket that is registered before it connects.
fn told_of<T: AsFd + 'static>(
    near: T,
    interest: Interest,
    connect: impl FnOnce(&OwnedFd) -> io::Result<()>,
) -> Result<(u32, Vec<String>)> {
    let connects = near.as_fd().try_clone_to_owned()?;
    let clock = ManualClock::new();
    let mut reactor = Reactor::<Vec<String>>::builder().clock(clock).build()?;
    let key = reactor.add(near, interest, |_, cx| {
        cx.state.push(cx.readiness().to_string());
        cx.registry.set_interest(cx.key(), Interest::NONE)?;
        Ok(Next::Keep)
    })?;
    let mut told = Vec::new();
    for _ in 0..1000 {
        turn_now(&mut reactor, &mut told);
    }
    let before = u32::try_from(told.len())?;
    connect(&connects)?;
    reactor.set_interest(key, interest)?;
    reactor.advance(&mut told, Duration::from_secs(2))?;
    Ok((before, told.split_off(before as usize)))
}

#[test]
fn an_unconnected_socket_neither_spins_nor_gets_a_hang_up() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let path = std::env::temp_dir().join(format!("reactor-connects-{}", std::process::id()));
    let _unix = UnixListener::bind(&path)?;
    let unix_address = rustix::net::SocketAddrUnix::new(&path)?;
    let tcp = || socket(AddressFamily::INET, SocketType::STREAM, None);
    let local = || socket(AddressFamily::UNIX, SocketType::STREAM, None);
    let bound = || -> io::Result<OwnedFd> {
        let socket = tcp()?;
        rustix::net::bind(&socket, &std::net::SocketAddr::from(([127, 0, 0, 1], 0)))?;
        Ok(socket)
    };
    let connect_tcp = |fd: &OwnedFd| match rustix::net::connect(fd, &address) {
        Err(rustix::io::Errno::INPROGRESS) => Ok(()),
        other => Ok(other?),
    };
    let connect_unix = |fd: &OwnedFd| Ok(rustix::net::connect(fd, &unix_address)?);
    let both = Interest::READABLE | Interest::WRITABLE;
    for interest in [Interest::WRITABLE, both] {
        let all = [
            told_of(TcpStream::from(tcp()?), interest, connect_tcp)?,
            told_of(tcp()?, interest, connect_tcp)?,
            told_of(TcpStream::from(bound()?), interest, connect_tcp)?,
            told_of(UnixStream::from(local()?), interest, connect_unix)?,
            told_of(local()?, interest, connect_unix)?,
        ];
        for told in all {
            assert_eq!(told, (0, vec!["writable".to_owned()]), "{interest}");
        }
    }
    std::fs::remove_file(&path)?;
    Ok(())
}

#[test]
fn a_stream_that_was_reset_is_hung_up_for_every_interest() -> Result {
    for interest in [Interest::READABLE, Interest::WRITABLE] {
        let (near, far) = crate::tcp_pair()?;
        reset(far)?;
        let mut reactor = Reactor::<Vec<bool>>::new()?;
        reactor.add(near, interest, |_, cx| {
            cx.state
                .push(cx.readiness().is_read_closed() && cx.readiness().is_write_closed());
            Ok(Next::Remove)
        })?;
        let mut told = Vec::new();
        reactor.run(&mut told)?;
        assert_eq!(told, [true], "{interest}");
    }
    Ok(())
}
