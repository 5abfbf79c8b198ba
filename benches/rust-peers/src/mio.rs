//! mio: a table of functions, which are found by token. Sources are edge-triggered. They are read
//! until a read proves that no more bytes are there: by `WouldBlock`, or by a short read, as
//! `epoll(7)` says for streams.

use std::io::{self, ErrorKind, PipeReader};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use workloads::chain::{self, Chain};
use workloads::deferred::{self, Op};
use workloads::echo::{Await, Echo, READ_MAX, listen};
use workloads::pingpong::{self, Rally, Side};
use workloads::registration;
use workloads::{Result, Workload};

const EVENTS: usize = 1024;

pub(crate) fn run(workload: &Workload) -> Result {
    match workload {
        Workload::Chain(options) => chain(options),
        Workload::Registration(options) => registration(options),
        Workload::Pingpong(options) => pingpong(options),
        Workload::Echo(_) => echo(),
        Workload::Deferred(options) if options.op == Op::Empty => empty_turns(options),
        _ => crate::absent(),
    }
}

fn chain(options: &chain::Options) -> Result {
    type Handler = fn(&mut Chain, &mut PipeReader, usize) -> io::Result<()>;
    let (readers, chain) = Chain::new(options)?;
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(EVENTS));
    let mut handlers: Vec<(PipeReader, usize, Handler)> = Vec::new();
    for (place, reader) in readers.into_iter().enumerate() {
        poll.registry().register(
            &mut SourceFd(&reader.as_raw_fd()),
            Token(place),
            Interest::READABLE,
        )?;
        handlers.push((reader, chain.after(place), |chain, reader, next| {
            chain.pass_on(reader, next)
        }));
    }
    chain.measure(options, |chain| -> io::Result<()> {
        while !chain.is_done() {
            poll.poll(&mut events, None)?;
            for event in &events {
                let (reader, next, handler) = &mut handlers[event.token().0];
                handler(chain, reader, *next)?;
            }
        }
        Ok(())
    })
}

fn registration(options: &registration::Options) -> Result {
    type Handler = fn(&mut u64);
    let poll = Poll::new()?;
    registration::measure(options, |sources| {
        let mut handlers: Vec<(OwnedFd, Handler)> = Vec::with_capacity(sources.len());
        for (place, source) in sources.enumerate() {
            poll.registry().register(
                &mut SourceFd(&source.as_raw_fd()),
                Token(place),
                Interest::READABLE,
            )?;
            handlers.push((source, |sum| *sum += 1));
        }
        Ok((poll, handlers))
    })
}

/// The handle of one side for the other side: the number of its calls, and its waker.
struct Called {
    count: Arc<AtomicUsize>,
    waker: Waker,
}

impl Called {
    fn call(&self, number: usize) -> io::Result<()> {
        self.count.store(number, Ordering::SeqCst);
        self.waker.wake()
    }
}

/// A poll that waits for calls. The calls are numbered, since one wakeup may be reported twice.
struct Caller {
    poll: Poll,
    events: Events,
    count: Arc<AtomicUsize>,
}

impl Caller {
    fn new() -> io::Result<(Self, Called)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), Token(0))?;
        let count = Arc::new(AtomicUsize::new(0));
        let called = Called {
            count: count.clone(),
            waker,
        };
        Ok((
            Self {
                poll,
                events: Events::with_capacity(EVENTS),
                count,
            },
            called,
        ))
    }

    fn wait_for(&mut self, number: usize) -> io::Result<()> {
        while self.count.load(Ordering::SeqCst) < number {
            self.poll.poll(&mut self.events, None)?;
        }
        Ok(())
    }
}

fn pingpong(options: &pingpong::Options) -> Result {
    let (mut near, to_near) = Caller::new()?;
    let (mut far, to_far) = Caller::new()?;
    let mut rally = Rally::new(options)?;
    let round_trips = options.round_trips;
    let answering = thread::spawn(move || -> std::result::Result<Called, String> {
        Side::Far.pin().map_err(|error| error.to_string())?;
        for number in 1..=round_trips {
            far.wait_for(number)
                .and_then(|()| to_near.call(number))
                .map_err(|error| error.to_string())?;
        }
        // A waker that is dropped may lose its last call, so it is returned.
        Ok(to_near)
    });
    for number in 1..=round_trips {
        rally.serve();
        to_far.call(number)?;
        near.wait_for(number)?;
        rally.returned();
    }
    drop(answering.join().map_err(|_| "the far side panicked")??);
    rally.report();
    Ok(())
}

fn empty_turns(options: &deferred::Options) -> Result {
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(EVENTS));
    deferred::measure(|| {
        for _ in 0..options.operations() {
            poll.poll(&mut events, Some(Duration::ZERO))?;
        }
        Ok(options.operations())
    })
}

const LISTENER: Token = Token(usize::MAX);

/// The connections by their tokens.
#[derive(Default)]
struct Connections {
    open: Vec<Option<(TcpStream, Echo)>>,
    free: Vec<usize>,
}

fn echo() -> Result {
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(EVENTS));
    let mut listener = TcpListener::from_std(listen()?);
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections = Connections::default();
    let mut scratch = vec![0; READ_MAX];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                LISTENER => connections.accept(&listener, &poll)?,
                Token(place) => connections.serve(place, event.is_read_closed(), &mut scratch),
            }
        }
    }
}

impl Connections {
    fn accept(&mut self, listener: &TcpListener, poll: &Poll) -> io::Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _peer)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let place = self.free.pop().unwrap_or(self.open.len());
            poll.registry().register(
                &mut stream,
                Token(place),
                Interest::READABLE | Interest::WRITABLE,
            )?;
            if place == self.open.len() {
                self.open.push(None);
            }
            self.open[place] = Some((stream, Echo::default()));
        }
    }

    /// Serves a connection. After the end of a stream, a short read proves nothing, since the end
    /// itself is still to be read.
    fn serve(&mut self, place: usize, has_ended: bool, scratch: &mut [u8]) {
        let Some((stream, echo)) = &mut self.open[place] else {
            return;
        };
        loop {
            match echo.exchange(stream, scratch) {
                Ok((Await::Readable, is_dry)) if has_ended || !is_dry => {}
                Ok((Await::Readable | Await::Writable, _)) => return,
                Ok((Await::Nothing, _)) | Err(_) => break,
            }
        }
        self.open[place] = None;
        self.free.push(place);
    }
}
