//! W3, the chain: a task for each pipe.

use std::cell::RefCell;
use std::mem::swap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Notify;
use workloads::Result;
use workloads::chain::{Chain, Options};

use super::runtime;

thread_local!(static CHAIN: RefCell<Chain> = RefCell::default());

pub(crate) fn run(options: &Options) -> Result {
    let (readers, chain) = Chain::new(options)?;
    let runtime = runtime()?;
    let done = Arc::new(Notify::new());
    let entered = runtime.enter();
    for (place, reader) in readers.into_iter().enumerate() {
        let reader = Receiver::from_owned_fd_unchecked(OwnedFd::from(reader))?;
        tokio::spawn(serve(reader, chain.after(place), done.clone()));
    }
    drop(entered);
    chain.measure(options, |chain| -> Result {
        CHAIN.with_borrow_mut(|shared| swap(chain, shared));
        runtime.block_on(done.notified());
        CHAIN.with_borrow_mut(|shared| swap(chain, shared));
        Ok(())
    })
}

async fn serve(mut reader: Receiver, next: usize, done: Arc<Notify>) {
    let mut scratch = [0; 128];
    // A short read ends the readiness, so each byte costs one call.
    while let Ok(bytes) = reader.read(&mut scratch).await {
        let is_done = CHAIN.with_borrow_mut(|chain| {
            chain
                .pass_on(&mut &scratch[..bytes], next)
                .expect("pipes take a byte");
            chain.is_done()
        });
        if is_done {
            done.notify_one();
        }
    }
}
