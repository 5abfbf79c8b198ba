//! What a child says, line by line.

use std::io;

use reactor::{AddError, Context, Registry};

use crate::answer::is_nothing_done;
use crate::connection::{CloseReason, Connection, ConnectionHandler, ConnectionKey, ConnectionOptions, Stream, open};
use crate::framing::{Frames, Framing, Lines};

/// What [`lines`] tells.
#[derive(Debug)]
#[non_exhaustive]
pub enum Output<'a> {
    /// A line, without its end. It need not be text.
    Line(&'a [u8]),
    /// There will be no more; told once, the last call. [`CloseReason::Finished`] where it came to its end.
    Ended(CloseReason),
}

/// Calls `on_output` for each line of `stream`, a last one without an end included, and once when it has ended.
///
/// For the pipes of a child, and anything else that is read. It ends when *all* who write to it have closed it: a child may
/// have ended long before, if processes that it has started go on. The registration keeps
/// [`Reactor::run`](reactor::Reactor::run) alive. An error that `on_output` returns ends it, as a line of more than
/// `length_max` bytes does; the child gets `EPIPE` or `SIGPIPE` then when it writes. `WouldBlock` and `Interrupted` end
/// nothing. Costs as [`open`], and no buffer while nothing comes. Loop thread only.
///
/// # Errors
/// As [`open`]: the stream is given back.
///
/// For an example see [`spawn`](super::spawn).
#[track_caller]
pub fn lines<S, T, F>(
    registry: &mut Registry<S>,
    stream: T,
    length_max: usize,
    on_output: F,
) -> Result<ConnectionKey<S>, AddError<T>>
where
    T: Stream,
    F: FnMut(Output<'_>, &mut Context<'_, S>) -> io::Result<()> + 'static,
{
    let kept_max = length_max.saturating_add(b"\r\n".len());
    let options = ConnectionOptions::new().unconsumed_max(kept_max);
    open(registry, stream, &options, LineReader { lines: Lines::new(length_max), on_output })
}

struct LineReader<F> {
    lines: Lines,
    on_output: F,
}

impl<S, F> ConnectionHandler<S> for LineReader<F>
where
    F: FnMut(Output<'_>, &mut Context<'_, S>) -> io::Result<()> + 'static,
{
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<usize> {
        let mut lines = self.lines.frames(data);
        tell(&mut lines, &mut self.on_output, connection, cx)?;
        Ok(lines.taken())
    }

    fn on_end(&mut self, rest: &[u8], connection: &mut Connection<'_, S>, cx: &mut Context<'_, S>) -> io::Result<()> {
        tell(&mut self.lines.last_frames(rest), &mut self.on_output, connection, cx)?;
        connection.shutdown();
        Ok(())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        if let Err(error) = (self.on_output)(Output::Ended(reason), cx) {
            tracing::warn!(%error, "after the end of an output");
        }
    }
}

/// Tells of each line, until the registration is removed. To the connection `WouldBlock` would mean that none was told.
fn tell<S>(
    lines: &mut Frames<'_, '_, Lines>,
    on_output: &mut impl FnMut(Output<'_>, &mut Context<'_, S>) -> io::Result<()>,
    connection: &Connection<'_, S>,
    cx: &mut Context<'_, S>,
) -> io::Result<()> {
    for line in lines {
        match on_output(Output::Line(line?), cx) {
            Err(error) if !is_nothing_done(&error) => return Err(error),
            _ if !cx.registry.contains(connection.key().key()) => break,
            _ => {}
        }
    }
    Ok(())
}
