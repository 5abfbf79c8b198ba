//! W3, the chain.

use reactor::{Interest, Next, Reactor};
use workloads::Result;
use workloads::chain::{Chain, Options};

pub(crate) fn run(options: &Options) -> Result {
    let (readers, chain) = Chain::new(options)?;
    let mut reactor = Reactor::<Chain>::new()?;
    for (place, reader) in readers.into_iter().enumerate() {
        let next = chain.after(place);
        reactor.add(reader, Interest::READABLE, move |reader, cx| {
            cx.state.pass_on(reader, next)?;
            if cx.state.is_done() {
                cx.registry.stop();
            }
            Ok(Next::Keep)
        })?;
    }
    chain.measure(options, |chain| reactor.run(chain).map(drop))
}
