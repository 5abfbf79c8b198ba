//! W5, echo: on the reactor alone, or by the connections of `handlers`.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use handlers::futures::{Async, block_on, spawn_local};
use handlers::{ConnectionOptions, ListenOptions, on_data};
use reactor::{Context, Interest, Io, Next, Reactor};
use workloads::Result;
use workloads::echo::{Await, Echo, Form, Options, READ_MAX, TASK_READ_MAX, listen};

use super::pingpong::builder;

/// The read buffer of all connections.
type Scratch = Vec<u8>;

pub(crate) fn run(options: &Options) -> Result {
    match options.form {
        Form::Bare => bare(options.spin),
        Form::Buffered => buffered(options.spin, ConnectionOptions::new()),
        Form::Timed => buffered(
            options.spin,
            ConnectionOptions::new().idle_timeout(Duration::from_secs(60)),
        ),
        Form::Task => by_tasks(),
        Form::Shared | Form::Usual | Form::TaskLean => {
            Err("handlers has only the form task with tasks".into())
        }
    }
}

fn bare(spin: u64) -> Result {
    let mut reactor: Reactor<Scratch> = builder(spin).build()?;
    reactor.add(listen()?, Interest::READABLE, accept)?;
    reactor.run(&mut vec![0; READ_MAX])?;
    Ok(())
}

fn accept(listener: &mut Io<TcpListener>, cx: &mut Context<'_, Scratch>) -> io::Result<Next> {
    loop {
        let (stream, _peer) = listener.try_io(Interest::READABLE, |listener| listener.accept())?;
        stream.set_nodelay(true)?;
        let (mut echo, mut interest) = (Echo::default(), Interest::READABLE);
        cx.registry
            .add(stream, interest, move |stream: &mut Io<TcpStream>, cx| {
                let wanted = match echo.exchange(stream, cx.state)?.0 {
                    Await::Readable => Interest::READABLE,
                    Await::Writable => Interest::WRITABLE,
                    Await::Nothing => return Ok(Next::Remove),
                };
                if wanted != interest {
                    interest = wanted;
                    cx.registry.set_interest(cx.key(), interest)?;
                }
                Ok(Next::Keep)
            })?;
    }
}

fn buffered(spin: u64, options: ConnectionOptions) -> Result {
    let mut reactor: Reactor<()> = builder(spin).build()?;
    let listener = ListenOptions::new().adopt(listen()?)?;
    listener.serve(&mut reactor, &options, |_peer, _cx| {
        Ok(on_data(|data, connection, _cx| {
            // While the queue is full, the connection does not read.
            let _ = connection.write(data)?;
            Ok(data.len())
        }))
    })?;
    reactor.run(&mut ())?;
    Ok(())
}

fn by_tasks() -> Result {
    let accept = async {
        let listener = Async::new(listen()?)?;
        loop {
            let (stream, _peer) = listener.accept().await?;
            stream.get_ref().set_nodelay(true)?;
            drop(spawn_local(by_small_buffer(stream)));
        }
    };
    block_on(&mut Reactor::new()?, &mut (), accept)?
}

async fn by_small_buffer(mut stream: Async<TcpStream>) {
    let mut buffer = [0; TASK_READ_MAX];
    // A connection that fails just ends.
    while let Ok(bytes @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
    }
}
