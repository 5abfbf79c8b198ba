//! W3, registration.

use reactor::{EventFd, Interest, Next, Reactor};
use workloads::Result;
use workloads::registration::{Options, measure};

pub(crate) fn run(options: &Options) -> Result {
    let mut reactor = Reactor::<u64>::new()?;
    measure(options, |sources| {
        let step = 1;
        for source in sources {
            // The type says what the source is. Other types are probed at their first `WouldBlock`.
            reactor.add(EventFd::from(source), Interest::READABLE, move |_, cx| {
                *cx.state += step;
                Ok(Next::Keep)
            })?;
        }
        Ok(reactor)
    })
}
