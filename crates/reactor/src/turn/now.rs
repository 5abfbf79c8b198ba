//! What a callback is told of the time and the number of its turn.

use std::time::Instant;

use crate::registry::Registry;

impl<S> Registry<S> {
    /// The time of this turn, read from the monotonic clock when it is first asked for: all callbacks of a turn see the
    /// same, but for hooks before the wait, which see the time before it. Between turns, the time.
    #[doc(alias("event_base_gettimeofday_cached", "ev_now", "uv_now"))]
    #[inline]
    pub fn now(&self) -> Instant {
        self.time.now()
    }

    /// Reads the clock again: for a callback that has taken long and goes on, whose timers are to count from now. The
    /// callbacks after it see the new time.
    #[doc(alias("event_base_update_cache_time", "ev_now_update", "uv_update_time"))]
    pub fn refresh_now(&mut self) -> Instant {
        let before = self.time.known();
        self.time.forget();
        let now = self.time.now();
        let armings = self.timers.armings();
        self.time.pauses.split(before, now, armings);
        now
    }

    /// Returns the number of this turn; between turns that of the last one. The first is 1.
    #[inline]
    pub const fn turn_number(&self) -> u64 {
        self.metrics.turns
    }

    /// Returns when the turn with this [number](Self::turn_number) was over, if it took 50 ms or longer.
    ///
    /// For a handler that notes in which turn its peer was last heard, and compares only when its timeout is told: the turn's
    /// [`now`](Self::now) is older than the peer's bytes where the process was stopped in the middle of the turn, or a callback
    /// was slow. Of such turns 64 are remembered. The end of a turn is known in [`Reactor::run`](crate::Reactor::run); of
    /// other turns only the part before a [`refresh_now`](Self::refresh_now). No system call.
    pub fn end_of_turn(&self, turn: u64) -> Option<Instant> {
        self.time.pauses.end_of(turn)
    }
}
