//! A connection that sends a message each millisecond, also while answers are missing. A client
//! that waited for its answers would send few messages while they are late.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use workloads::Result;
use workloads::tls::Exchange;

use super::client::PATIENCE;
use super::connection::connect;
use super::security::Security;
use super::session::Session;

/// The time between two messages.
const PERIOD: Duration = Duration::from_millis(1);
const BUFFER: usize = 65536;

pub(super) struct Talker {
    stream: TcpStream,
    session: Session,
    message: usize,
    /// The times at which the messages in flight were sent, the oldest first.
    sent: VecDeque<Instant>,
    /// The bytes of the oldest one that are back.
    back: usize,
    /// The round-trip time of each message, in nanoseconds.
    took: Vec<u64>,
    buffer: Vec<u8>,
}

impl Talker {
    /// Connects, and exchanges a message.
    pub(super) fn open(port: u16, message: usize) -> Result<Self> {
        let security = Security::new(Exchange::Messages)?;
        let mut talker = Self {
            stream: connect(port)?,
            session: Session::new(&security, &vec![b'?'; message])?,
            message,
            sent: VecDeque::new(),
            back: 0,
            took: Vec::new(),
            buffer: vec![0; BUFFER],
        };
        talker.talk_while(|| false)?;
        Ok(talker)
    }

    /// Sends a message at once, and one each millisecond while `goes_on` returns `true`. Waits for
    /// all answers. Returns the round-trip time of each message, in nanoseconds.
    pub(super) fn talk_while(&mut self, goes_on: impl Fn() -> bool) -> Result<Vec<u64>> {
        self.say()?;
        let mut due = Instant::now() + PERIOD;
        while goes_on() {
            self.listen(due.saturating_duration_since(Instant::now()))?;
            if due <= Instant::now() {
                self.say()?;
                due += PERIOD;
            }
        }
        while !self.sent.is_empty() {
            if !self.listen(PATIENCE)? {
                return Err(format!("no answer within {PATIENCE:?}").into());
            }
        }
        Ok(std::mem::take(&mut self.took))
    }

    /// Sends a message. Its time begins now and not when it was due, since the server is not the
    /// reason if this thread is late.
    fn say(&mut self) -> Result {
        self.session.begin()?;
        self.sent.push_back(Instant::now());
        Ok(self.session.send(&mut self.stream)?)
    }

    /// Waits for bytes for at most `time`, and takes them. Returns `false` if none arrive.
    fn listen(&mut self, time: Duration) -> Result<bool> {
        let mut ready = [PollFd::new(&self.stream, PollFlags::IN)];
        let time = Timespec::try_from(time)?;
        if retry_on_intr(|| poll(&mut ready, Some(&time)))? == 0 {
            return Ok(false);
        }
        let count = match self.stream.read(&mut self.buffer) {
            Ok(0) => return Err("the server has closed the connection".into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            read => read?,
        };
        let now = Instant::now();
        self.back += self.session.receive(&self.buffer[..count])?;
        while self.back >= self.message {
            let since = self
                .sent
                .pop_front()
                .ok_or("more came back than was sent")?;
            self.took.push((now - since).as_nanos() as u64);
            self.back -= self.message;
        }
        // The end of the handshake, or bytes that the socket did not accept before.
        self.session.send(&mut self.stream)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use handlers::tls::rustls::{ServerConnection, StreamOwned};

    use super::*;
    use crate::certificate::server_session;

    type Accepted = StreamOwned<ServerConnection, TcpStream>;

    /// Runs a server on a thread of its own, which has answered the first message of 5 bytes.
    fn serve<T: Send + 'static>(
        serve: impl FnOnce(Accepted) -> T + Send + 'static,
    ) -> (Talker, thread::JoinHandle<T>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut stream = StreamOwned::new(server_session(), stream);
            let mut message = [0; 5];
            stream.read_exact(&mut message).unwrap();
            stream.write_all(&message).unwrap();
            serve(stream)
        });
        (Talker::open(port, 5).unwrap(), server)
    }

    #[test]
    fn messages_are_sent_while_answers_are_missing_and_all_are_timed() {
        static HAS_THREE: AtomicBool = AtomicBool::new(false);
        let (mut talker, server) = serve(|mut stream| {
            let mut messages = vec![0; 15];
            stream.read_exact(&mut messages).unwrap();
            HAS_THREE.store(true, Ordering::Relaxed);
            let (mut count, mut rest) = (0, [0; 64]);
            while !messages.is_empty() {
                count += messages.len();
                for part in messages.chunks(7) {
                    stream.write_all(part).unwrap();
                }
                // The end of the talker resets the connection.
                let read = stream.read(&mut rest).unwrap_or(0);
                messages = rest[..read].to_vec();
            }
            count / 5
        });
        let goes_on = || !HAS_THREE.load(Ordering::Relaxed) && !server.is_finished();
        let took = talker.talk_while(goes_on).unwrap();
        drop(talker);
        assert_eq!(took.len(), server.join().unwrap());
    }

    #[test]
    fn a_server_that_closes_ends_the_messages_with_an_error() {
        let (mut talker, server) = serve(drop);
        assert!(talker.talk_while(|| true).is_err());
        server.join().unwrap();
    }
}
