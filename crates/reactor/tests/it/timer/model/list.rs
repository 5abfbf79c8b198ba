//! The list: the expected behaviour of timers, in the plainest code.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use reactor::{Missed, Registry, TimerKey};

use super::{Id, LONG, Listed, NEVER, Nanos, Outcome, Slack, World, duration};

impl Slack {
    /// Returns the roundest time between the deadline and the latest permitted time.
    pub(super) fn agree(self) -> Nanos {
        match self.deadline.checked_add(self.most) {
            Some(latest) if latest < NEVER && self.most > 0 => {
                let mut rounded = (0..64).rev().map(|zeros| latest >> zeros << zeros);
                rounded.find(|time| *time >= self.deadline).unwrap()
            }
            _ => self.deadline,
        }
    }
}

impl World {
    pub(super) fn now(&self) -> Nanos {
        self.turn.unwrap_or_else(|| self.live())
    }

    pub(super) fn live(&self) -> Nanos {
        (self.clock.now() - self.began.0).as_nanos() as Nanos
    }

    pub(super) fn wall(&self) -> i64 {
        match self.clock.wall().duration_since(self.began.1) {
            Ok(ahead) => ahead.as_nanos() as i64,
            Err(behind) => -(behind.duration().as_nanos() as i64),
        }
    }

    pub(super) fn wall_time(&self, wall: i64) -> SystemTime {
        let ahead = Duration::from_nanos(wall.unsigned_abs());
        if wall < 0 {
            self.began.1 - ahead
        } else {
            self.began.1 + ahead
        }
    }

    pub(super) fn find(&self, id: Id) -> Option<usize> {
        self.listed.iter().position(|listed| listed.id == id)
    }

    /// Returns one of the timers that were issued last. It may have ended.
    pub(super) fn choose(&self, which: usize) -> Option<TimerKey> {
        self.issued
            .iter()
            .rev()
            .take(12)
            .nth(which % self.issued.len().clamp(1, 12))
            .copied()
    }

    pub(super) fn list(&mut self, id: Id, bomb: Rc<Cell<bool>>) -> usize {
        let (rank, slack, wall, origin) = ((0, 0), None, None, None);
        let (deadline, tick, waits_for_next, is_background) = (NEVER, 0, false, false);
        self.listed.push(Listed {
            id,
            deadline,
            rank,
            waits_for_next,
            is_held: false,
            slack,
            wall,
            is_background,
            bomb,
            tick,
            origin,
        });
        self.listed.len() - 1
    }

    pub(super) fn unlist(&mut self, id: Id) -> Option<Listed> {
        self.find(id).map(|at| self.listed.swap_remove(at))
    }

    pub(super) fn put(&mut self, at: usize, deadline: Nanos) {
        let now = self.now();
        self.armings += 1;
        let listed = &mut self.listed[at];
        listed.deadline = deadline;
        listed.rank = (deadline.max(now), self.armings);
        listed.waits_for_next = deadline <= now;
        listed.is_held = false;
    }

    /// Arms on the monotonic clock.
    pub(super) fn arm(&mut self, at: usize, deadline: Nanos) {
        let listed = &mut self.listed[at];
        listed.wall = None;
        let deadline = listed.slack.as_mut().map_or(deadline, |slack| {
            slack.deadline = deadline;
            slack.agree()
        });
        self.put(at, deadline);
    }

    pub(super) fn arm_after(&mut self, id: Id, delay: Nanos) {
        if let Some(at) = self.find(id) {
            self.arm(at, self.now().saturating_add(delay));
        }
    }

    pub(super) fn arm_tick(&mut self, id: Id, period: Nanos, missed: Missed) {
        let (now, Some(at)) = (self.now(), self.find(id)) else {
            return;
        };
        let last = self.listed[at].tick;
        let tick = match missed {
            Missed::Delay if last != NEVER => now.saturating_add(period),
            Missed::Skip if period > 0 && last <= now => {
                last + ((now - last) / period + 1) * period
            }
            _ => last.saturating_add(period),
        };
        self.listed[at].tick = tick;
        self.arm(at, tick);
    }

    pub(super) fn arm_at_wall(&mut self, id: Id, wall: i64) {
        if self.listed.iter().all(|listed| listed.wall.is_none()) {
            (self.is_wall_set, self.wall_ahead) = (false, None);
        }
        let ahead = self.wall() - self.live() as i64;
        let deadline = (wall - *self.wall_ahead.get_or_insert(ahead)).max(0) as Nanos;
        if let Some(at) = self.find(id) {
            self.arm(at, deadline);
            self.asked += 1;
            self.listed[at].wall = Some((wall, self.asked));
        }
    }

    /// Returns the timer or timeout that runs next in this turn.
    pub(super) fn next_due(&mut self) -> Option<Id> {
        loop {
            let (limit, asked, now) = (self.limit, self.kernel_asked, self.now());
            let armings_asked = self.armings_asked;
            let is_asked =
                |listed: &Listed| listed.rank.0 <= asked && listed.rank.1 <= armings_asked;
            let is_due = |listed: &Listed| {
                listed.deadline != NEVER && !listed.waits_for_next && listed.rank.0 <= limit
            };
            let is_next =
                |listed: &&mut Listed| is_due(listed) && (!listed.is_held || is_asked(listed));
            let due = self
                .listed
                .iter_mut()
                .filter(is_next)
                .min_by_key(|listed| (!listed.is_held, listed.rank))?;
            let (id, (deadline, arming)) = (due.id, due.rank);
            if let Id::TimeoutOf(_) = id
                && !due.is_held
            {
                let lag = self
                    .pauses
                    .iter()
                    .find(|(_, armings)| armings.contains(&arming))
                    .map_or(0, |(lag, _)| *lag);
                if lag > 0 && deadline + lag > now {
                    let at = self.find(id)?;
                    self.put(at, deadline + lag);
                    continue;
                }
                if !is_asked(due) {
                    due.is_held = true;
                    continue;
                }
            }
            (due.deadline, due.is_held) = (NEVER, false);
            match due.wall.take() {
                Some((wall, _)) if self.wall() < wall => {
                    self.wall_ahead = None;
                    self.arm_at_wall(id, wall);
                }
                _ => return Some(id),
            }
        }
    }

    /// Ends the turn, or the part of it before the clock was read again.
    pub(super) fn end_part(&mut self) {
        let Some(began) = self.turn else { return };
        let took = self.live() - began;
        if took >= LONG {
            self.pauses
                .push((took, self.armings_before + 1..=self.armings));
        }
        self.armings_before = self.armings;
    }

    pub(super) fn begin_turn(&mut self, now: Nanos) {
        (self.turn, self.kernel_asked) = (Some(now), now);
        self.armings_asked = self.armings;
        self.counts.turns += 1;
        if std::mem::take(&mut self.is_wall_set) {
            self.wall_ahead = None;
            let mut by_wall: Vec<_> = self
                .listed
                .iter()
                .filter_map(|listed| Some((listed.wall?, listed.id)))
                .collect();
            by_wall.sort_by_key(|((_, asked), _)| *asked);
            by_wall
                .into_iter()
                .for_each(|((wall, _), id)| self.arm_at_wall(id, wall));
        }
        if let Some(from) = self.advanced_from {
            let waiting = self
                .listed
                .iter()
                .filter(|listed| listed.deadline != NEVER)
                .map(|listed| listed.rank.0);
            assert!(
                waiting
                    .min()
                    .is_none_or(|first| first <= from || first >= now),
                "a deadline was passed over"
            );
        }
        self.armings_before = self.armings;
    }

    /// Compares everything that the registry reports.
    pub(super) fn compare(&self, registry: &Registry<Self>) {
        let timers: Vec<_> = registry.timers().collect();
        let listed = self
            .listed
            .iter()
            .filter(|listed| matches!(listed.id, Id::Timer(_)));
        assert_eq!(timers.len(), listed.count());
        for timer in timers {
            let listed = &self.listed[self.find(Id::Timer(timer.key)).unwrap()];
            let left = (listed.deadline != NEVER)
                .then(|| duration(listed.deadline.saturating_sub(self.now())));
            assert_eq!(
                (timer.remaining, timer.keeps_alive, Some(timer.origin)),
                (left, !listed.is_background, listed.origin)
            );
            assert_eq!(registry.remaining(timer.key).unwrap(), left);
        }
    }

    /// Ends a timer or a timeout as its callback says.
    pub(super) fn end(&mut self, id: Id, outcome: Outcome) {
        self.unlist(id);
        self.counts.failures += u64::from(matches!(outcome, Outcome::Fail(_)));
        self.counts.panics += u64::from(matches!(outcome, Outcome::Panic));
    }
}
