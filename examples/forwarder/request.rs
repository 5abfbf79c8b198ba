//! A request: a line from its arrival to its acknowledgement by the upstream.
//!
//! All work for a line is done in the context of the line, and other work is not. So each line of
//! the log about it has its id, and no function takes the id to log it.

use bytes::Bytes;
use handlers::ConnectionKey;
use reactor::{Context, RequestContext, TimerKey};
use tracing::Span;

use super::relay::Relay;

/// A line that the upstream has not acknowledged.
pub(crate) struct Pending {
    pub(crate) line: Bytes,
    pub(crate) context: RequestContext,
    /// `None` if it was answered, or was read from the spool.
    pub(crate) waiting: Option<Waiting>,
}

/// A client that waits for the answer to a line.
pub(crate) struct Waiting {
    pub(crate) client: ConnectionKey<Relay>,
    /// Reports a line that waits for long.
    pub(crate) slow: TimerKey,
}

/// Returns the context of a line. Its span has the span of the client as its parent, not that of
/// the line before.
pub(crate) fn context_of(id: u64, client: &Span) -> RequestContext {
    RequestContext::NONE.with_span(tracing::info_span!(parent: client, "request", id))
}

/// Returns the context of a line that was read from the spool.
pub(crate) fn context_of_spooled(id: u64) -> RequestContext {
    RequestContext::NONE.with_span(tracing::info_span!(parent: None, "request", id, from = "spool"))
}

/// Answers a line, if a client waits for it.
pub(crate) fn answer(waiting: Option<Waiting>, cx: &mut Context<'_, Relay>) {
    let Some(Waiting { client, slow }) = waiting else {
        return;
    };
    let _ = cx.registry.cancel(slow); // an error means that it has run
    let answered = client.with(cx, |connection, _cx| {
        connection.end_response();
        connection.write(b"+\n").is_ok()
    });
    match answered {
        Ok(true) => tracing::debug!("answered"),
        Ok(false) | Err(_) => tracing::debug!("the client has gone"),
    }
}
