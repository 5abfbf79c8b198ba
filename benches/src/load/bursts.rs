//! Bursts of handshakes, and the messages of one connection during them.
//!
//! A burst begins when all its connections are open and the server sleeps. So the handshakes arrive
//! at once. The messages that are measured are those of another thread, which runs before the
//! thread of the handshakes. So a time contains little of the work of this client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use workloads::Result;

use super::client::Client;
use super::measured::percentiles;
use super::talker::Talker;

/// The bursts of a slice.
const BURSTS: u32 = 4;
/// The time in which the server accepts the connections of a burst, and falls asleep.
const REST: Duration = Duration::from_millis(50);
/// The niceness of the thread of the handshakes. By that, the other thread preempts it. It is low,
/// so that other processes of the machine do not stop the handshakes.
const NICENESS: i32 = 5;

pub(super) struct Bursts {
    /// The connections of the handshakes.
    client: Client,
    /// Begins the messages. They go on until the flag is set.
    begin: Sender<Arc<AtomicBool>>,
    /// The round-trip times of these messages, or the error of their connection.
    ended: Receiver<std::result::Result<Vec<u64>, String>>,
}

impl Bursts {
    /// Opens the connection whose messages are measured.
    pub(super) fn open(client: Client, port: u16, message: usize) -> Result<Self> {
        let mut talker = Talker::open(port, message)?;
        let (begin, begun) = channel::<Arc<AtomicBool>>();
        let (end, ended) = channel();
        thread::spawn(move || {
            for is_over in begun {
                let took = talker.talk_while(|| !is_over.load(Ordering::Relaxed));
                // An error means that the process is about to end.
                let _ = end.send(took.map_err(|error| error.to_string()));
            }
        });
        // The niceness is that of this thread. It is raised last, since new threads inherit it.
        rustix::process::nice(NICENESS).map_err(|error| format!("nice: {error}"))?;
        Ok(Self {
            client,
            begin,
            ended,
        })
    }

    /// Returns the figures of some bursts. A message counts if it was sent during a burst.
    pub(super) fn slice(&mut self) -> Result<[(&'static str, f64); 4]> {
        let mut took = Vec::new();
        let mut elapsed = Duration::ZERO;
        for _ in 0..BURSTS {
            elapsed += self.burst(&mut took)?;
        }
        let handshakes = f64::from(BURSTS) * self.client.connections() as f64;
        let [median, late, longest] = percentiles(&mut took, [50, 99, 100])?;
        Ok([
            ("us_99th", late),
            ("us_median", median),
            ("us_longest", longest),
            ("handshakes_per_s", handshakes / elapsed.as_secs_f64()),
        ])
    }

    /// Returns the time of a burst. Appends the round-trip times of the messages to `took`.
    fn burst(&mut self, took: &mut Vec<u64>) -> Result<Duration> {
        self.client.reconnect()?;
        thread::sleep(REST);
        let is_over = Arc::new(AtomicBool::new(false));
        self.begin.send(Arc::clone(&is_over))?;
        let elapsed = self.client.burst();
        is_over.store(true, Ordering::Relaxed);
        took.extend(self.ended.recv()??);
        elapsed
    }
}
