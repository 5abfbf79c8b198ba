//! Two timerfds that a loop may have. Neither is ever read: they are edge-triggered, so each expiry
//! is an event of its own.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::error::Error;

fn create(clock: TimerfdClockId) -> Result<OwnedFd, Error> {
    timerfd_create(clock, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)
        .map_err(failed("timerfd_create"))
}

fn set(timer: &OwnedFd, flags: TimerfdTimerFlags, value: Timespec) -> Result<(), Error> {
    let once = Itimerspec {
        it_interval: timespec(Duration::ZERO),
        it_value: value,
    };
    timerfd_settime(timer, flags, &once)
        .map(drop)
        .map_err(failed("timerfd_settime"))
}

fn failed(call: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::Loop {
        call,
        source: errno.into(),
    }
}

pub(super) fn timespec(time: Duration) -> Timespec {
    // A time that does not fit is longer than the age of the universe.
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timespec {
        tv_sec: seconds,
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

/// Ends waits to the nanosecond (docs/decisions/0005).
#[derive(Debug)]
pub(super) struct Alarm {
    pub(super) timer: OwnedFd,
    set_for: Option<Instant>,
}

impl Alarm {
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self {
            timer: create(TimerfdClockId::Monotonic)?,
            set_for: None,
        })
    }

    /// Sets the alarm for `deadline`, which is `left` away.
    pub(super) fn set(&mut self, deadline: Instant, left: Duration) -> Result<(), Error> {
        if self.set_for == Some(deadline) {
            return Ok(());
        }
        set(&self.timer, TimerfdTimerFlags::empty(), timespec(left))?;
        self.set_for = Some(deadline);
        Ok(())
    }
}

impl AsRawFd for Alarm {
    fn as_raw_fd(&self) -> RawFd {
        self.timer.as_raw_fd()
    }
}

/// Reports that the wall clock has been set. The timer is armed for the end of time with
/// `TFD_TIMER_CANCEL_ON_SET`, and never expires.
///
/// Source: timerfd_create(2); systemd notices a changed clock in the same way.
#[derive(Debug)]
pub(super) struct WallWatch(OwnedFd);

impl WallWatch {
    pub(super) fn new() -> Result<Self, Error> {
        let timer = create(TimerfdClockId::Realtime)?;
        let never = Timespec {
            tv_sec: i64::MAX,
            tv_nsec: 0,
        };
        set(
            &timer,
            TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET,
            never,
        )?;
        Ok(Self(timer))
    }
}

impl AsRawFd for WallWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
