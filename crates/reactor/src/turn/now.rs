//! The time and the number of a turn, as its callbacks see them.

use std::time::Instant;

use crate::registry::Registry;

impl<S> Registry<S> {
    /// Returns the current time as seen by this turn.
    ///
    /// The monotonic clock is read once per turn, on first use, so every callback of a turn sees
    /// the same value. Only `before_wait` hooks see the value from before the wait. Outside a turn,
    /// the clock is read on every call.
    #[doc(alias("event_base_gettimeofday_cached", "ev_now", "uv_now"))]
    #[inline]
    pub fn now(&self) -> Instant {
        self.time.now()
    }

    /// Reads the clock again, and returns the new time. Call it in a callback that has taken long,
    /// before that callback arms timers that are to count from now. Later callbacks of this turn
    /// see the new time.
    #[doc(alias("event_base_update_cache_time", "ev_now_update", "uv_update_time"))]
    pub fn refresh_now(&mut self) -> Instant {
        let before = self.time.known();
        self.time.forget();
        let now = self.time.now();
        let armings = self.timers.armings();
        self.time.pauses.split(before, now, armings);
        now
    }

    /// Returns the number of this turn. Between turns it is the number of the last turn. The first
    /// turn has the number 1; before it, the number is 0.
    #[inline]
    pub const fn turn_number(&self) -> u64 {
        self.metrics.turns
    }

    /// Returns when the turn with this [number](Self::turn_number) ended, if the turn took 50 ms or
    /// longer. Returns `None` for shorter turns, and if the end is not known.
    ///
    /// Use it in a handler that records the number of the turn in which it last read from its peer,
    /// and computes the silence since then only when its timeout has passed. If the process was
    /// stopped in the middle of that turn, or a callback was slow, the turn's [`now`](Self::now) is
    /// older than the peer's bytes. Then count from the end of the turn.
    ///
    /// The last 64 such turns are remembered. The end of a turn is known in
    /// [`Reactor::run`](crate::Reactor::run) while a timer or a timeout is armed, and with a
    /// [`ManualClock`](crate::ManualClock). If you take the turns yourself with the clock of the
    /// system, a turn counts as ended at the last [`refresh_now`](Self::refresh_now) within it.
    ///
    /// # Cost
    /// No system call.
    pub fn end_of_turn(&self, turn: u64) -> Option<Instant> {
        self.time.pauses.end_of(turn)
    }
}
