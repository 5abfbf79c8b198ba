//! The clients of a daemon: what each of them does with its connection, and what it is promised.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::laws::Book;
use crate::streams::{ClientStream, Stream};

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
    /// Sends a part, and dies in the middle of a record: its kernel closes the connection.
    Dies,
    /// Stands still in the middle of a record, and then does the same as `Pipelines`.
    StandsStill,
    /// Sends as much as it can, reads nothing, and closes after a while.
    ReadsNothing,
    /// Connects, and closes after a while.
    SaysNothing,
}

impl Habit {
    pub(crate) fn draw() -> Self {
        const ALL: [Habit; 10] = [
            Habit::Pipelines,
            Habit::HalfCloses,
            Habit::ReadsSlowly,
            Habit::Drips,
            Habit::ClosesEarly,
            Habit::Resets,
            Habit::Dies,
            Habit::StandsStill,
            Habit::ReadsNothing,
            Habit::SaysNothing,
        ];
        ALL[simulation::random(ALL.len() as u64) as usize]
    }

    /// Returns whether a client of this kind waits for its whole answer.
    const fn wants_all(self) -> bool {
        matches!(
            self,
            Self::Pipelines
                | Self::HalfCloses
                | Self::ReadsSlowly
                | Self::Drips
                | Self::StandsStill
        )
    }
}

/// The result of a client.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) habit: Habit,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) received: Vec<u8>,
    /// The end of the stream is not that of its socket.
    has_own_end: bool,
    /// When how many bytes had been sent, for each write. There is no time if the kernel had no
    /// room for all of them.
    pub(crate) sent: Vec<(Option<Instant>, usize)>,
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
    peer: ClientStream,
    script: &'a Script,
    book: &'a Book,
    local: SocketAddr,
    told: Told,
}

/// Plays a client, and returns what it got.
pub(crate) fn talk(
    stream: Stream,
    address: SocketAddr,
    habit: Habit,
    script: &Script,
    book: &Book,
) -> Told {
    let mut told = Told {
        habit,
        local: None,
        has_own_end: stream != Stream::Bare,
        received: Vec::new(),
        sent: Vec::new(),
        end: End::Left,
    };
    let mut peer = match stream.connect(address) {
        Ok(peer) => peer,
        Err(error) => {
            told.end = End::Failed(error.kind());
            return told;
        }
    };
    let local = peer.local_addr();
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
    client.leave()
}

fn millis(end: u64) -> Duration {
    Duration::from_millis(simulation::random(end))
}

impl Client<'_> {
    /// Closes the connection.
    fn leave(mut self) -> Told {
        let ends = match self.told.habit {
            Habit::Resets => {
                self.peer.reset();
                return self.told;
            }
            // As clients of TLS do that are killed, or do not care.
            Habit::Dies => self.peer.is_bare(),
            _ => self.peer.is_bare() || simulation::random(4) > 0,
        };
        if ends {
            self.book.shuts_down(self.local);
        }
        if ends && !self.peer.is_bare() {
            self.peer.set_timeout(Some(Duration::from_secs(1)));
            let _ = self.peer.shutdown_write(); // the server may be gone
        }
        self.told
    }

    fn play(&mut self) -> io::Result<End> {
        let whole = self.script.request.len();
        let part = simulation::random(whole as u64 + 1) as usize;
        self.peer.set_timeout(Some(PATIENCE));
        if self.told.habit != Habit::SaysNothing || simulation::random(2) == 0 {
            self.peer.handshake()?;
        }
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
            Habit::Dies => {
                let end = self.exchange_until_sent(part)?;
                self.write_part()?;
                simulation::sleep(millis(100));
                Ok(end)
            }
            Habit::StandsStill => {
                if let end @ End::Clean = self.exchange_until_sent(part)? {
                    return Ok(end);
                }
                self.write_part()?;
                simulation::sleep(millis(100_000));
                self.exchange(whole, usize::MAX, Duration::ZERO)
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
        self.write_by(bytes, ClientStream::write)
    }

    /// Writes the next bytes of the request up to the middle of a record.
    fn write_part(&mut self) -> io::Result<()> {
        let from = self.sent();
        let until = self.script.request.len().min(from + 1000);
        if from == until {
            return Ok(());
        }
        self.peer.set_timeout(Some(PATIENCE));
        let script = self.script;
        self.write_by(&script.request[from..until], ClientStream::write_part)
    }

    fn write_by(
        &mut self,
        bytes: &[u8],
        write: impl FnOnce(&mut ClientStream, &[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let at = simulation::now();
        let known = self.sent();
        let written = write(&mut self.peer, bytes)?;
        self.book.sends(self.local, &bytes[..written]);
        let at = self.peer.is_flushed().then_some(at);
        self.told.sent.push((at, known + written));
        Ok(())
    }

    /// Ends the stream, and reads meanwhile: the server may take no more before it is read.
    fn shut_down(&mut self) -> io::Result<()> {
        self.book.shuts_down(self.local);
        self.peer.set_timeout(Some(Duration::ZERO));
        let mut pause = Duration::from_micros(1);
        loop {
            match self.peer.shutdown_write() {
                Err(error) if error.kind() == ErrorKind::TimedOut => {}
                shut => return shut,
            }
            if self.read(usize::MAX)? == Some(0) {
                return Ok(());
            }
            simulation::sleep(pause);
            pause = (pause * 2).min(Duration::from_secs(1));
        }
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
        while self.sent() < until || !self.peer.is_flushed() {
            let read = self.read(usize::MAX)?;
            if read == Some(0) {
                return Ok(End::Clean);
            }
            let from = self.sent();
            let piece = 1 + simulation::random(20_000) as usize;
            let wrote = match from {
                sent if sent >= until => self.peer.flush(),
                _ => self.write(&self.script.request[from..until.min(from + piece)]),
            };
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
        if matches!(end, End::Clean) && (!promise.was_killed || self.has_own_end) {
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
            ) || self.has_own_end && *error == ErrorKind::UnexpectedEof;
            book.expect(is_of_a_network, || format!("{}: {error}", who()));
        }
        if habit.wants_all() && promise.is_unharmed {
            let is_whole = got == whole && !matches!(end, End::Failed(_));
            book.expect(is_whole, || {
                format!("{}: {got} bytes of {whole}, and {end:?}", who())
            });
        }
        if let (true, Some(until)) = (habit.wants_all(), promise.answered_until) {
            let in_time = |at: Option<Instant>| at.is_some_and(|at| at <= until);
            let asked = self.sent.iter().rfind(|(at, _)| in_time(*at));
            let asked = asked.map_or(0, |(_, sent)| *sent);
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
