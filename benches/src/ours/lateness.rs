//! W4, lateness.

use reactor::{Reactor, Then};
use workloads::Result;
use workloads::lateness::{Lateness, Options};

pub(crate) fn run(options: &Options) -> Result {
    let mut reactor = Reactor::<Lateness>::builder().high_resolution().build()?;
    let mut lateness = Lateness::new(options);
    reactor.at(lateness.arm(), |cx| {
        Ok(cx.state.ran().map_or(Then::Done, Then::At))
    });
    reactor.run(&mut lateness)?;
    lateness.report();
    Ok(())
}
