use std::io;
use std::time::Duration;

use handlers::{ConnectionOptions, Lines, Listener, ServerKey, on_frames};
use reactor::{Registry, RequestContext, Then};

/// Answers each line after a while. The state counts the requests.
fn serve(registry: &mut Registry<u64>, listener: Listener) -> io::Result<ServerKey<u64>> {
    listener.serve(registry, &ConnectionOptions::new(), |_peer, _cx| {
        Ok(on_frames::<u64, _, _>(Lines::new(80), |line, client, cx| {
            *cx.state += 1;
            let span = tracing::info_span!(parent: None, "request", id = *cx.state);
            cx.set_context(RequestContext::NONE.with_span(span));
            tracing::info!(bytes = line.len(), "received");
            client.begin_response();
            let client = client.key();
            cx.registry.after(Duration::from_millis(20), move |cx| {
                client.with(cx, |client, _cx| {
                    client.end_response();
                    client.write(b"done\n").map(drop)
                })??;
                tracing::info!("answered");
                Ok(Then::Done)
            });
            Ok(())
        }))
    })
}
