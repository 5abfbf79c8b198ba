//! W3, the chain: `n` pipes, `a` bytes on their way. Each handler reads what came and writes it to another pipe.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::time::Instant;

use clap::Args;
use reactor::{Interest, Next, Reactor};

use crate::{Peer, Result, resident_bytes};

#[derive(Args)]
pub(crate) struct Options {
    #[arg(long, value_enum, default_value_t = Peer::Reactor)]
    peer: Peer,
    /// Pipes registered
    #[arg(long, default_value_t = 1000)]
    n: usize,
    /// Bytes on their way at the same time
    #[arg(long, default_value_t = 100)]
    a: usize,
    /// Events in all
    #[arg(long, default_value_t = 200_000)]
    w: usize,
}

/// Each event passes its byte on by so many places; a prime, so that it comes around everywhere.
const STRIDE: usize = 7919;

struct Chain {
    writers: Vec<PipeWriter>,
    events: usize,
    /// Bytes that may still be sent.
    left: usize,
    goal: usize,
    /// Where every handler reads to: one for all.
    scratch: [u8; 128],
}

impl Chain {
    fn start(&mut self, active: usize, events: usize) -> io::Result<()> {
        (self.events, self.goal, self.left) = (0, events, events - active);
        let step = (self.writers.len() / active).max(1);
        for k in 0..active {
            self.send(k * step % self.writers.len())?;
        }
        Ok(())
    }

    #[inline]
    fn send(&self, to: usize) -> io::Result<()> {
        (&self.writers[to]).write(&[1]).map(drop)
    }

    /// Reads what has come and sends as much on; gives what there was no need to send any more.
    #[inline]
    fn pass_on(&mut self, reader: &mut impl Read, next: usize) -> io::Result<usize> {
        let mut bytes = reader.read(&mut self.scratch)?;
        self.events += bytes;
        while bytes > 0 && self.left > 0 {
            self.left -= 1;
            self.send(next)?;
            bytes -= 1;
        }
        Ok(bytes)
    }
}

pub(crate) fn run(options: &Options) -> Result {
    let Options { peer, n, a, w } = *options;
    let (readers, writers) = (0..n).map(|_| io::pipe()).collect::<io::Result<(Vec<_>, Vec<_>)>>()?;
    let chain = Chain { writers, events: 0, left: 0, goal: 0, scratch: [0; 128] };
    let warm_up = w.min(1000).max(a);
    let figures = match peer {
        Peer::Reactor => with_reactor(readers, chain, a, [warm_up, w])?,
        Peer::Mio => with_mio(readers, chain, a, [warm_up, w])?,
        Peer::Tokio => return Err("tokio is not in this workload".into()),
    };
    println!(
        "{{\"ns_per_op\": {:.1}, \"ns_registration\": {:.1}, \"bytes\": {:.1}}}",
        figures[0], figures[1], figures[2]
    );
    Ok(())
}

fn with_reactor(readers: Vec<PipeReader>, mut chain: Chain, active: usize, runs: [usize; 2]) -> Result<[f64; 3]> {
    let mut reactor = Reactor::<Chain>::new()?;
    let n = readers.len();
    let (resident, began) = (resident_bytes()?, Instant::now());
    for (place, reader) in readers.into_iter().enumerate() {
        let next = (place + STRIDE) % n;
        reactor.add(reader, Interest::READABLE, move |reader, cx| {
            let unsent = cx.state.pass_on(reader, next)?;
            if unsent > 0 && cx.state.events >= cx.state.goal {
                cx.registry.stop();
            }
            Ok(Next::Keep)
        })?;
    }
    let registered = began.elapsed();
    let resident = resident_bytes()? - resident;
    let mut took = registered;
    for events in runs {
        chain.start(active, events)?;
        let began = Instant::now();
        reactor.run(&mut chain)?;
        took = began.elapsed();
    }
    Ok(per(took, chain.events, registered, resident, n))
}

fn with_mio(readers: Vec<PipeReader>, mut chain: Chain, active: usize, runs: [usize; 2]) -> Result<[f64; 3]> {
    let mut poll = mio::Poll::new()?;
    let mut events = mio::Events::with_capacity(1024);
    let n = readers.len();
    let (resident, began) = (resident_bytes()?, Instant::now());
    type Handler = fn(&mut Chain, &mut PipeReader, usize) -> io::Result<usize>;
    let mut handlers: Vec<(PipeReader, Handler)> = Vec::new();
    for (place, reader) in readers.into_iter().enumerate() {
        rustix::io::ioctl_fionbio(&reader, true)?;
        poll.registry().register(
            &mut mio::unix::SourceFd(&reader.as_raw_fd()),
            mio::Token(place),
            mio::Interest::READABLE,
        )?;
        handlers.push((reader, |chain, reader, next| chain.pass_on(reader, next)));
    }
    let registered = began.elapsed();
    let resident = resident_bytes()? - resident;
    let mut took = registered;
    for goal in runs {
        chain.start(active, goal)?;
        let began = Instant::now();
        while chain.events < chain.goal {
            poll.poll(&mut events, None)?;
            for event in &events {
                let place = event.token().0;
                let (reader, handler) = &mut handlers[place];
                if event.is_readable() {
                    handler(&mut chain, reader, (place + STRIDE) % n)?;
                }
            }
        }
        took = began.elapsed();
    }
    Ok(per(took, chain.events, registered, resident, n))
}

fn per(took: std::time::Duration, events: usize, registered: std::time::Duration, resident: i64, n: usize) -> [f64; 3] {
    [took.as_nanos() as f64 / events as f64, registered.as_nanos() as f64 / n as f64, resident as f64 / n as f64]
}
