//! The output of a child, line by line.

use std::fmt;
use std::io;

use memchr::memchr;
use reactor::{AddError, Context, Registry};

use crate::connection::{
    CloseReason, Connection, ConnectionHandler, ConnectionKey, ConnectionOptions, Stream,
};
use crate::error::is_nothing_done;
use crate::framing::{Framing, Lines, Search};

/// The events that [`lines`] reports.
///
/// Each line comes with the [`Connection`] that reads the stream. If the stream is the child's
/// terminal, use the connection to answer the child. For any stream, use it to
/// [pause](Connection::pause_reading) reading. During a pause the writer blocks once the pipe is
/// full.
#[non_exhaustive]
pub enum Output<'a, 'c, S> {
    /// A line, without its line end. It need not be valid UTF-8.
    Line(&'a [u8], &'a mut Connection<'c, S>),
    /// The beginning of a line that is longer than the limit. It has as many bytes as the limit
    /// allows. The rest of the line is discarded. The next event reports the line after the one
    /// that was cut.
    Cut(&'a [u8], &'a mut Connection<'c, S>),
    /// The output has ended. This is the last call. The reason is [`CloseReason::Finished`] if the
    /// stream was read to its end.
    Ended(CloseReason),
}

/// Formats the event without its connection, for any state.
impl<S> fmt::Debug for Output<'_, '_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line, _) => f.debug_tuple("Line").field(line).finish_non_exhaustive(),
            Self::Cut(line, _) => f.debug_tuple("Cut").field(line).finish_non_exhaustive(),
            Self::Ended(reason) => f.debug_tuple("Ended").field(reason).finish(),
        }
    }
}

/// Calls `on_output` for each line of `stream`, and once more with [`Output::Ended`] when the
/// stream has ended. The last line of the stream needs no line end.
///
/// `stream` can be a pipe of a child, the master side of its terminal, or any other stream. A pipe
/// ends when *all* of its writers have closed it. If processes that the child has started still
/// run, the pipe may end long after the child. The registration keeps
/// [`Reactor::run`](reactor::Reactor::run) alive. Call this function on the loop's thread.
///
/// A line of more than `max_length` bytes is cut: its first `max_length` bytes are reported as
/// [`Output::Cut`], as soon as more bytes of the line have arrived. The rest of the line is
/// discarded. Then the next line is reported as usual.
///
/// An error that `on_output` returns ends the registration and closes the stream. A child that then
/// writes to its pipe gets `EPIPE` or `SIGPIPE`. To end the registration at a line that is too
/// long, return an error at [`Output::Cut`]. The errors `WouldBlock` and `Interrupted` are
/// exceptions: they do not end the registration.
///
/// Each line comes with the [`Connection`] that reads the stream. If a callback
/// [pauses](Connection::pause_reading) this connection, no further lines are reported, not even
/// lines that were already read. Reporting continues when you resume the connection by its
/// [`ConnectionKey`]. During the pause, the writer blocks once the pipe is full.
///
/// # Cost
/// The costs of [`Connection::open`]. While no data arrives, no buffer is held for the stream.
///
/// # Errors
/// [`AddError`] returns the stream. Its error is one of:
/// - [`Error::AlreadyRegistered`](reactor::Error::AlreadyRegistered) if the fd is registered in
///   this reactor.
/// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop.
/// - [`Error::Os`](reactor::Error::Os) if epoll refuses the fd.
///
/// See also [`Connection::open`]. For an example see [`spawn`](super::spawn).
#[track_caller]
pub fn lines<S, T, F>(
    registry: &mut Registry<S>,
    stream: T,
    max_length: usize,
    on_output: F,
) -> Result<ConnectionKey<S>, AddError<T>>
where
    T: Stream,
    F: FnMut(Output<'_, '_, S>, &mut Context<'_, S>) -> io::Result<()> + 'static,
{
    // No limit is needed here: the reader keeps at most half a line, and while paused at most the
    // data of one read.
    let options = ConnectionOptions::new().max_buffered_input(usize::MAX);
    let reader = LineReader {
        lines: Lines::new(max_length),
        max_length,
        skipping: false,
        on_output,
    };
    Connection::open(registry, stream, &options, reader)
}

struct LineReader<F> {
    lines: Lines,
    max_length: usize,
    /// Set from the cut of a line until the end of that line.
    skipping: bool,
    on_output: F,
}

/// A line found in the input.
enum FoundLine<'a> {
    Whole(&'a [u8]),
    Cut(&'a [u8]),
}

impl<F> LineReader<F> {
    /// Finds the first line of `data`. Returns the number of consumed bytes, and the line if there
    /// is a whole one. Bytes may be consumed without a line, since the rest of a cut line is
    /// skipped.
    fn next<'a>(
        &mut self,
        data: &'a [u8],
        search: Search<Lines>,
    ) -> (usize, Option<FoundLine<'a>>) {
        let mut skipped = 0;
        if self.skipping {
            let Some(end) = memchr(b'\n', data) else {
                return (data.len(), None);
            };
            (self.skipping, skipped) = (false, end + 1);
        }
        let rest = &data[skipped..];
        match search(&mut self.lines, rest) {
            Ok(Some(frame)) => (
                skipped + frame.consumed,
                Some(FoundLine::Whole(frame.bytes)),
            ),
            Ok(None) => (skipped, None),
            Err(_) => {
                // The old framing would repeat its error for ever.
                self.lines = Lines::new(self.max_length);
                self.skipping = true;
                (
                    skipped + self.max_length,
                    Some(FoundLine::Cut(&rest[..self.max_length])),
                )
            }
        }
    }

    /// Calls `on_output` for each line of `data`, until the connection is closed, paused or
    /// removed. Returns the number of consumed bytes. The error `WouldBlock` is not passed on,
    /// since the connection would take it for 0 consumed bytes.
    fn deliver<S>(
        &mut self,
        data: &[u8],
        search: Search<Lines>,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<usize>
    where
        F: FnMut(Output<'_, '_, S>, &mut Context<'_, S>) -> io::Result<()>,
    {
        let mut taken = 0;
        loop {
            let (more, found) = self.next(&data[taken..], search);
            taken += more;
            let output = match found {
                Some(FoundLine::Whole(line)) => Output::Line(line, connection),
                Some(FoundLine::Cut(line)) => Output::Cut(line, connection),
                None => return Ok(taken),
            };
            match (self.on_output)(output, cx) {
                Err(error) if !is_nothing_done(&error) => return Err(error),
                _ if !connection.takes_data() || !cx.registry.contains(connection.key().key()) => {
                    return Ok(taken);
                }
                _ => {}
            }
        }
    }
}

impl<S, F> ConnectionHandler<S> for LineReader<F>
where
    F: FnMut(Output<'_, '_, S>, &mut Context<'_, S>) -> io::Result<()> + 'static,
{
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<usize> {
        self.deliver(data, Lines::decode, connection, cx)
    }

    fn on_end(
        &mut self,
        rest: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        // At most one line is left: complete lines are reported before the end is read.
        self.deliver(rest, Lines::decode_eof, connection, cx)?;
        connection.shutdown();
        Ok(())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        if let Err(error) = (self.on_output)(Output::Ended(reason), cx) {
            tracing::warn!(%error, "on_output failed at the end of the output");
        }
    }
}
