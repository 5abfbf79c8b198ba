//! Echo over TLS: a task of tokio for each session of tokio-rustls.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::{Ticketer, default_provider};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;
use workloads::echo::{READ_MAX, listen};
use workloads::tls::{Form, Options};
use workloads::{Result, Workload};

use crate::tokio::runtime;

/// The number of bytes that a session with its own buffer reads at once.
const OWN_READ_MAX: usize = 16 * 1024;

pub(crate) fn run(workload: &Workload) -> Result {
    match workload {
        Workload::Tls(options) => serve(options),
        _ => crate::absent(),
    }
}

fn serve(options: &Options) -> Result {
    let (form, acceptor) = (
        options.form,
        TlsAcceptor::from(Arc::new(config(&options.certificate)?)),
    );
    runtime()?.block_on(async {
        let listener = TcpListener::from_std(listen()?)?;
        loop {
            let (stream, _peer) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let handshake = acceptor.accept(stream);
            // A connection that fails just ends.
            if form == Form::Shared {
                tokio::spawn(async { by_shared_buffer(handshake.await?).await });
            } else {
                tokio::spawn(async { by_own_buffer(handshake.await?).await });
            }
        }
    })
}

/// Returns the configuration that is common, with tickets as the other servers have them.
fn config(certificate: &Path) -> Result<ServerConfig> {
    let key = PrivateKeyDer::from_pem_file(certificate)?;
    let certificate = CertificateDer::from_pem_file(certificate)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.ticketer = Ticketer::new()?;
    Ok(config)
}

async fn by_own_buffer(mut stream: TlsStream<TcpStream>) -> io::Result<()> {
    let mut buffer = vec![0; OWN_READ_MAX];
    loop {
        let bytes = stream.read(&mut buffer).await?;
        if bytes == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..bytes]).await?;
        stream.flush().await?;
    }
}

async fn by_shared_buffer(mut stream: TlsStream<TcpStream>) -> io::Result<()> {
    thread_local!(static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_MAX]));
    let mut stream = Pin::new(&mut stream);
    loop {
        let exchanged = poll_fn(|cx| {
            SCRATCH.with_borrow_mut(|scratch| poll_exchange(stream.as_mut(), cx, scratch))
        });
        let Some(unsent) = exchanged.await? else {
            return Ok(());
        };
        stream.write_all(&unsent).await?;
        stream.flush().await?;
    }
}

/// Reads once and writes once. Returns the bytes that the session did not accept, or `None` at the
/// end of the stream.
fn poll_exchange(
    mut stream: Pin<&mut TlsStream<TcpStream>>,
    cx: &mut Context<'_>,
    scratch: &mut [u8],
) -> Poll<io::Result<Option<Vec<u8>>>> {
    let mut read = ReadBuf::new(scratch);
    ready!(stream.as_mut().poll_read(cx, &mut read))?;
    let bytes = read.filled();
    if bytes.is_empty() {
        return Poll::Ready(Ok(None));
    }
    let sent = match stream.poll_write(cx, bytes) {
        Poll::Ready(sent) => sent?,
        Poll::Pending => 0,
    };
    Poll::Ready(Ok(Some(bytes[sent..].to_vec())))
}
