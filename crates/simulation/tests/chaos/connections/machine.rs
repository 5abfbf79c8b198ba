//! The handler of the server.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use handlers::{CloseReason, Connection, ConnectionHandler, ConnectionKey, Stream, Timeout};
use reactor::{Context, Interest, Priority, Then};
use simulation::{now, random};

use super::clients::{Client, HEADER, bytes};
use super::{Daemon, LONG, Stop};
use crate::draw::{duration, once_in, size};

type Cx<'a> = Context<'a, Rc<Daemon>>;
/// Takes the stream of a connection, and opens it again.
type Retake = fn(ConnectionKey<Rc<Daemon>>, &mut Cx<'_>);

/// A handler that does what the seed says.
#[derive(Clone)]
pub(super) struct Machine {
    retake: Retake,
    client: Option<Rc<Client>>,
    consumed: u64,
    /// The last new bytes, or the last idle timeout.
    idle_since: Option<Instant>,
    /// The last new bytes, or the last read timeout.
    read_since: Option<Instant>,
    /// Answers that wait in a queue of the handler's own.
    kept: usize,
    /// It was told of the end of its peer, or of a graceful close: it keeps no more answers.
    keeps_none: bool,
    graceful: bool,
}

impl Machine {
    /// Makes the handler of a connection on a stream of type `T`.
    pub(super) fn new<T: Stream>() -> Self {
        Self {
            retake: retake::<T>,
            client: None,
            consumed: 0,
            idle_since: None,
            read_since: None,
            kept: 0,
            keeps_none: false,
            graceful: false,
        }
    }

    /// Returns the handler that goes on when the connection is opened again.
    fn of_taken(&self) -> Self {
        Self {
            idle_since: None,
            read_since: None,
            graceful: false,
            ..self.clone()
        }
    }

    /// Compares what has arrived with what was sent.
    fn look_at(&mut self, data: &[u8], cx: &Cx<'_>) {
        if self.client.is_none()
            && let Some(header) = data.first_chunk::<HEADER>()
        {
            let number = u32::from_le_bytes(*header);
            self.client = cx.state.clients.borrow().get(&number).cloned();
            assert!(self.client.is_some(), "the client {number} exists");
        }
        if let Some(client) = &self.client {
            let expected = bytes(client.number, self.consumed, data.len());
            assert!(data == expected, "other bytes than were sent");
            let given = self.consumed + data.len() as u64;
            if given > client.given.get() {
                client.given.set(given);
                (self.idle_since, self.read_since) = (Some(cx.now()), Some(cx.now()));
            }
            assert!(given <= client.sent());
        }
    }

    fn answer(&self, count: usize, connection: &mut Connection<'_, Rc<Daemon>>) {
        let Some(client) = &self.client else { return };
        let written = client.written.get();
        let answer = bytes(!client.number, written, count);
        if connection.write(&answer).is_ok() {
            client.written.set(written + count as u64);
        }
    }

    fn act(
        &mut self,
        connection: &mut Connection<'_, Rc<Daemon>>,
        cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        let Some(client) = self.client.clone() else {
            return Ok(());
        };
        if once_in(100) {
            simulation::compute(Duration::from_millis(random(10_000)));
        }
        match random(24) {
            0..=6 => self.answer(size(3000), connection),
            7 => self.answer(size(150_000), connection),
            8 | 9 if !self.keeps_none => self.kept += size(2000),
            10 => {
                let kept = std::mem::take(&mut self.kept);
                self.answer(kept, connection);
            }
            11 | 12 => {
                client.was_paused.set(true);
                connection.pause_reading();
                later(connection.key(), cx, |_machine, connection, _cx| {
                    connection.resume_reading();
                });
            }
            // After the end of the write side no response can follow. A stream that is taken keeps
            // this end, and its next handler learns of it by its writes.
            13 | 14 if connection.write(b"").is_ok() => {
                client.pending.set(client.pending.get() + 1);
                connection.begin_response();
                later(connection.key(), cx, |machine, connection, _cx| {
                    machine.answer(size(2000), connection);
                    connection.end_response();
                    if let Some(client) = &machine.client {
                        client.pending.set(client.pending.get() - 1);
                    }
                });
            }
            15 | 16 => visit_another(cx),
            17 if once_in(6) => {
                client.is_closed.set(true);
                return Err(io::Error::other("as the seed wants"));
            }
            18 if once_in(3) => self.close(connection),
            20 if once_in(3) && !client.is_closed.get() => {
                let (key, retake) = (connection.key(), self.retake);
                cx.registry.defer(move |cx| retake(key, cx));
            }
            19 if once_in(6) => {
                stop(cx);
            }
            _ => {}
        }
        Ok(())
    }

    /// Answers as another connection would, by the key. It comes after the writes of this callback.
    fn answer_by_key(&self, key: ConnectionKey<Rc<Daemon>>, cx: &mut Cx<'_>) {
        let Some(client) = self
            .client
            .as_ref()
            .filter(|client| !client.is_closed.get())
        else {
            return;
        };
        let (written, count) = (client.written.get(), size(20_000));
        if key
            .write(cx, &bytes(!client.number, written, count))
            .is_ok()
        {
            client.written.set(written + count as u64);
        }
    }

    fn close(&self, connection: &mut Connection<'_, Rc<Daemon>>) {
        let Some(client) = &self.client else { return };
        let deadline = if once_in(2) {
            LONG
        } else {
            duration(Duration::from_secs(2))
        };
        let is_first = !client.is_closed.replace(true);
        client.is_closed_in_order.set(false); // a second close may cut the first one short
        match random(6) {
            0 => connection.abort(),
            1 => connection.close(),
            2 => connection.close_gracefully(deadline),
            3 => connection.abort_after_flush(deadline),
            _ => {
                client.is_closed_in_order.set(is_first && deadline == LONG);
                connection.close_after_flush(deadline);
            }
        }
    }
}

/// Does something with a connection after some time, if it is still open.
fn later(
    key: ConnectionKey<Rc<Daemon>>,
    cx: &mut Cx<'_>,
    access: impl Fn(&mut Machine, &mut Connection<'_, Rc<Daemon>>, &mut Cx<'_>) + 'static,
) {
    cx.registry
        .after(duration(Duration::from_secs(20)), move |cx| {
            let _ = key.with_handler(cx, &access); // it may have ended
            Ok(Then::Done)
        });
}

/// Writes to another connection, or closes it.
fn visit_another(cx: &mut Cx<'_>) {
    let key = {
        let keys = cx.state.keys.borrow();
        keys.get(random(keys.len() as u64) as usize).copied()
    };
    let visit = |machine: &mut Machine, connection: &mut Connection<'_, _>, _: &mut Cx<'_>| {
        if once_in(30) {
            machine.close(connection);
        } else {
            machine.answer(size(20_000), connection);
        }
        if once_in(4) {
            let _ = connection.flush();
        }
    };
    if let Some(key) = key {
        let _ = key.with_handler(cx, visit); // it may run or have ended
    }
}

/// Takes the stream of a connection, unless it has ended or is closing, and opens it again after
/// some time.
fn retake<T: Stream>(key: ConnectionKey<Rc<Daemon>>, cx: &mut Cx<'_>) {
    let machine = key.with_handler(cx, |machine: &mut Machine, _connection, _cx| {
        machine.of_taken()
    });
    let Ok(machine) = machine else { return };
    let Some(client) = machine
        .client
        .clone()
        .filter(|client| !client.is_closed.get())
    else {
        return;
    };
    let Ok(taken) = key.take::<T>(cx) else { return };
    client.pending.set(0);
    let mut taken = Some((taken, machine));
    let pause = if once_in(2) {
        Duration::ZERO
    } else {
        duration(Duration::from_secs(20))
    };
    cx.registry.after(pause, move |cx| {
        if let Some((taken, machine)) = taken.take() {
            let options = cx.state.options.borrow().clone();
            taken.open(cx.registry, &options, machine)?;
        }
        Ok(Then::Done)
    });
}

/// Stops the servers, if they are not stopped yet.
pub(super) fn stop(cx: &mut Cx<'_>) {
    let servers = cx.state.servers.take();
    if servers.is_empty() {
        return;
    }
    let is_patient = !once_in(3);
    let grace = if is_patient {
        LONG
    } else {
        duration(Duration::from_secs(10))
    };
    let reads = !once_in(4);
    cx.state.stopped.set(Some(Stop {
        at: now(),
        is_patient,
        reads,
    }));
    for server in servers {
        if reads {
            server.stop(cx.registry, grace);
        } else {
            server.stop_without_reading(cx, grace);
        }
    }
}

impl ConnectionHandler<Rc<Daemon>> for Machine {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, Rc<Daemon>>,
        cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        cx.state.keys.borrow_mut().push(connection.key());
        let priority = match random(8) {
            0 => Priority::High,
            1 => Priority::Low,
            _ => return Ok(()),
        };
        cx.registry.set_priority(connection.key().key(), priority)?;
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Rc<Daemon>>,
        cx: &mut Cx<'_>,
    ) -> io::Result<usize> {
        self.look_at(data, cx);
        if self.client.is_none() {
            return Ok(0);
        }
        self.act(connection, cx)?;
        if once_in(8) {
            self.answer_by_key(connection.key(), cx);
        }
        let consumed = if once_in(5) {
            random(data.len() as u64 + 1) as usize
        } else {
            data.len()
        };
        self.consumed += consumed as u64;
        Ok(consumed)
    }

    fn on_drain(
        &mut self,
        connection: &mut Connection<'_, Rc<Daemon>>,
        cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        self.act(connection, cx)
    }

    fn on_end(
        &mut self,
        rest: &[u8],
        connection: &mut Connection<'_, Rc<Daemon>>,
        cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        self.look_at(rest, cx);
        if let Some(client) = &self.client {
            assert!(client.is_whole.get(), "a stream that was cut looks whole");
            assert_eq!(client.given.get(), client.sent(), "the end came too early");
        }
        self.keeps_none = true;
        self.act(connection, cx)?;
        let kept = std::mem::take(&mut self.kept);
        self.answer(kept, connection);
        connection.shutdown_after_responses();
        Ok(())
    }

    fn on_graceful_close(
        &mut self,
        connection: &mut Connection<'_, Rc<Daemon>>,
        _cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        assert!(!self.graceful, "told twice");
        (self.graceful, self.keeps_none) = (true, true);
        let kept = std::mem::take(&mut self.kept);
        self.answer(kept, connection);
        Ok(())
    }

    fn on_failure(
        &mut self,
        _error: &io::Error,
        connection: &mut Connection<'_, Rc<Daemon>>,
        cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        assert!(connection.is_paused());
        if once_in(4) {
            connection.resume_reading();
        }
        self.act(connection, cx)
    }

    fn on_timeout(
        &mut self,
        timeout: Timeout,
        connection: &mut Connection<'_, Rc<Daemon>>,
        cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        let Some(client) = &self.client else {
            return Ok(());
        };
        let (since, length) = match timeout {
            Timeout::Idle => (self.idle_since.replace(cx.now()), &cx.state.idle_timeout),
            _ => (self.read_since.replace(cx.now()), &cx.state.read_timeout),
        };
        client.had_timeout.set(true);
        // A connection whose queue was full reads again only when its socket has room.
        let interest = cx.registry.interest(connection.key().key());
        let is_read = interest.is_ok_and(|interest| interest.contains(Interest::READABLE))
            && !connection.is_paused()
            && !client.is_proxied()
            && !self.graceful
            && !client.is_closed.get();
        if is_read && let Some((since, length)) = since.zip(length.get()) {
            cx.state.expect_given(client, since + length);
        }
        if once_in(3) {
            client.is_closed.set(true);
            connection.close();
        }
        Ok(())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Cx<'_>) {
        let Some(client) = &self.client else { return };
        if matches!(reason, CloseReason::Taken) {
            return; // its stream goes on
        }
        assert!(!client.is_over.replace(true), "the end is told once");
        client
            .is_finished
            .set(matches!(reason, CloseReason::Finished));
        let is_own = client.is_closed.get() || self.graceful;
        if let (CloseReason::Failed(error), false, false) = (&reason, is_own, client.is_proxied()) {
            let (given, sent) = (client.given.get(), client.sent());
            assert_eq!(
                given, sent,
                "bytes had come and were not given before {error}"
            );
        }
        if client.is_closed_in_order.get() && client.is_patient.get() && !client.had_timeout.get() {
            let is_right =
                matches!(reason, CloseReason::Finished) || cx.state.stopped.get().is_some();
            assert!(
                is_right || client.is_proxied(),
                "closed in order, and {reason}"
            );
        }
        let is_finished = client.is_finished.get() && !client.is_closed.get();
        assert!(
            !is_finished || self.kept == 0,
            "a handler is not asked for the answers that it keeps"
        );
    }
}
