//! A storm of signals while a connection is served, as a case of a process of its own.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use handlers::signal::{self, Signal};
use handlers::{Connection, ConnectionHandler, ConnectionOptions};
use reactor::{Context, Next, Reactor};
use rustix::process::kill_process;
use signal_hook::low_level::raise;

use crate::{PATIENCE, Result, real_time};

/// The signals of a storm, 2500 of each kind. The kernel queues each of the real-time ones.
const KINDS: [fn() -> Signal; 4] = [
    || Signal::USR1,
    || Signal::USR2,
    || real_time(0),
    || real_time(1),
];

/// Signals of the storm between two echoes of the client.
const GUST: u64 = 100;

/// The number of sent signals of each kind. Each is counted before it is sent.
type SentOfKind = [AtomicU64; KINDS.len()];

/// Sends 10 000 signals, and waits for an echo now and then, so that the connection is served
/// throughout.
fn send_storm(sent: &SentOfKind, echoed: &Receiver<()>) -> io::Result<()> {
    for number in 0..10_000_u64 {
        let kind = (number % 4) as usize;
        sent[kind].fetch_add(1, Ordering::SeqCst);
        match rustix::process::Signal::from_named_raw(KINDS[kind]().as_raw()) {
            Some(named) => kill_process(rustix::process::getpid(), named)?,
            // To this thread: safe code cannot send it elsewhere.
            None => raise(KINDS[kind]().as_raw())?,
        }
        if number % GUST == 0 {
            echoed.recv().map_err(io::Error::other)?;
        }
    }
    Ok(())
}

/// Sends and receives during the storm. Returns the number of correct echoes.
fn talk(mut stream: UnixStream, echoed: &SyncSender<()>) -> io::Result<u64> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut echoes = 0_u64;
    loop {
        let said: Vec<u8> = (0..1000)
            .flat_map(|word: u64| (echoes * 1000 + word).to_ne_bytes())
            .collect();
        let mut heard = vec![0; said.len()];
        stream.write_all(&said)?;
        stream.read_exact(&mut heard)?;
        assert!(heard == said, "echo {echoes}");
        echoes += 1;
        if echoed.send(()).is_err() {
            stream.shutdown(std::net::Shutdown::Write)?;
            assert_eq!(stream.read(&mut heard)?, 0, "nothing more than was said");
            return Ok(echoes);
        }
    }
}

struct Echo;

impl<S> ConnectionHandler<S> for Echo {
    fn on_data(
        &mut self,
        data: &[u8],
        to: &mut Connection<'_, S>,
        _: &mut Context<'_, S>,
    ) -> io::Result<usize> {
        let _ = to.write(data)?; // the client reads before it sends more
        Ok(data.len())
    }
}

/// Runs in a process of its own, where no other code waits for these signals.
pub(crate) fn storm() -> Result {
    // The number sent of each kind at its last report.
    let mut reactor = Reactor::<Vec<u64>>::new()?;
    let sent = Arc::new(SentOfKind::default());
    let counted = Arc::clone(&sent);
    signal::watch(
        &mut reactor,
        KINDS.map(|kind| kind()),
        move |arrival, cx| {
            let kind = KINDS
                .iter()
                .position(|kind| kind() == arrival.signal)
                .ok_or(ErrorKind::InvalidData)?;
            cx.state[kind] = counted[kind].load(Ordering::SeqCst);
            Ok(Next::Keep)
        },
    )?;
    let (server, client) = UnixStream::pair()?;
    Connection::open(&mut reactor, server, &ConnectionOptions::new(), Echo)?;
    let (echoed, echoes) = mpsc::sync_channel(0);
    let talker = thread::spawn(move || talk(client, &echoed));
    let sender = thread::spawn(move || send_storm(&sent, &echoes));
    let mut told = vec![0; KINDS.len()];
    let began = Instant::now();
    while told != [2500; KINDS.len()] || reactor.len() > 1 {
        assert!(
            began.elapsed() < PATIENCE,
            "told of {told:?}, {} registrations",
            reactor.len()
        );
        reactor.turn(&mut told, Some(Duration::from_millis(100)))?;
    }
    reactor.run(&mut told)?; // returns: the connection is closed, and the watch keeps nothing alive
    sender.join().map_err(|_| "the sender panicked")??;
    let right = talker.join().map_err(|_| "the client panicked")??;
    assert!(right >= 10_000 / GUST, "{right} echoes");
    println!("\nalive");
    Ok(())
}
