//! HTTP/2, with prior knowledge.

use bytes::Bytes;
use handlers::ConnectionOptions;
use handlers::futures::{AsyncConnection, HyperExecutor, HyperTimer, block_on, spawn_local};
use http_body_util::Full;
use hyper::Request;
use hyper::client::conn::http2::Builder;
use reactor::Reactor;
use support::{Result, run_out};

use crate::{GRACE, get, listen, serve_http2, text};

#[test]
fn requests_on_one_connection_are_answered_side_by_side() -> Result {
    let mut reactor: Reactor<()> = Reactor::new()?;
    let (listener, address) = listen()?;
    let options = ConnectionOptions::new();
    let server =
        listener.serve_async(&mut reactor, &options, |stream, _, _cx| serve_http2(stream))?;
    let answers = block_on(&mut reactor, &mut (), async move {
        let stream = AsyncConnection::connect::<()>(address, &ConnectionOptions::new()).await?;
        let (sender, connection) = Builder::new(HyperExecutor)
            .timer(HyperTimer)
            .handshake(stream)
            .await?;
        drop(spawn_local(connection));
        let ask = |path: &'static str| {
            let mut sender = sender.clone();
            spawn_local(async move {
                let response = sender.send_request(get(path)).await?;
                text(response).await
            })
        };
        let late = ask("http://x/slow");
        let others: Vec<_> = (0..50).map(|_| ask("http://x/")).collect();
        let mut answers = Vec::new();
        for other in others {
            answers.push(other.await??);
        }
        assert!(!late.is_finished());
        answers.push(late.await??);
        let body = Full::from(Bytes::from(vec![b'x'; 1_000_000]));
        let upload = Request::post("http://x/").body(body)?;
        answers.push(text(sender.clone().send_request(upload).await?).await?);
        Result::Ok(answers)
    })??;
    assert!(answers[..50].iter().all(|answer| answer == "hello"));
    assert_eq!(answers[50..], ["late", "1000000"]);
    server.stop(&mut reactor, GRACE);
    run_out(&mut reactor, &mut ())?;
    Ok(())
}
