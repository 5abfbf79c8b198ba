//! A handler made of a framing and a closure, for protocols that consist of messages.

use std::fmt;
use std::io;

use reactor::Context;

use super::connection::Connection;
use super::handler::ConnectionHandler;
use super::state::Phase;
use crate::error::is_nothing_done;
use crate::framing::{FrameError, Framing, Search};

/// A connection handler that finds frames and calls a closure with each of them. The function
/// [`on_frames`] makes it.
pub struct OnFrames<F, C> {
    framing: F,
    closure: C,
}

/// Makes a handler of a framing and a closure. The handler calls the closure with each frame and
/// the connection that the frame has arrived on. A frame is a message as the
/// [`Framing`](crate::Framing) finds it.
///
/// Frames come in order. The closure gets the content of a frame without the bytes that delimit it.
/// The closure also gets a last frame that only the end of the stream completes, if the framing
/// allows such a frame. If the closure [pauses](Connection::pause_reading) the connection or fills
/// the connection's write queue, it gets the next frame when reading resumes. After the last frame
/// our write side is closed, as the default [`on_end`](ConnectionHandler::on_end) does.
///
/// If the framing returns a [`FrameError`](crate::framing::FrameError), the connection ends with
/// this error. If the closure returns an error other than `WouldBlock` or `Interrupted`, the
/// connection ends with this error too. The maximum length of a frame must be below
/// [`ConnectionOptions::max_buffered_input`](crate::ConnectionOptions::max_buffered_input).
///
/// ```
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
/// use handlers::{Connection, ConnectionOptions, Framing, Lines, on_frames};
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = reactor::Reactor::<()>::new()?;
/// let (near, mut far) = UnixStream::pair()?;
/// let replies = Lines::new(80);
/// let handler = on_frames(Lines::new(80), move |line, connection, _cx| {
///     let mut reply = Vec::new();
///     replies.encode(&line.to_ascii_uppercase(), &mut reply)?;
///     connection.write(&reply).map(|_flow| ())
/// });
/// Connection::open(&mut reactor, near, &ConnectionOptions::new(), handler)?;
/// far.write_all(b"hello\nyou\n")?;
/// far.shutdown(std::net::Shutdown::Write)?;
/// reactor.run(&mut ())?; // until the connection has ended
/// let mut answer = String::new();
/// far.read_to_string(&mut answer)?;
/// assert_eq!(answer, "HELLO\nYOU\n");
/// # Ok(())
/// # }
/// ```
pub fn on_frames<S, F, C>(framing: F, closure: C) -> OnFrames<F, C>
where
    F: Framing + 'static,
    C: FnMut(&[u8], &mut Connection<'_, S>, &mut Context<'_, S>) -> io::Result<()> + 'static,
{
    OnFrames { framing, closure }
}

/// The error for a framing that breaks its contract. [`check_framing`](crate::check_framing) finds
/// such a fault in a test.
const NO_FRAME: &str =
    "the framing returns a frame that takes no bytes of the stream, or more than there are";

impl<F: Framing, C> OnFrames<F, C> {
    /// Calls the closure with each frame of `data`, while `goes_on` with the connection returns
    /// `true`. Returns how many bytes the frames took.
    fn call_with_frames<S>(
        &mut self,
        data: &[u8],
        search: Search<F>,
        goes_on: fn(&Connection<'_, S>) -> bool,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<usize>
    where
        C: FnMut(&[u8], &mut Connection<'_, S>, &mut Context<'_, S>) -> io::Result<()>,
    {
        let mut taken = 0;
        while goes_on(connection) && cx.registry.contains(connection.key().key()) {
            let rest = &data[taken..];
            let Some(frame) = search(&mut self.framing, rest)? else {
                break;
            };
            if !(1..=rest.len()).contains(&frame.consumed) {
                // Without this check the loop would find the same frame again and again.
                return Err(FrameError::Malformed(NO_FRAME).into());
            }
            taken += frame.consumed;
            match (self.closure)(frame.bytes, connection, cx) {
                Err(error) if !is_nothing_done(&error) => return Err(error),
                // `WouldBlock` and `Interrupted` are not passed on: the connection would take them
                // for no frame handled, but the frame was handled.
                _ => {}
            }
        }
        Ok(taken)
    }
}

impl<S, F, C> ConnectionHandler<S> for OnFrames<F, C>
where
    F: Framing + 'static,
    C: FnMut(&[u8], &mut Connection<'_, S>, &mut Context<'_, S>) -> io::Result<()> + 'static,
{
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<usize> {
        self.call_with_frames(
            data,
            F::decode,
            |connection| connection.state.delivers(),
            connection,
            cx,
        )
    }

    fn on_end(
        &mut self,
        rest: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let is_open = |connection: &Connection<'_, S>| connection.state.phase() == Phase::Open;
        self.call_with_frames(rest, F::decode_eof, is_open, connection, cx)?;
        connection.shutdown_after_responses();
        Ok(())
    }
}

impl<F: fmt::Debug, C> fmt::Debug for OnFrames<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnFrames")
            .field("framing", &self.framing)
            .finish_non_exhaustive()
    }
}
