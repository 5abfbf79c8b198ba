//! W6, waits: by manual-reset events, or by `poll` on eventfds that are not read.

use std::io;
use std::time::Duration;

use reactor::{Event, EventFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use workloads::Result;
use workloads::waits::{By, Options, measure};

pub(crate) fn run(options: &Options) -> Result {
    let is_last = |place| place + 1 == options.events;
    match options.by {
        By::Event => {
            let events: Vec<_> = (0..options.events).map(|_| Event::manual_reset()).collect();
            events.last().map(Event::set);
            let events: Vec<_> = events.iter().collect();
            measure(options, || {
                Ok(Event::wait_any(&events, Some(Duration::from_secs(1))))
            })
        }
        By::Poll => {
            let events =
                (0..options.events).map(|place| EventFd::counter(u32::from(is_last(place))));
            let events = events.collect::<io::Result<Vec<_>>>()?;
            let mut polled: Vec<_> = events
                .iter()
                .map(|event| PollFd::new(event, PollFlags::IN))
                .collect();
            let timeout = Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            };
            measure(options, || {
                poll(&mut polled, Some(&timeout))?;
                Ok(polled.iter().position(|event| !event.revents().is_empty()))
            })
        }
    }
}
