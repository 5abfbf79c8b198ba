//! W5, echo: a task for each connection.

use std::cell::RefCell;
use std::io::{self, ErrorKind};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use workloads::Result;
use workloads::echo::{Form, Options, READ_MAX, TASK_READ_MAX, listen};

use super::{local_runtime, runtime};

/// The number of bytes that a connection with its own buffer reads at once.
const OWN_READ_MAX: usize = 16 * 1024;

pub(crate) fn run(options: &Options) -> Result {
    match options.form {
        Form::Shared | Form::Usual => by_tasks_that_are_send(options.form),
        Form::Task => LocalSet::new().block_on(&runtime()?, by_local_tasks()),
        Form::TaskLean => local_runtime()?.block_on(by_local_tasks()),
        _ => Err("tokio has only forms with tasks".into()),
    }
}

fn by_tasks_that_are_send(form: Form) -> Result {
    runtime()?.block_on(async {
        let listener = TcpListener::from_std(listen()?)?;
        loop {
            let (stream, _peer) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // A connection that fails just ends.
            if form == Form::Shared {
                tokio::spawn(async move { by_shared_buffer(stream).await.unwrap_or_default() });
            } else {
                tokio::spawn(async move { by_own_buffer(stream).await.unwrap_or_default() });
            }
        }
    })
}

async fn by_local_tasks() -> Result {
    let listener = TcpListener::from_std(listen()?)?;
    loop {
        let (stream, _peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        spawn_local(by_small_buffer(stream));
    }
}

async fn by_small_buffer(mut stream: TcpStream) {
    let mut buffer = [0; TASK_READ_MAX];
    // A connection that fails just ends.
    while let Ok(bytes @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
    }
}

async fn by_own_buffer(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; OWN_READ_MAX];
    loop {
        let bytes = stream.read(&mut buffer).await?;
        if bytes == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..bytes]).await?;
    }
}

async fn by_shared_buffer(mut stream: TcpStream) -> io::Result<()> {
    thread_local!(static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_MAX]));
    loop {
        stream.readable().await?;
        let Some(unsent) = SCRATCH.with_borrow_mut(|scratch| exchange(&stream, scratch))? else {
            return Ok(());
        };
        stream.write_all(&unsent).await?;
    }
}

/// Reads once and writes once. Returns the bytes that the socket did not accept, or `None` at the
/// end of the stream.
fn exchange(stream: &TcpStream, scratch: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
    let bytes = match stream.try_read(scratch) {
        Ok(0) => return Ok(None),
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Some(Vec::new())),
        Err(error) => return Err(error),
    };
    let sent = match stream.try_write(&scratch[..bytes]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        other => other?,
    };
    Ok(Some(scratch[sent..bytes].to_vec()))
}
