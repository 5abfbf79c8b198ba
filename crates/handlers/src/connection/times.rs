//! Times of a connection: its timeouts and its rate limits. All of them share the one timeout that
//! a source has.
//!
//! Only a connection that needs the time has a [`Times`]. The time of the turn is set by
//! [`Times::set_now`]. In a call that has no other work it is set by the first bytes.
//!
//! Ground rule: bytes extend timeouts and never shorten one. So bytes that come and go are only
//! recorded. The loop is given a new time only at the end of a call that has changed something
//! else. The loop then calls too early, the call finds that no timeout has expired, and gives the
//! loop a new time. A busy connection costs one such call for each length of the timeout. The same
//! holds for a deadline that the handler moves or clears.

use std::fmt;
use std::time::{Duration, Instant};

use super::options::Settings;
use super::rate::RateLimit;

/// A timeout of a connection, passed to [`on_timeout`](crate::ConnectionHandler::on_timeout) and in
/// [`CloseReason::TimedOut`](crate::CloseReason::TimedOut).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Timeout {
    /// No byte was read or written for a time: see
    /// [`ConnectionOptions::idle_timeout`](crate::ConnectionOptions::idle_timeout).
    Idle,
    /// No byte was read for a time: see
    /// [`ConnectionOptions::read_timeout`](crate::ConnectionOptions::read_timeout).
    Read,
    /// Bytes were queued, and the peer has taken none of them for a time: see
    /// [`ConnectionOptions::write_timeout`](crate::ConnectionOptions::write_timeout).
    Write,
    /// The deadline that the handler has set has passed: see
    /// [`Connection::set_deadline`](crate::Connection::set_deadline).
    Deadline,
    /// The deadline of [`Connection::close_after_flush`](crate::Connection::close_after_flush),
    /// [`Connection::abort_after_flush`](crate::Connection::abort_after_flush),
    /// [`Connection::take_after_flush`](crate::Connection::take_after_flush) or
    /// [`Connection::close_gracefully`](crate::Connection::close_gracefully) has passed. The
    /// connection ends without a call of [`on_timeout`](crate::ConnectionHandler::on_timeout).
    Close,
    /// The handshake of a [layered stream](crate::Stream#layered-streams), such as TLS, was not
    /// complete in time: see
    /// [`ConnectionOptions::handshake_timeout`](crate::ConnectionOptions::handshake_timeout). The
    /// connection ends without a call of [`on_timeout`](crate::ConnectionHandler::on_timeout).
    Handshake,
    /// No address has answered in time: see
    /// [`ConnectionOptions::connect_timeout`](crate::ConnectionOptions::connect_timeout). The
    /// connect ends without a call of [`on_timeout`](crate::ConnectionHandler::on_timeout).
    Connect,
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle timeout",
            Self::Read => "read timeout",
            Self::Write => "write timeout",
            Self::Deadline => "deadline",
            Self::Close => "close deadline",
            Self::Handshake => "handshake timeout",
            Self::Connect => "connect timeout",
        })
    }
}

#[derive(Debug, Default)]
pub(super) struct Times {
    now: Option<Instant>,
    /// The number of the turn that `now` belongs to.
    turn: u64,
    /// The turns of the last bytes in each direction. If such a turn took long, its bytes count
    /// from its end.
    read_in: u64,
    written_in: u64,
    /// The time at which the loop was asked to call. By the time it calls, it has asked the kernel
    /// for events at that time or later. It may not have asked since, so a timeout that expires
    /// after this time does not count as expired yet.
    calls_at: Option<Instant>,
    /// The time of the last bytes in either direction, or of the last idle timeout.
    last_byte: Option<Instant>,
    /// The time of the last bytes from the peer, or the start of the wait for bytes.
    last_read: Option<Instant>,
    /// The time at which the peer last took bytes, or the start of the wait for that.
    last_written: Option<Instant>,
    /// The length of the deadline of the handler, the time from which it runs, and the turn of that
    /// time.
    deadline: Option<Duration>,
    deadline_since: Option<Instant>,
    deadline_in: u64,
    /// The time within which the connection must be closed. It runs from the next `set_now`.
    close_within: Option<Duration>,
    close_by: Option<Instant>,
    /// The time within which the handshake must be complete. It runs from the next `set_now`.
    handshake_within: Option<Duration>,
    handshake_by: Option<Instant>,
    /// The deadline of the handshake is held back, because the next step waits for its turn.
    holds_handshake: bool,
    /// The connection is closed once the peer has taken no byte for this long.
    close_stall_timeout: Option<Duration>,
    read_limits: Vec<RateLimit>,
    write_limits: Vec<RateLimit>,
    /// The time until which a rate limit allows no more bytes.
    read_held_until: Option<Instant>,
    write_held_until: Option<Instant>,
}

/// The events that a connection waits for at the moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    pub(super) to_read: bool,
    pub(super) to_write: bool,
    /// The handshake is not complete: only its timeout and the deadline of a close count.
    pub(super) handshaking: bool,
    /// The connection is closing: only the deadline of the close counts.
    pub(super) closing: bool,
}

impl Times {
    pub(super) fn of(settings: &Settings) -> Option<Box<Self>> {
        if !settings.watch_time() {
            return None;
        }
        let limits = |own: &Option<RateLimit>, shared: &Option<RateLimit>| -> Vec<RateLimit> {
            own.iter()
                .map(RateLimit::separate)
                .chain(shared.clone())
                .collect()
        };
        Some(Box::new(Self {
            read_limits: limits(&settings.read_rate, &settings.shared_read_rate),
            write_limits: limits(&settings.write_rate, &settings.shared_write_rate),
            ..Self::default()
        }))
    }

    /// Sets the time of the turn.
    pub(super) fn set_now(&mut self, now: Instant, turn: u64) {
        (self.now, self.turn) = (Some(now), turn);
        if self.last_byte.is_none() {
            (self.read_in, self.written_in) = (turn, turn);
        }
        // The handler may have set it before this turn was known. Bytes may have come since.
        if self.deadline.is_some() && self.deadline_since.is_none() {
            (self.deadline_since, self.deadline_in) = (Some(now), turn);
        }
        for since in [
            &mut self.last_byte,
            &mut self.last_read,
            &mut self.last_written,
        ] {
            since.get_or_insert(now);
        }
        // A rate limit has held us back until now, so the wait for the peer starts now.
        if self
            .read_held_until
            .take_if(|until| *until <= now)
            .is_some()
        {
            (self.last_read, self.last_byte) = (Some(now), Some(now));
        }
        if self
            .write_held_until
            .take_if(|until| *until <= now)
            .is_some()
        {
            self.last_written = Some(now);
        }
        if let Some(within) = self.close_within.take() {
            self.close_by = self
                .close_by
                .into_iter()
                .chain(now.checked_add(within))
                .min();
        }
        if let Some(within) = self.handshake_within.take() {
            self.handshake_by = now.checked_add(within);
        }
    }

    /// Sets or clears the deadline of the handler. Returns `true` if the loop must be given an
    /// earlier time. A busy connection moves its deadline with each request, and the loop calls too
    /// early once for each length of the deadline.
    pub(super) fn set_deadline(&mut self, length: Option<Duration>) -> bool {
        (self.deadline, self.deadline_since, self.deadline_in) = (length, self.now, self.turn);
        match (length, self.now, self.calls_at) {
            (None, ..) => false,
            (Some(length), Some(now), Some(calls_at)) => {
                now.checked_add(length).is_some_and(|by| by < calls_at)
            }
            _ => true,
        }
    }

    pub(super) const fn has_handler_deadline(&self) -> bool {
        self.deadline.is_some()
    }

    /// Sets a deadline for the handshake.
    pub(super) const fn handshake_within(&mut self, timeout: Duration) {
        self.handshake_within = Some(timeout);
    }

    /// Holds the deadline of the handshake back, or lets it pass.
    pub(super) const fn hold_handshake(&mut self, holds: bool) {
        self.holds_handshake = holds;
    }

    /// Removes the deadline of the handshake. The timeouts of an open connection run from now.
    pub(super) const fn end_handshake(&mut self) {
        (self.handshake_within, self.handshake_by) = (None, None);
        (self.last_byte, self.last_read, self.last_written) = (self.now, self.now, self.now);
    }

    /// Sets a deadline for the close of the connection. The earliest of several deadlines holds.
    pub(super) fn close_within(&mut self, deadline: Duration) {
        self.close_within = self.close_within.into_iter().chain([deadline]).min();
    }

    /// Returns the time that is left until the deadline of the close, if there is one.
    pub(super) fn close_deadline(&self, now: Instant) -> Option<Duration> {
        let set = self.close_by.map(|by| by.saturating_duration_since(now));
        set.into_iter().chain(self.close_within).min()
    }

    /// Closes the connection once the peer has taken no byte for `stall_timeout`. It runs from the
    /// next `set_now`.
    pub(super) const fn set_close_stall_timeout(&mut self, stall_timeout: Duration) {
        self.close_stall_timeout = Some(stall_timeout);
        self.last_written = None;
    }

    /// Returns `true` if there is a deadline of the handler, or for the close of the connection, or
    /// for its handshake.
    pub(super) const fn has_deadline(&self) -> bool {
        self.deadline.is_some()
            || self.close_within.is_some()
            || self.close_by.is_some()
            || self.close_stall_timeout.is_some()
            || self.handshake_within.is_some()
            || self.handshake_by.is_some()
    }

    /// Takes over the deadlines of the handler, for the close of the connection, and for its
    /// handshake.
    pub(super) const fn take_over_deadlines(&mut self, other: &Self) {
        (self.deadline, self.deadline_since) = (other.deadline, other.deadline_since);
        self.deadline_in = other.deadline_in;
        (self.close_within, self.close_by) = (other.close_within, other.close_by);
        (self.handshake_within, self.handshake_by) = (other.handshake_within, other.handshake_by);
        self.close_stall_timeout = other.close_stall_timeout;
    }

    /// Restarts the wait for bytes of the peer.
    pub(super) const fn begin_reading(&mut self) {
        self.last_read = self.now;
    }

    /// Restarts the wait for the peer to take bytes.
    pub(super) const fn begin_writing(&mut self) {
        self.last_written = self.now;
    }

    /// Counts bytes that have arrived. Sets the time too, because nothing may have set it in this
    /// turn.
    #[cold]
    #[inline(never)]
    pub(super) fn count_read(&mut self, bytes: usize, now: Instant, turn: u64) {
        (self.now, self.turn, self.read_in) = (Some(now), turn, turn);
        (self.last_read, self.last_byte) = (self.now, self.now);
        deduct(&self.read_limits, bytes, self.now);
    }

    #[cold]
    #[inline(never)]
    pub(super) fn count_written(&mut self, bytes: usize) {
        if bytes > 0 {
            (self.last_written, self.last_byte, self.written_in) = (self.now, self.now, self.turn);
            deduct(&self.write_limits, bytes, self.now);
        }
    }

    /// Counts that the peer has taken bytes that were counted as written before.
    pub(super) const fn count_flushed(&mut self) {
        (self.last_written, self.last_byte, self.written_in) = (self.now, self.now, self.turn);
    }

    /// Returns how many bytes can be read now. If it returns 0, reading is held back until the rate
    /// limit allows a useful amount: the number of bytes that will arrive is unknown.
    pub(super) fn may_read(&mut self) -> usize {
        allowed(
            &self.read_limits,
            usize::MAX,
            self.now,
            &mut self.read_held_until,
        )
    }

    /// Returns how many of the `queued` bytes can be written now. If it returns 0, writing is held
    /// back until the rate limit allows more.
    pub(super) fn may_write(&mut self, queued: usize) -> usize {
        allowed(
            &self.write_limits,
            queued,
            self.now,
            &mut self.write_held_until,
        )
    }

    pub(super) const fn holds_reading(&self) -> bool {
        self.read_held_until.is_some()
    }

    pub(super) const fn holds_writing(&self) -> bool {
        self.write_held_until.is_some()
    }

    pub(super) const fn have_rates(&self) -> bool {
        !self.read_limits.is_empty() || !self.write_limits.is_empty()
    }

    pub(super) const fn limits_writing(&self) -> bool {
        !self.write_limits.is_empty()
    }

    /// Returns the timeouts that are running, each with the time at which it expires.
    fn deadlines(&self, settings: &Settings, waits: Waits) -> [Option<(Timeout, Instant)>; 7] {
        let after = |timeout, runs: bool, since: Option<Instant>, length: Option<Duration>| {
            let (since, length) = (since.filter(|_| runs)?, length?);
            Some((timeout, since.checked_add(length)?))
        };
        // A closing connection has no timeout but the deadlines of its close.
        let open = !waits.closing && !waits.handshaking;
        [
            self.close_by.map(|by| (Timeout::Close, by)),
            self.handshake_by
                .filter(|_| waits.handshaking && !self.holds_handshake)
                .map(|by| (Timeout::Handshake, by)),
            after(
                Timeout::Close,
                !self.holds_writing(),
                self.last_written,
                self.close_stall_timeout,
            ),
            after(Timeout::Deadline, open, self.deadline_since, self.deadline),
            after(
                Timeout::Write,
                open && waits.to_write && !self.holds_writing(),
                self.last_written,
                settings.write_timeout,
            ),
            after(
                Timeout::Read,
                open && waits.to_read && !self.holds_reading(),
                self.last_read,
                settings.read_timeout,
            ),
            after(
                Timeout::Idle,
                open && !self.holds_reading(),
                self.last_byte,
                settings.idle_timeout,
            ),
        ]
    }

    /// Returns the first timeout that has expired, if the loop was asked to call. Restarts that
    /// timeout and no other. The deadline of the handler is not restarted.
    pub(super) fn take_expired(
        &mut self,
        settings: &Settings,
        waits: Waits,
        end_of_turn: impl Fn(u64) -> Option<Instant>,
    ) -> Option<Timeout> {
        let called_at = self.calls_at?;
        let (read, written) = (end_of_turn(self.read_in), end_of_turn(self.written_in));
        self.deadline_since = self.deadline_since.max(end_of_turn(self.deadline_in));
        self.last_read = self.last_read.max(read);
        self.last_written = self.last_written.max(written);
        self.last_byte = self.last_byte.max(read).max(written);
        let mut deadlines = self.deadlines(settings, waits).into_iter().flatten();
        let (timeout, _) = deadlines.find(|(_, passes)| *passes <= called_at)?;
        match timeout {
            Timeout::Write => self.last_written = self.now,
            Timeout::Read => self.last_read = self.now,
            Timeout::Deadline => self.deadline = None,
            _ => self.last_byte = self.now,
        }
        Some(timeout)
    }

    /// Returns the time from now until the next timeout or the end of a rate limit.
    pub(super) fn next_timeout(&mut self, settings: &Settings, waits: Waits) -> Option<Duration> {
        let now = self.now?;
        let passes = self
            .deadlines(settings, waits)
            .into_iter()
            .flatten()
            .map(|(_, passes)| passes);
        let first = passes
            .chain(self.read_held_until)
            .chain(self.write_held_until)
            .min();
        self.calls_at = first.map(|first| first.max(now));
        Some(self.calls_at?.saturating_duration_since(now))
    }
}

#[inline]
fn deduct(limits: &[RateLimit], bytes: usize, now: Option<Instant>) {
    // Checked before anything is called, because most connections have no limits.
    if let (Some(now), [_, ..]) = (now, limits) {
        deduct_from_each(limits, bytes, now);
    }
}

/// It is a function of its own, because the saved registers of its loop would cost the connections
/// without limits a dozen instructions for each message.
#[cold]
#[inline(never)]
fn deduct_from_each(limits: &[RateLimit], bytes: usize, now: Instant) {
    limits.iter().for_each(|limit| limit.take(bytes, now));
}

fn allowed(
    limits: &[RateLimit],
    wanted: usize,
    now: Option<Instant>,
    held_until: &mut Option<Instant>,
) -> usize {
    let Some(now) = now else { return usize::MAX };
    let allowed = limits
        .iter()
        .map(|limit| limit.available(now))
        .min()
        .unwrap_or(usize::MAX);
    if allowed == 0 {
        let wait = limits
            .iter()
            .map(|limit| limit.wait(wanted, now))
            .max()
            .unwrap_or_default();
        *held_until = now.checked_add(wait);
    }
    allowed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConnectionOptions;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_loop_is_given_a_time_only_if_a_deadline_is_the_earliest() {
        let settings = ConnectionOptions::new().0;
        let waits = Waits {
            to_read: true,
            to_write: false,
            handshaking: false,
            closing: false,
        };
        let (mut times, start) = (Times::default(), Instant::now());
        assert!(!times.set_deadline(None));
        assert!(times.set_deadline(Some(SECOND)), "the first deadline");
        times.set_now(start, 1);
        assert_eq!(times.next_timeout(&settings, waits), Some(SECOND));
        times.set_now(start + SECOND / 2, 2);
        assert!(!times.set_deadline(Some(SECOND)), "moved later");
        assert!(!times.set_deadline(None), "cleared");
        assert!(!times.set_deadline(Some(SECOND / 2)), "the same time");
        assert!(!times.set_deadline(Some(Duration::MAX)), "never");
        let less = SECOND / 2 - Duration::from_nanos(1);
        assert!(times.set_deadline(Some(less)), "moved earlier");
    }
}
