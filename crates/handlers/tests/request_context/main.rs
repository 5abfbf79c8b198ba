//! The context of a request in each callback: the one in which the work was handed on, on whatever
//! thread. Nothing keeps it when the work has ended.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

mod connecting;
mod connections;
mod layered;
mod listeners;
mod lookups;
mod panics;
mod pool;
mod replaced;
mod rooms;
mod tasks;
mod upstreams;

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};

use handlers::{
    CloseReason, Connection, ConnectionHandler, ConnectionKey, ConnectionMetrics,
    ConnectionOptions, Timeout,
};
use reactor::{Context, Reactor, RequestContext};
use support::{Result, run_out};

/// The callbacks that have run, each with the number of the request that was current.
type Seen = Vec<(&'static str, Option<u32>)>;

/// The value in the context of a request.
struct Request {
    number: u32,
    _alive: Arc<()>,
}

/// Tells if a context is still kept.
#[derive(Debug)]
struct Kept(Weak<()>);

impl Kept {
    #[track_caller]
    fn expect_dropped(&self, what: &str) {
        assert_eq!(self.0.strong_count(), 0, "{what}: the context is kept");
    }

    #[track_caller]
    fn expect_kept(&self) {
        assert!(self.0.strong_count() > 0, "nothing has this context");
    }
}

/// Returns the context of a request.
fn request(number: u32) -> (RequestContext, Kept) {
    let alive = Arc::new(());
    let kept = Kept(Arc::downgrade(&alive));
    let request = Request {
        number,
        _alive: alive,
    };
    (RequestContext::NONE.with(request), kept)
}

/// Runs `callback` in a request that nothing else keeps.
fn within<R>(number: u32, callback: impl FnOnce() -> R) -> R {
    request(number).0.scope(callback)
}

/// Returns the number of the current request.
fn current() -> Option<u32> {
    let context = RequestContext::current();
    context.get::<Request>().map(|request| request.number)
}

/// Notes a callback.
fn note<S: AsMut<Seen>>(what: &'static str, cx: &mut Context<'_, S>) {
    cx.state.as_mut().push((what, current()));
}

/// The state of a loop whose callbacks note themselves.
#[derive(Debug, Default)]
struct App {
    seen: Seen,
    keys: Vec<ConnectionKey<Self>>,
}

impl AsMut<Seen> for App {
    fn as_mut(&mut self) -> &mut Seen {
        &mut self.seen
    }
}

/// Hands on work in request 7 and on behalf of none. The loop runs until nothing is left. Then
/// exactly the callbacks `expected` must have run, each in the request, and nothing keeps it.
#[track_caller]
fn check(expected: &[&'static str], hand_on: impl Fn(&mut Reactor<App>) -> Result) {
    for number in [Some(7), None] {
        let mut reactor = Reactor::<App>::new().unwrap();
        let (context, kept) = request(7);
        if number.is_some() {
            context.scope(|| hand_on(&mut reactor)).unwrap();
        } else {
            hand_on(&mut reactor).unwrap();
        }
        drop(context);
        let mut app = App::default();
        run_out(&mut reactor, &mut app).unwrap();
        let expected: Seen = expected.iter().map(|what| (*what, number)).collect();
        assert_eq!(app.seen, expected);
        assert_eq!(current(), None, "after the loop");
        kept.expect_dropped("after the work");
    }
}

/// A handler that notes each of its callbacks, and calls `act` in it.
struct Noting<F>(F);

/// Returns a handler that only notes.
const fn noting() -> Noting<impl Act> {
    Noting(|_: &'static str, _: &mut Connection<'_, App>, _: &mut Context<'_, App>| ())
}

/// Returns a handler that notes its callbacks, and closes.
const fn closing() -> Noting<impl Act> {
    Noting(
        |_: &'static str, connection: &mut Connection<'_, App>, _: &mut Context<'_, App>| {
            connection.close();
        },
    )
}

/// An action in a callback of a connection.
trait Act: FnMut(&'static str, &mut Connection<'_, App>, &mut Context<'_, App>) + 'static {}

impl<F> Act for F where
    F: FnMut(&'static str, &mut Connection<'_, App>, &mut Context<'_, App>) + 'static
{
}

impl<F: Act> Noting<F> {
    fn call(
        &mut self,
        what: &'static str,
        connection: &mut Connection<'_, App>,
        cx: &mut Context<'_, App>,
    ) {
        note(what, cx);
        (self.0)(what, connection, cx);
    }
}

impl<F: Act> ConnectionHandler<App> for Noting<F> {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, App>,
        cx: &mut Context<'_, App>,
    ) -> io::Result<()> {
        cx.state.keys.push(connection.key());
        self.call("open", connection, cx);
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, App>,
        cx: &mut Context<'_, App>,
    ) -> io::Result<usize> {
        self.call("data", connection, cx);
        Ok(data.len())
    }

    fn on_drain(
        &mut self,
        connection: &mut Connection<'_, App>,
        cx: &mut Context<'_, App>,
    ) -> io::Result<()> {
        self.call("drain", connection, cx);
        Ok(())
    }

    fn on_sent(
        &mut self,
        _position: u64,
        connection: &mut Connection<'_, App>,
        cx: &mut Context<'_, App>,
    ) -> io::Result<()> {
        self.call("sent", connection, cx);
        Ok(())
    }

    fn on_end(
        &mut self,
        _rest: &[u8],
        connection: &mut Connection<'_, App>,
        cx: &mut Context<'_, App>,
    ) -> io::Result<()> {
        self.call("end", connection, cx);
        connection.shutdown();
        Ok(())
    }

    fn on_graceful_close(
        &mut self,
        connection: &mut Connection<'_, App>,
        cx: &mut Context<'_, App>,
    ) -> io::Result<()> {
        self.call("graceful", connection, cx);
        Ok(())
    }

    fn on_timeout(
        &mut self,
        _timeout: Timeout,
        connection: &mut Connection<'_, App>,
        cx: &mut Context<'_, App>,
    ) -> io::Result<()> {
        self.call("timeout", connection, cx);
        Ok(())
    }

    fn on_final_metrics(&mut self, _metrics: ConnectionMetrics, cx: &mut Context<'_, App>) {
        note("metrics", cx);
    }

    fn on_close(&mut self, _reason: CloseReason, cx: &mut Context<'_, App>) {
        note("close", cx);
    }
}

/// Opens a connection of `handler` in request `number`. Returns it with its peer.
fn open_in(
    number: u32,
    reactor: &mut Reactor<App>,
    handler: impl ConnectionHandler<App>,
) -> Result<(ConnectionKey<App>, UnixStream, Kept)> {
    let (near, far) = UnixStream::pair()?;
    let (context, kept) = request(number);
    let options = ConnectionOptions::new();
    let key = context.scope(|| Connection::open(reactor, near, &options, handler))?;
    Ok((key, far, kept))
}
