//! A framing and a closure, as the handler of a connection.

use std::io::{ErrorKind, Write};
use std::net::Shutdown;

use handlers::{
    Connection, ConnectionHandler, ConnectionOptions, Frame, FrameError, Framing, LengthPrefix,
    LengthPrefixed, Lines, on_frames,
};
use reactor::Context;

use crate::{Bench, Result, World, pattern};

type Act = fn(&[u8], &mut Connection<'_, World>, &mut Context<'_, World>) -> std::io::Result<()>;

/// A handler that notes each line, and then calls `act`.
fn lines(act: Act) -> impl ConnectionHandler<World> {
    on_frames(
        Lines::new(100),
        move |line, connection, cx: &mut Context<'_, World>| {
            cx.state.log.push(line.escape_ascii().to_string());
            act(line, connection, cx)
        },
    )
}

#[test]
fn a_closure_is_called_with_each_frame_however_the_stream_is_cut() -> Result {
    let stream = b"one\r\n\ntwo\nlast";
    for cut in 0..=stream.len() {
        let mut bench = Bench::new()?;
        let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), lines(|_, _, _| Ok(())))?;
        far.write_all(&stream[..cut])?;
        bench.run_until_idle();
        far.write_all(&stream[cut..])?;
        far.shutdown(Shutdown::Write)?;
        assert_eq!(bench.receive_all(&mut far)?, b"", "our direction ends too");
        bench.run_until_idle();
        assert_eq!(bench.world.log, ["one", "", "two", "last"], "cut at {cut}");
    }
    Ok(())
}

#[test]
fn a_closure_that_pauses_is_called_with_the_next_frame_when_it_resumes() -> Result {
    let mut bench = Bench::new()?;
    let handler = lines(|_, connection, _| {
        connection.pause_reading();
        Ok(())
    });
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
    far.write_all(b"one\ntwo\nthree")?;
    far.shutdown(Shutdown::Write)?;
    for expected in [&["one"][..], &["one", "two"]] {
        bench.run_until_idle();
        assert_eq!(bench.world.log, expected);
        bench.with(key, |connection| connection.resume_reading());
    }
    bench.until(|world| world.has("three"));
    assert_eq!(bench.receive_all(&mut far)?, b"");
    Ok(())
}

#[test]
fn a_closure_whose_queue_is_full_is_called_when_there_is_room() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new()
        .watermarks(1000, 10_000)
        .max_write_queue(1_100_000);
    let handler = lines(|_, connection, _| connection.write(&pattern(1_000_000)).map(drop));
    let (_, mut far) = bench.open_unix(&options, handler)?;
    far.write_all(b"1\n2\n3\n")?; // three answers at once exceed the queue
    far.shutdown(Shutdown::Write)?;
    assert_eq!(bench.receive_all(&mut far)?.len(), 3_000_000);
    Ok(())
}

#[test]
fn a_closure_that_closes_is_not_called_again() -> Result {
    let acts: [Act; 4] = [
        |_, connection, _| {
            connection.close();
            Ok(())
        },
        |_, connection, cx| Ok(connection.key().close(cx)?),
        |_, _, cx| Ok(cx.registry.remove(cx.key())?),
        |_, _, _| Err(ErrorKind::InvalidInput.into()),
    ];
    for (act, is_immediate) in acts.into_iter().zip([true, false, true, true]) {
        for stream in [&b"one\ntwo\n"[..], b"one"] {
            let mut bench = Bench::new()?;
            let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), lines(act))?;
            far.write_all(stream)?;
            far.shutdown(Shutdown::Write)?;
            let _ = bench.receive_all(&mut far);
            let calls = if is_immediate {
                1
            } else {
                stream.iter().filter(|byte| **byte == b'\n').count().max(1)
            };
            assert_eq!(bench.world.log.len(), calls, "{:?}", bench.world.log);
        }
    }
    Ok(())
}

#[test]
fn would_block_from_a_frame_callback_delivers_no_frame_twice() -> Result {
    let mut bench = Bench::new()?;
    let (_, mut far) = bench.open_unix(
        &ConnectionOptions::new(),
        lines(|_, _, _| Err(ErrorKind::WouldBlock.into())),
    )?;
    far.write_all(b"one\ntwo\n")?;
    bench.until(|world| world.has("two"));
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["one", "two"]);
    Ok(())
}

/// Notes the end, which the closure of a framing does not get.
struct Ends<H>(H);

impl<H: ConnectionHandler<World>> ConnectionHandler<World> for Ends<H> {
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, World>,
        cx: &mut Context<'_, World>,
    ) -> std::io::Result<usize> {
        self.0.on_data(data, connection, cx)
    }

    fn on_end(
        &mut self,
        rest: &[u8],
        connection: &mut Connection<'_, World>,
        cx: &mut Context<'_, World>,
    ) -> std::io::Result<()> {
        self.0.on_end(rest, connection, cx)
    }

    fn on_close(&mut self, reason: handlers::CloseReason, cx: &mut Context<'_, World>) {
        cx.state.log.push(format!("close {reason}"));
    }
}

#[test]
fn an_invalid_frame_ends_the_connection_with_its_error() -> Result {
    let prefixed = || {
        Ends(on_frames(
            LengthPrefixed::new(LengthPrefix::U8, 3),
            |_, _: &mut Connection<'_, World>, _| std::io::Result::Ok(()),
        ))
    };
    for (stream, words) in [
        (&b"\x04abcd"[..], "longer than"),
        (b"\x03ab", "before a frame did"),
    ] {
        let mut bench = Bench::new()?;
        let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), prefixed())?;
        far.write_all(stream)?;
        far.shutdown(Shutdown::Write)?;
        let end = bench.until_closed();
        assert!(
            end.starts_with("close failed: ") && end.contains(words),
            "{end}"
        );
    }
    Ok(())
}

/// Bytes that have no frame before the stream has ended.
struct AtEnd;

impl Framing for AtEnd {
    fn decode<'a>(
        &mut self,
        _data: &'a [u8],
    ) -> std::result::Result<Option<Frame<'a>>, FrameError> {
        Ok(None)
    }

    fn decode_eof<'a>(
        &mut self,
        rest: &'a [u8],
    ) -> std::result::Result<Option<Frame<'a>>, FrameError> {
        Ok(rest.get(..1).map(|bytes| Frame { bytes, consumed: 1 }))
    }

    fn encode(&self, frame: &[u8], out: &mut Vec<u8>) -> std::result::Result<(), FrameError> {
        out.extend_from_slice(frame);
        Ok(())
    }
}

#[test]
fn several_frames_at_the_end_are_handed_over_until_the_connection_closes() -> Result {
    for (last, calls) in [(b'b', 2), (b'x', 3)] {
        let mut bench = Bench::new()?;
        let handler = on_frames(
            AtEnd,
            move |frame, connection, cx: &mut Context<'_, World>| {
                cx.state.log.push(frame.escape_ascii().to_string());
                if frame[0] == last {
                    connection.close();
                }
                connection.pause_reading(); // does not hold back bytes that came before an end
                Ok(())
            },
        );
        let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
        far.write_all(b"abc")?;
        far.shutdown(Shutdown::Write)?;
        let _ = bench.receive_all(&mut far);
        assert_eq!(bench.world.log.len(), calls, "{:?}", bench.world.log);
    }
    Ok(())
}

/// A framing that says of each frame that it takes so many bytes.
struct Takes(usize);

impl Framing for Takes {
    fn decode<'a>(&mut self, data: &'a [u8]) -> std::result::Result<Option<Frame<'a>>, FrameError> {
        Ok((!data.is_empty()).then_some(Frame {
            bytes: data,
            consumed: self.0,
        }))
    }

    fn decode_eof<'a>(
        &mut self,
        rest: &'a [u8],
    ) -> std::result::Result<Option<Frame<'a>>, FrameError> {
        self.decode(rest)
    }

    fn encode(&self, _: &[u8], _: &mut Vec<u8>) -> std::result::Result<(), FrameError> {
        Ok(())
    }
}

#[test]
fn a_framing_that_takes_nothing_or_too_much_ends_the_connection() -> Result {
    for consumed in [0, 4, usize::MAX] {
        let mut bench = Bench::new()?;
        let handler = on_frames(Takes(consumed), |_, _, _: &mut Context<'_, World>| {
            unreachable!("it is no frame")
        });
        let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), Ends(handler))?;
        far.write_all(b"abc")?;
        let end = bench.until_closed();
        assert!(
            end.contains("takes no bytes of the stream, or more"),
            "{consumed} bytes: {end}"
        );
    }
    Ok(())
}
