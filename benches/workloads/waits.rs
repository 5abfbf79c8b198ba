//! W6: a wait for any of several events, the last of which is set; and `poll` for as many eventfds.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use reactor::{Event, EventFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Result;

#[derive(Args)]
pub(crate) struct Options {
    #[arg(value_enum)]
    by: By,
    #[arg(long, default_value_t = 8)]
    n: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum By {
    /// `Event::wait_any` on manual-reset events
    Event,
    /// poll(2) on eventfds, which are not read
    Poll,
}

const WAITS: u32 = 300_000;

pub(crate) fn run(options: &Options) -> Result {
    let n = options.n.max(1);
    let took = match options.by {
        By::Event => {
            let events: Vec<_> = (0..n).map(|place| Event::manual_reset(place == n - 1)).collect();
            let all: Vec<_> = events.iter().collect();
            let began = Instant::now();
            for _ in 0..WAITS {
                assert_eq!(Event::wait_any(&all, Some(Duration::from_secs(1))), Some(n - 1));
            }
            began.elapsed()
        }
        By::Poll => {
            let events: Vec<_> =
                (0..n).map(|place| EventFd::counter(u32::from(place == n - 1))).collect::<std::io::Result<_>>()?;
            let mut polled: Vec<_> = events.iter().map(|event| PollFd::new(event, PollFlags::IN)).collect();
            let timeout = Timespec { tv_sec: 1, tv_nsec: 0 };
            let began = Instant::now();
            for _ in 0..WAITS {
                assert_eq!(poll(&mut polled, Some(&timeout))?, 1);
                assert!(polled.iter().position(|event| !event.revents().is_empty()) == Some(n - 1));
            }
            began.elapsed()
        }
    };
    println!("{{\"ns_per_op\": {:.1}}}", took.as_nanos() as f64 / f64::from(WAITS));
    Ok(())
}
