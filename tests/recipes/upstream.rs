use std::io;
use std::time::Duration;

use handlers::signal::{self, Signal};
use handlers::{Overflow, Target, Upstream, UpstreamOptions, on_data};
use reactor::Registry;

/// Starts a link to a server that only receives. If too many messages wait, the oldest is lost.
fn link<S>(registry: &mut Registry<S>, to: Target) -> io::Result<Upstream<S>> {
    let options = UpstreamOptions::new().overflow(Overflow::DropOldest);
    let discard = on_data(|data, _connection, _cx| Ok(data.len()));
    let upstream = Upstream::start(registry, [to], &options, discard);
    let stopped = upstream.clone();
    signal::shutdown_on(
        registry,
        [Signal::TERM, Signal::INT],
        move |_arrival, cx| {
            stopped.stop(cx.registry, Duration::from_secs(5)); // sends what waits
        },
    )?;
    Ok(upstream) // to send: upstream.send(cx.registry, "a message\n")
}
