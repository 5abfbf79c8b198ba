//! Connections over other things than sockets, and streams accessed through their type.

use std::io::{self, ErrorKind, IoSlice, Read, Write, pipe};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use handlers::{Connection, ConnectionOptions, Shutdown, Stream};
use reactor::IoState;

use crate::{Bench, Event, Result, default, pattern, probe, secs, sink};

#[test]
fn the_end_of_a_read_pipe_ends_the_connection() -> Result {
    let mut bench = Bench::new()?;
    let (reader, mut writer) = pipe()?;
    let handler = probe(|event, connection, cx| {
        assert_eq!(
            connection.write(b"x").unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
        Ok(default(&event, connection, cx))
    });
    Connection::open(
        &mut bench.reactor,
        reader,
        &ConnectionOptions::new(),
        handler,
    )?;
    writer.write_all(b"by a pipe")?;
    drop(writer);
    assert_eq!(bench.until_closed(), "close Finished");
    assert_eq!(
        bench.world.log,
        ["open", "data by a pipe", "end ", "close Finished"]
    );
    Ok(())
}

#[test]
fn a_written_pipe_gets_all_bytes_and_is_closed_at_the_end() -> Result {
    let mut bench = Bench::new()?;
    let (mut reader, writer) = pipe()?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    let handler = probe(|event, connection, cx| {
        if matches!(event, Event::Open) {
            let _ = connection.write(&pattern(500_000))?;
            connection.shutdown();
        }
        Ok(default(&event, connection, cx))
    });
    Connection::open(
        &mut bench.reactor,
        writer,
        &ConnectionOptions::new(),
        handler,
    )?;
    assert!(bench.receive_all(&mut reader)? == pattern(500_000));
    assert_eq!(bench.until_closed(), "close Finished");
    Ok(())
}

#[test]
fn a_pipe_that_is_closed_after_flush_delivers_everything_written() -> Result {
    let mut bench = Bench::new()?;
    let (mut reader, writer) = pipe()?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    let key = Connection::open(
        &mut bench.reactor,
        writer,
        &ConnectionOptions::new(),
        sink(),
    )?;
    bench.run_until_idle();
    bench.with(key, |connection| {
        let _ = connection.write(&pattern(500_000)).unwrap();
        connection.close_after_flush(secs(5));
    });
    assert!(bench.receive_all(&mut reader)? == pattern(500_000));
    assert_eq!(bench.until_closed(), "close Finished");
    Ok(())
}

#[test]
fn a_pipe_without_readers_ends_the_connection() -> Result {
    let mut bench = Bench::new()?;
    let (reader, writer) = pipe()?;
    Connection::open(
        &mut bench.reactor,
        writer,
        &ConnectionOptions::new(),
        sink(),
    )?;
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open"]);
    drop(reader);
    assert_eq!(bench.until_closed(), "close Failed(BrokenPipe)");
    Ok(())
}

#[test]
fn the_pipes_of_a_child_are_connections() -> Result {
    let mut bench = Bench::new()?;
    let mut child = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let feed = probe(|event, connection, _| {
        if matches!(event, Event::Open) {
            let _ = connection.write(&pattern(300_000))?;
            connection.shutdown();
        }
        Ok(0)
    });
    Connection::open(&mut bench.reactor, stdin, &ConnectionOptions::new(), feed)?;
    Connection::open(
        &mut bench.reactor,
        stdout,
        &ConnectionOptions::new(),
        sink(),
    )?;
    bench.until(|world| world.count("close Finished") == 2);
    assert!(bench.world.received == pattern(300_000));
    assert!(child.wait()?.success());
    Ok(())
}

#[test]
fn a_file_is_read_to_its_end() -> Result {
    let mut bench = Bench::new()?;
    let file = std::fs::File::open("Cargo.toml")?;
    Connection::open(
        &mut bench.reactor,
        file,
        &ConnectionOptions::new().max_bytes_per_turn(100),
        sink(),
    )?;
    assert_eq!(bench.until_closed(), "close Finished");
    let mut expected = Vec::new();
    std::fs::File::open("Cargo.toml")?.read_to_end(&mut expected)?;
    assert!(bench.world.received == expected);
    Ok(())
}

#[test]
fn a_stream_is_in_reach_of_its_handler_by_its_type() -> Result {
    let mut bench = Bench::new()?;
    let (key, far) = bench.open_tcp(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    let (nodelay, peer, as_unix) = bench.with(key, |connection| {
        let stream = connection.stream::<TcpStream>().unwrap();
        stream.set_nodelay(false).unwrap();
        (
            stream.nodelay().unwrap(),
            stream.peer_addr().unwrap(),
            connection.stream::<UnixStream>().is_some(),
        )
    });
    assert_eq!((nodelay, peer, as_unix), (false, far.local_addr()?, false));
    Ok(())
}

/// A stream that cannot close one direction alone, and may send in capitals.
struct Whole {
    stream: UnixStream,
    capitals: bool,
}

impl AsFd for Whole {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Stream for Whole {
    fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(io, buf)
    }

    fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match bufs.first() {
            Some(bytes) if self.capitals => io.write(&mut self.stream, &bytes.to_ascii_uppercase()),
            _ => self.stream.try_write(io, bufs),
        }
    }

    fn try_shutdown(&mut self, _io: &mut IoState) -> io::Result<Shutdown> {
        Ok(Shutdown::Unsupported)
    }
}

fn whole(stream: UnixStream) -> Whole {
    Whole {
        stream,
        capitals: false,
    }
}

#[test]
fn a_stream_of_ones_own_is_changed_while_its_connection_is_open() -> Result {
    let mut bench = Bench::new()?;
    let (near, mut far) = UnixStream::pair()?;
    far.set_nonblocking(true)?;
    let handler = probe(|event, connection, cx| {
        if let Event::Data(data) = event {
            let _ = connection.write(data)?;
            let _ = connection.flush();
            connection.stream_mut::<Whole>().unwrap().capitals = true;
            assert!(connection.stream_mut::<UnixStream>().is_none());
        }
        Ok(default(&event, connection, cx))
    });
    Connection::open(
        &mut bench.reactor,
        whole(near),
        &ConnectionOptions::new(),
        handler,
    )?;
    far.write_all(b"a")?;
    assert_eq!(bench.receive(&mut far, 1), b"a");
    far.write_all(b"b")?;
    assert_eq!(bench.receive(&mut far, 1), b"B");
    Ok(())
}

#[test]
fn a_stream_that_cannot_end_one_direction_is_closed_instead() -> Result {
    let mut bench = Bench::new()?;
    let (near, mut far) = UnixStream::pair()?;
    far.set_nonblocking(true)?;
    let key = Connection::open(
        &mut bench.reactor,
        whole(near),
        &ConnectionOptions::new(),
        sink(),
    )?;
    bench.run_until_idle();
    bench.with(key, |connection| {
        let _ = connection.write(b"all").unwrap();
        connection.shutdown();
    });
    assert_eq!(bench.receive_all(&mut far)?, b"all");
    assert_eq!(bench.until_closed(), "close Finished");
    Ok(())
}
