//! What a child says, line by line.

use std::io;

use memchr::memchr;
use reactor::{AddError, Context, Registry};

use crate::connection::{
    CloseReason, Connection, ConnectionHandler, ConnectionKey, ConnectionOptions, Stream,
};
use crate::error::is_nothing_done;
use crate::framing::{Framing, Lines, Search};

/// What [`lines`] tells.
///
/// With each line comes the connection: to [pause](Connection::pause_reading) whoever writes, or to answer at a
/// terminal.
#[derive(Debug)]
#[non_exhaustive]
pub enum Output<'a, 'c, S> {
    /// A line, without its end. It need not be text.
    Line(&'a [u8], &'a mut Connection<'c, S>),
    /// The beginning of a line that is longer than the limit, as many bytes as that allows. The rest of it is
    /// discarded, and what is told next is the line after it.
    Cut(&'a [u8], &'a mut Connection<'c, S>),
    /// There will be no more; told once, the last call. [`CloseReason::Finished`] where it came to its end.
    Ended(CloseReason),
}

/// Calls `on_output` for each line of `stream`, a last one without an end included, and once when it has ended.
///
/// For the pipes of a child, the master of its terminal, and anything else that is read. It ends when *all* who write
/// to it have closed it: a child may have ended long before, if processes that it has started go on. The registration
/// keeps [`Reactor::run`](reactor::Reactor::run) alive.
///
/// A line of more than `max_length` bytes is cut: its first `max_length` are told as [`Output::Cut`], as soon as it is
/// known to be longer, and reading goes on. An error that `on_output` returns ends it, also at [`Output::Cut`] if such
/// a line is to; the child gets `EPIPE` or `SIGPIPE` then when it writes. `WouldBlock` and `Interrupted` end nothing.
///
/// A callback that pauses the connection is told no more until it is resumed, by its [`ConnectionKey`], not even of
/// lines that have come already; who writes waits when the pipe is full. Costs as [`Connection::open`], and no buffer while nothing
/// comes. Loop thread only.
///
/// # Errors
/// As [`Connection::open`]: the stream is given back.
///
/// For an example see [`spawn`](super::spawn).
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
    // It keeps half a line at most, and where it is paused what was read at once: both have limits of their own.
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
    /// Within a line that was cut, up to its end.
    skipping: bool,
    on_output: F,
}

/// A line that was found.
enum FoundLine<'a> {
    Whole(&'a [u8]),
    Cut(&'a [u8]),
}

impl<F> LineReader<F> {
    /// Finds the first line of `data`, and says how much was taken with it. Where there is none, something may have
    /// been skipped all the same.
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
                self.lines = Lines::new(self.max_length); // the last one gives the same error for ever
                self.skipping = true;
                (
                    skipped + self.max_length,
                    Some(FoundLine::Cut(&rest[..self.max_length])),
                )
            }
        }
    }

    /// Calls back for each line of `data`, until the connection is closed, paused or removed, and returns how much was
    /// taken. To the connection `WouldBlock` would mean that none was taken.
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
        self.deliver(rest, Lines::decode_eof, connection, cx)?; // one line at most: whole ones are told before the end is read
        connection.shutdown();
        Ok(())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        if let Err(error) = (self.on_output)(Output::Ended(reason), cx) {
            tracing::warn!(%error, "after the end of an output");
        }
    }
}
