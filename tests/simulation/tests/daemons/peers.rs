//! The clients of a daemon: what each of them does with its connection, and what it is promised.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use simulation::Peer;

use crate::laws::Book;

/// The time after which a client that waits for an answer counts it as lost.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);

/// The requests of a client, and the answers of a server.
#[derive(Clone, Default)]
pub(crate) struct Script {
    pub(crate) request: Vec<u8>,
    pub(crate) answer: Vec<u8>,
    /// The lengths of `request` and `answer` after each message.
    pub(crate) ends: Vec<(usize, usize)>,
    /// The answers need not begin where a message ends: each byte is a message.
    pub(crate) is_stream: bool,
}

impl Script {
    pub(crate) fn push(&mut self, request: &[u8], answer: &[u8]) {
        self.request.extend(request);
        self.answer.extend(answer);
        self.ends.push((self.request.len(), self.answer.len()));
    }

    /// Returns a stream of bytes that come back as they are.
    pub(crate) fn echo(bytes: usize) -> Self {
        let bytes: Vec<u8> = (0..bytes).map(|_| simulation::random(256) as u8).collect();
        Self {
            request: bytes.clone(),
            answer: bytes,
            ends: Vec::new(),
            is_stream: true,
        }
    }

    /// Returns how much is answered of the first `sent` bytes.
    fn answered(&self, sent: usize) -> usize {
        if self.is_stream {
            return sent;
        }
        let ends = self.ends.iter().take_while(|(end, _)| *end <= sent);
        ends.last().map_or(0, |(_, answer)| *answer)
    }

    fn ends_at(&self, answered: usize) -> bool {
        self.is_stream || answered == 0 || self.ends.iter().any(|(_, end)| *end == answered)
    }
}

/// The behaviour of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Sends everything at once, reads meanwhile, and closes after the last answer.
    Pipelines,
    /// The same, but ends its stream after the last byte, and reads to the end.
    HalfCloses,
    /// Reads a few bytes at a time.
    ReadsSlowly,
    /// Sends its first bytes one by one, a second apart.
    Drips,
    /// Sends a part, and closes without reading all.
    ClosesEarly,
    /// Sends a part, and resets.
    Resets,
    /// Sends as much as it can, reads nothing, and closes after a while.
    ReadsNothing,
    /// Connects, and closes after a while.
    SaysNothing,
}

impl Habit {
    pub(crate) fn draw() -> Self {
        const ALL: [Habit; 8] = [
            Habit::Pipelines,
            Habit::HalfCloses,
            Habit::ReadsSlowly,
            Habit::Drips,
            Habit::ClosesEarly,
            Habit::Resets,
            Habit::ReadsNothing,
            Habit::SaysNothing,
        ];
        ALL[simulation::random(ALL.len() as u64) as usize]
    }

    /// Returns whether a client of this kind waits for its whole answer.
    const fn wants_all(self) -> bool {
        matches!(
            self,
            Self::Pipelines | Self::HalfCloses | Self::ReadsSlowly | Self::Drips
        )
    }
}

/// The result of a client.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) habit: Habit,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) received: Vec<u8>,
    /// When how many bytes had been sent, for each write.
    pub(crate) sent: Vec<(Instant, usize)>,
    pub(crate) end: End,
}

#[derive(Debug)]
pub(crate) enum End {
    /// It closed the connection itself.
    Left,
    /// The server's stream came to its end.
    Clean,
    Failed(ErrorKind),
}

/// One client at work.
struct Client<'a> {
    peer: Peer,
    script: &'a Script,
    book: &'a Book,
    local: SocketAddr,
    told: Told,
}

/// Plays a client, and returns what it got.
pub(crate) fn talk(address: SocketAddr, habit: Habit, script: &Script, book: &Book) -> Told {
    let mut told = Told {
        habit,
        local: None,
        received: Vec::new(),
        sent: Vec::new(),
        end: End::Left,
    };
    let peer = match Peer::connect(address) {
        Ok(peer) => peer,
        Err(error) => {
            told.end = End::Failed(error.kind());
            return told;
        }
    };
    let local = peer.local_addr().expect("it is open");
    told.local = Some(local);
    let mut client = Client {
        peer,
        script,
        book,
        local,
        told,
    };
    match client.play() {
        Ok(end) => client.told.end = end,
        Err(error) => client.told.end = End::Failed(error.kind()),
    }
    if habit == Habit::Resets {
        client.peer.reset();
    } else {
        book.shuts_down(local); // by closing
    }
    client.told
}

fn millis(end: u64) -> Duration {
    Duration::from_millis(simulation::random(end))
}

impl Client<'_> {
    fn play(&mut self) -> io::Result<End> {
        let whole = self.script.request.len();
        let part = simulation::random(whole as u64 + 1) as usize;
        match self.told.habit {
            Habit::Pipelines => self.exchange(whole, usize::MAX, Duration::ZERO),
            Habit::HalfCloses => {
                match self.exchange_until_sent(whole)? {
                    End::Left => self.shut_down()?,
                    end => return Ok(end),
                }
                self.read_to_end()
            }
            Habit::ReadsSlowly => self.exchange(whole, 1 + part % 500, millis(300)),
            Habit::Drips => {
                for byte in 0..whole.min(15) {
                    self.write(&self.script.request[byte..=byte])?;
                    simulation::sleep(Duration::from_secs(1));
                }
                self.exchange(whole, usize::MAX, Duration::ZERO)
            }
            Habit::ClosesEarly => {
                let end = self.exchange_until_sent(part)?;
                simulation::sleep(millis(2000));
                Ok(end)
            }
            Habit::Resets => {
                let end = self.exchange_until_sent(part)?;
                simulation::sleep(millis(100));
                Ok(end)
            }
            Habit::ReadsNothing => {
                self.peer.set_timeout(Some(millis(2000)));
                while self.sent() < whole {
                    match self.write(&self.script.request[self.sent()..]) {
                        Ok(()) => {}
                        Err(error) if error.kind() == ErrorKind::TimedOut => break,
                        Err(error) => return Err(error),
                    }
                }
                simulation::sleep(millis(60_000));
                Ok(End::Left)
            }
            Habit::SaysNothing => {
                simulation::sleep(millis(60_000));
                Ok(End::Left)
            }
        }
    }

    fn sent(&self) -> usize {
        self.told.sent.last().map_or(0, |(_, sent)| *sent)
    }

    /// Writes a piece of the request, as much of it as there is room for.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let at = simulation::now();
        let known = self.sent();
        let written = self.peer.write(bytes)?;
        self.book.sends(self.local, &bytes[..written]);
        self.told.sent.push((at, known + written));
        Ok(())
    }

    fn shut_down(&mut self) -> io::Result<()> {
        self.book.shuts_down(self.local);
        self.peer.shutdown_write()
    }

    /// Reads what is there, at most `max` bytes. Returns `None` if nothing is, and 0 at the end.
    fn read(&mut self, max: usize) -> io::Result<Option<usize>> {
        let mut buf = vec![0; max.min(65_536)];
        match self.peer.read(&mut buf) {
            Ok(count) => {
                self.told.received.extend(&buf[..count]);
                Ok(Some(count))
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn exchange_until_sent(&mut self, until: usize) -> io::Result<End> {
        self.peer.set_timeout(Some(Duration::ZERO));
        let mut pause = Duration::from_micros(1);
        while self.sent() < until {
            let read = self.read(usize::MAX)?;
            if read == Some(0) {
                return Ok(End::Clean);
            }
            let from = self.sent();
            let piece = 1 + simulation::random(20_000) as usize;
            let wrote = self.write(&self.script.request[from..until.min(from + piece)]);
            match wrote {
                Err(error) if error.kind() == ErrorKind::TimedOut => {}
                other => other?,
            }
            if read.is_none() && self.sent() == from {
                simulation::sleep(pause);
                pause = (pause * 2).min(Duration::from_secs(1));
            } else {
                pause = Duration::from_micros(1);
            }
        }
        Ok(End::Left)
    }

    /// Sends the first `until` bytes, and reads meanwhile until the whole answer is there.
    fn exchange(&mut self, until: usize, at_once: usize, pause: Duration) -> io::Result<End> {
        match self.exchange_until_sent(until)? {
            End::Left => {}
            end => return Ok(end),
        }
        self.peer.set_timeout(Some(PATIENCE));
        while self.told.received.len() < self.script.answer.len() {
            match self.read(at_once)? {
                Some(0) => return Ok(End::Clean),
                Some(_) => simulation::sleep(pause),
                None => return Err(ErrorKind::TimedOut.into()),
            }
        }
        Ok(End::Left)
    }

    fn read_to_end(&mut self) -> io::Result<End> {
        self.peer.set_timeout(Some(PATIENCE));
        loop {
            match self.read(usize::MAX)? {
                Some(0) => return Ok(End::Clean),
                Some(_) => {}
                None => return Err(ErrorKind::TimedOut.into()),
            }
        }
    }
}

/// The answers that a client may expect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    /// Nothing has ended its connection but itself.
    pub(crate) is_unharmed: bool,
    /// The server was killed: the kernel has ended its streams.
    pub(crate) was_killed: bool,
    /// Requests that have arrived by this time are answered.
    pub(crate) answered_until: Option<Instant>,
}

impl Told {
    /// Checks the laws 1 to 3 of what a client got.
    pub(crate) fn check(&self, script: &Script, promise: Promise, book: &Book) {
        let Self {
            habit,
            received,
            end,
            ..
        } = self;
        let who = || format!("{habit:?} {:?}", self.local);
        let (got, whole) = (received.len(), script.answer.len());
        book.expect(script.answer.starts_with(received), || {
            format!("{}: {got} bytes, which are not its answer", who())
        });
        if matches!(end, End::Clean) && !promise.was_killed {
            let is_end = script.ends_at(got);
            book.expect(is_end, || {
                format!("{}: a clean end after {got} bytes of {whole}", who())
            });
        }
        if let End::Failed(error) = end {
            let is_of_a_network = matches!(
                error,
                ErrorKind::BrokenPipe
                    | ErrorKind::ConnectionRefused
                    | ErrorKind::ConnectionReset
                    | ErrorKind::TimedOut
            );
            book.expect(is_of_a_network, || format!("{}: {error}", who()));
        }
        if habit.wants_all() && promise.is_unharmed {
            let is_whole = got == whole && !matches!(end, End::Failed(_));
            book.expect(is_whole, || {
                format!("{}: {got} bytes of {whole}, and {end:?}", who())
            });
        }
        if let (true, Some(until)) = (habit.wants_all(), promise.answered_until) {
            let in_time = self.sent.iter().take_while(|(at, _)| *at <= until);
            let asked = in_time.last().map_or(0, |(_, sent)| *sent);
            let due = script.answered(asked);
            book.expect(got >= due, || {
                format!(
                    "{}: {got} bytes of {due} that were asked in time, {end:?}",
                    who()
                )
            });
        }
    }
}
