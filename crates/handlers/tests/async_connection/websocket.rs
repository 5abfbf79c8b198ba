//! WebSocket by `async-tungstenite`, unchanged: a crate that knows the traits of `futures-io` and
//! no runtime.

use std::io;
use std::time::Duration;

use async_tungstenite::tungstenite::Message;
use async_tungstenite::{accept_async, client_async};
use futures_lite::StreamExt;
use handlers::futures::{AsyncConnection, block_on};
use handlers::{ConnectionOptions, ListenOptions};
use support::{Result, run_out};

use crate::reactor;

async fn echo(stream: AsyncConnection) -> io::Result<()> {
    let mut socket = accept_async(stream).await.map_err(io::Error::other)?;
    while let Some(message) = socket.next().await {
        let message = message.map_err(io::Error::other)?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await.map_err(io::Error::other)?;
        }
    }
    Ok(())
}

#[test]
fn websocket_messages_come_back_until_the_client_closes() -> Result {
    let mut reactor = reactor()?;
    let listener = ListenOptions::new().bind(&"127.0.0.1:0".parse()?)?;
    let address = listener.local_addr()?;
    let options = ConnectionOptions::new();
    let server = listener.serve_async(&mut reactor, &options, |stream, _, _cx| echo(stream))?;
    let lengths = block_on(&mut reactor, &mut (), async move {
        let stream = AsyncConnection::connect::<()>(address, &ConnectionOptions::new()).await?;
        let (mut socket, _response) = client_async("ws://localhost/", stream).await?;
        let mut lengths = Vec::new();
        for length in [0, 1, 1000, 3_000_000] {
            socket.send(Message::binary(vec![7; length])).await?;
            let answer = socket.next().await.ok_or("an answer")??;
            lengths.push(answer.into_data().len());
        }
        socket.close(None).await?;
        while socket.next().await.is_some() {}
        Result::Ok(lengths)
    })??;
    assert_eq!(lengths, [0, 1, 1000, 3_000_000]);
    server.stop(&mut reactor, Duration::from_secs(1));
    run_out(&mut reactor, &mut ())?;
    Ok(())
}
