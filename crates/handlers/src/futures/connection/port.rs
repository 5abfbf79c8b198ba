//! The way from a future to its connection: a request that the executor carries out right after the
//! poll.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::rc::{Rc, Weak};
use std::time::Duration;

use reactor::{Context, Registry};

use super::buffers;
use super::link::{End, Link, Owner, Writing};
use crate::connection::{Connection, ConnectionKey, Flow};
use crate::error::with_causes;
use crate::futures::TaskKey;
use crate::futures::executor::Executor;
use crate::futures::requests::{Call, LoopRequest, PendingCall};
use crate::limit::{ConnectionLimit, Permit};
use crate::sockets;

/// The time for which a peer may take nothing while its connection is being closed.
const CLOSE_STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A link with the connection that it leads to.
pub(super) struct Port<S> {
    link: Link,
    key: ConnectionKey<S>,
    executor: Weak<Executor<S>>,
    /// The request is on its way.
    is_asked: Cell<bool>,
    /// The connection waits for the end of the future.
    is_pending: Cell<bool>,
    /// The stop that the future is notified of once it was offered the input that came before.
    stop: Cell<Option<Stop>>,
    /// The task of the future.
    task: Cell<Option<TaskKey>>,
    limit: Option<ConnectionLimit>,
    /// Counts what outlives the connection for the limit.
    lingers: Cell<Option<Permit>>,
    this: Weak<Self>,
}

/// A stop of which the future is not notified yet.
#[derive(Clone, Copy)]
struct Stop {
    /// The number of read bytes at which all that had arrived was read.
    target: u64,
    /// The number of bytes that were read at the last look.
    seen: u64,
}

/// A [`Port`] without the type of its loop's state.
pub(super) trait AnyPort {
    fn link(&self) -> &Link;

    /// Asks the connection to do what the future waits for.
    fn ask(self: Rc<Self>);

    /// Called when the future or the handle is gone.
    fn leave(self: Rc<Self>);
}

/// Asks the connection of `port` to do what the future waits for, unless it waits for nothing.
/// `link` is the link of `port`, which the caller has used.
#[inline]
pub(super) fn ask_if_needed(port: &Rc<dyn AnyPort>, link: &Link) {
    if link.has_wishes() {
        Rc::clone(port).ask();
    }
}

impl<S: 'static> Port<S> {
    /// Returns the port of a connection that has opened.
    pub(super) fn new(
        connection: &mut Connection<'_, S>,
        executor: &Rc<Executor<S>>,
        owner: Owner,
    ) -> Rc<Self> {
        // From now on any end is a reset, except the ends that the future wants.
        connection.begin_response();
        // The future holds back its peer itself. It may have to read before it can write.
        connection.read_while_full();
        Rc::new_cyclic(|this| Self {
            link: Link::new(owner, connection.max_write_queue()),
            key: connection.key(),
            executor: Rc::downgrade(executor),
            is_asked: Cell::new(false),
            is_pending: Cell::new(true),
            stop: Cell::new(None),
            task: Cell::new(None),
            limit: connection.limit(),
            lingers: Cell::new(None),
            this: Weak::clone(this),
        })
    }

    pub(super) fn set_task(&self, task: TaskKey) {
        self.task.set(Some(task));
    }

    /// Lets the loop end without the future, whose connection was cut.
    pub(super) fn release_loop(&self, registry: &mut Registry<S>) {
        if let Some(task) = self.task.get() {
            let _ = task.set_background(registry, true); // a stale key: it has ended
        }
    }

    /// Runs `wake` in a callback.
    pub(super) fn wake(&self, registry: &mut Registry<S>, wake: impl FnOnce(&Link)) {
        if let Some(executor) = self.executor.upgrade() {
            executor.wake_in_callback(registry, || wake(&self.link));
        }
    }

    /// Notifies the future of a stop, once it was offered all input that has arrived by now.
    pub(super) fn begin_stop(
        self: &Rc<Self>,
        connection: &Connection<'_, S>,
        registry: &mut Registry<S>,
    ) {
        let seen = connection.metrics().read;
        // More bytes than a layered stream makes of them, so the end of progress counts too.
        let target = seen + sockets::unread(connection.as_fd());
        self.stop.set(Some(Stop { target, seen }));
        self.look_at_stop_after_a_turn(registry);
    }

    fn look_at_stop_after_a_turn(self: &Rc<Self>, registry: &mut Registry<S>) {
        let port = Rc::clone(self);
        // Twice, because the deferred callbacks of this turn may not have run yet.
        registry.defer(move |cx| {
            cx.registry.defer(move |cx| port.look_at_stop(cx));
        });
    }

    fn look_at_stop(self: &Rc<Self>, cx: &mut Context<'_, S>) {
        let read = self
            .key
            .with(cx, |connection, _cx| connection.metrics().read);
        let (Ok(read), Some(stop)) = (read, self.stop.get()) else {
            return; // it has ended
        };
        let is_read = read >= stop.target || read == stop.seen && !self.link.holds_input_back();
        if is_read {
            self.stop.set(None);
            self.link.begin_stop();
            self.wake(cx.registry, |link| link.stops.wake_all());
        } else if read != stop.seen {
            self.stop.set(Some(Stop { seen: read, ..stop }));
            self.look_at_stop_after_a_turn(cx.registry);
        } // otherwise when the connection reads again
    }

    /// Does what the future waits for.
    fn serve(&self, connection: &mut Connection<'_, S>) {
        let output = self.link.take_output();
        if !output.is_empty() {
            self.send(&output, connection);
            buffers::put(output);
        }
        if self.link.take_wants_input() {
            connection.resume_reading();
        }
        if self.link.writing() == Writing::Asked {
            connection.shutdown();
            self.link.set_writing(Writing::Ending);
            if connection.queued() > 0 {
                connection.notify_sent();
            }
        }
        self.look_at_queue(connection);
        if let Some(end) = self.link.take_end() {
            self.end(end, connection);
        }
    }

    fn send(&self, output: &[u8], connection: &mut Connection<'_, S>) {
        match connection.write_now(output) {
            Ok(Flow::Full) => self.link.set_full(true), // `on_drain` follows, or the end
            Ok(Flow::Open) => {
                let queued = connection.queued();
                let most = connection.max_write_queue();
                if queued > 0 && queued + self.link.output_max() > most {
                    self.link.set_full(true);
                    connection.notify_sent();
                }
            }
            Err(error) => self.link.fail_writing(error),
        }
    }

    /// Wakes a future that waits for the write queue.
    pub(super) fn look_at_queue(&self, connection: &Connection<'_, S>) {
        if self.link.writing() == Writing::Ending
            && connection.queued() == 0
            && !connection.has_failed_to_write()
        {
            self.link.empty_queue();
        }
    }

    /// Records that the write queue has room again.
    pub(super) fn has_room(&self, connection: &Connection<'_, S>, registry: &mut Registry<S>) {
        self.link.set_full(false);
        self.look_at_queue(connection);
        self.wake(registry, |link| link.writer.wake());
    }

    fn end(&self, end: End, connection: &mut Connection<'_, S>) {
        if self.is_pending.take() {
            connection.end_response();
        }
        match end {
            End::Clean => connection.close_unless_stalled(CLOSE_STALL_TIMEOUT, false),
            End::Cut => connection.close_unless_stalled(CLOSE_STALL_TIMEOUT, true),
            End::Reset => connection.abort(),
        }
    }

    /// Ends the connection as the result of its future says.
    pub(super) fn finish(&self, result: io::Result<()>, cx: &mut Context<'_, S>) {
        if let Err(error) = &result {
            let error = with_causes(error);
            tracing::debug!(connection = %self.key, %error, "the future of a connection has failed");
            // A stale key: it has ended meanwhile.
            let _ = cx.registry.report_failure(self.key.key(), &error);
        }
        self.link.finish_future(result.is_ok());
        self.end_lingering();
        self.run(cx);
    }
}

impl<S> Port<S> {
    /// Lets a future that outlives its connection count for the connection limit. Otherwise clients
    /// that come and go would start futures without a limit.
    pub(super) fn begin_lingering(&self) {
        if !self.link.is_left() {
            let held = self.limit.as_ref().map(ConnectionLimit::hold);
            self.lingers.set(held);
        }
    }

    fn end_lingering(&self) {
        if self.link.is_left() {
            drop(self.lingers.take());
        }
    }

    /// Records that the connection is out of reach, and that nothing reports its end.
    pub(super) fn end_unheard(&self) {
        let text = "the connection has got another handler, or its loop has ended";
        let error = io::Error::new(ErrorKind::ConnectionAborted, text);
        self.begin_lingering();
        self.link.end_connection(error);
        self.link.reader.wake();
        self.link.writer.wake();
    }
}

impl<S: 'static> AnyPort for Port<S> {
    fn link(&self) -> &Link {
        &self.link
    }

    fn ask(self: Rc<Self>) {
        if self.is_asked.replace(true) {
            return;
        }
        if let Some(executor) = self.executor.upgrade() {
            executor.push_request(LoopRequest::Call(PendingCall(self), None));
            executor.local.announce_pass();
        }
    }

    fn leave(self: Rc<Self>) {
        self.end_lingering();
        if self.link.has_wishes() {
            self.ask();
        }
    }
}

impl<S: 'static> Call<S> for Port<S> {
    fn run(&self, cx: &mut Context<'_, S>) {
        self.is_asked.set(false);
        let served = self.key.with(cx, |connection, _cx| self.serve(connection));
        // An error means that the connection has ended. `on_close` has said so to the future.
        if served.is_ok() {
            self.link.wake_writer_if_ready();
        }
        if self.stop.get().is_some()
            && let Some(port) = self.this.upgrade()
        {
            port.look_at_stop_after_a_turn(cx.registry);
        }
    }
}
