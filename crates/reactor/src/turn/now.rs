//! The time and the number of a turn, as its callbacks see them.

use std::time::Instant;

use crate::registry::Registry;

impl<S> Registry<S> {
    /// Returns the time of this [turn](crate::Reactor::turn), which is the present time as its
    /// callbacks see it.
    ///
    /// The monotonic clock is read once after the wait of a turn, on first use. All callbacks after
    /// the wait therefore see the same time. Hooks of [`before_wait`](Self::before_wait) see a time
    /// from before the wait. Outside of a turn, the clock is read on every call.
    #[doc(alias("event_base_gettimeofday_cached", "ev_now", "uv_now"))]
    #[inline]
    pub fn now(&self) -> Instant {
        self.time.now()
    }

    /// Reads the clock again, and returns the new time. Later callbacks of this turn see the new
    /// time too. Call this method in a callback that has taken long and then arms timers, so that
    /// the timers count from the new time.
    #[doc(alias("event_base_update_cache_time", "ev_now_update", "uv_update_time"))]
    pub fn refresh_now(&mut self) -> Instant {
        let before = self.time.known();
        self.time.forget();
        let now = self.time.now();
        let armings = self.timers.armings();
        self.time.pauses.split(before, now, armings);
        now
    }

    /// Returns the number of this [turn](crate::Reactor::turn), or between turns the number of the
    /// last turn. The first turn has the number 1. Before the first turn, returns 0.
    #[inline]
    pub const fn turn_number(&self) -> u64 {
        self.metrics.turns
    }

    /// Returns the time at which the turn with this [number](Self::turn_number) ended, if the turn
    /// took 50 ms or longer. Returns `None` for a shorter turn, and for a turn whose end is not
    /// known.
    ///
    /// Each call of [`refresh_now`](Self::refresh_now) divides its turn into parts, in which
    /// callbacks see different times. If the turn has parts, this method returns the end of the
    /// last part that took 50 ms or longer, or `None` if each part was shorter.
    ///
    /// Use it in a handler that computes the silence of its peer only when its timeout has passed,
    /// and not at each message. Such a handler records [`now`](Self::now) and the number of the
    /// turn in which it last read from its peer. `now` stays the same during a turn. So if the
    /// process was stopped in the middle of this turn, or a callback was slow, the bytes may have
    /// come long after the recorded time. If this method returns a time, count the silence from the
    /// returned time instead.
    ///
    /// The last 64 turns or parts of 50 ms or longer are remembered.
    /// [`Reactor::run`](crate::Reactor::run) knows the end of a turn while a timer or a timeout is
    /// armed. With a [`ManualClock`](crate::ManualClock) the end is known too. If you call
    /// [`Reactor::turn`](crate::Reactor::turn) yourself, with the clock of the system, a turn
    /// counts as ended at the last [`refresh_now`](Self::refresh_now) within it.
    ///
    /// # Cost
    /// No system call.
    pub fn end_of_turn(&self, turn: u64) -> Option<Instant> {
        self.time.pauses.end_of(turn)
    }
}
