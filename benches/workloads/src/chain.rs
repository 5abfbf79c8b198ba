//! W3, the chain: pipes, some of which have a byte in flight. Each handler reads the available
//! bytes, and writes as many to another pipe.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::time::Instant;

use clap::Args;

use crate::{Result, at_least_one, raise_open_files_limit, report};

/// The size of the chain.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Pipes registered
    #[arg(long, default_value_t = 1000, value_parser = at_least_one::<usize>())]
    pub sources: usize,
    /// Bytes in flight at the same time
    #[arg(long, default_value_t = 100, value_parser = at_least_one::<usize>())]
    pub active: usize,
    /// Events in all, after a warm-up
    #[arg(long, default_value_t = 200_000, value_parser = at_least_one::<usize>())]
    pub events: usize,
}

/// The distance to the pipe that an event writes to. It is a prime, so that a byte visits all
/// pipes.
const STRIDE: usize = 7919;
const WARM_UP: usize = 1000;

/// The write ends and the progress of the chain: the state that the handlers share.
///
/// The default is an empty chain, for code that must leave a value in place of the real one.
#[derive(Debug, Default)]
pub struct Chain {
    writers: Vec<PipeWriter>,
    events: usize,
    /// The number of bytes that may still be sent.
    left: usize,
    goal: usize,
    /// The read buffer of all handlers.
    scratch: Scratch,
}

/// A buffer for all bytes that a read may find.
#[derive(Debug)]
struct Scratch([u8; 128]);

impl Default for Scratch {
    fn default() -> Self {
        Self([0; 128])
    }
}

impl Chain {
    /// Returns the read ends, which are non-blocking, and the chain.
    ///
    /// # Errors
    /// The error of `pipe2(2)`, and an error if `active` is greater than `events`.
    pub fn new(options: &Options) -> Result<(Vec<PipeReader>, Self)> {
        if options.active > options.events {
            return Err("--active is greater than --events".into());
        }
        raise_open_files_limit()?;
        let pipes = (0..options.sources)
            .map(|_| io::pipe())
            .collect::<io::Result<Vec<_>>>()?;
        let (readers, writers): (Vec<_>, Vec<_>) = pipes.into_iter().unzip();
        readers
            .iter()
            .try_for_each(|reader| rustix::io::ioctl_fionbio(reader, true))?;
        Ok((
            readers,
            Self {
                writers,
                ..Self::default()
            },
        ))
    }

    /// Returns the place that the bytes read at `place` are written to.
    #[inline]
    #[must_use]
    pub const fn after(&self, place: usize) -> usize {
        (place + STRIDE) % self.writers.len()
    }

    /// Measures `run`, which runs the loop until the chain is done, after a warm-up. Prints the
    /// figures.
    ///
    /// # Errors
    /// The errors of `run` and of `write(2)`.
    pub fn measure<E>(
        mut self,
        options: &Options,
        mut run: impl FnMut(&mut Self) -> std::result::Result<(), E>,
    ) -> Result
    where
        Box<dyn std::error::Error>: From<E>,
    {
        let mut ns_per_op = 0.0;
        for events in [WARM_UP.max(options.active), options.events] {
            self.start(options.active, events)?;
            let began = Instant::now();
            run(&mut self)?;
            ns_per_op = began.elapsed().as_nanos() as f64 / self.events as f64;
        }
        report(&[("ns_per_op", ns_per_op)]);
        Ok(())
    }

    fn start(&mut self, active: usize, events: usize) -> io::Result<()> {
        (self.events, self.goal, self.left) = (0, events, events - active);
        let step = (self.writers.len() / active).max(1);
        (0..active).try_for_each(|k| self.send(k * step % self.writers.len()))
    }

    #[inline]
    fn send(&self, to: usize) -> io::Result<()> {
        (&self.writers[to]).write(&[1]).map(drop)
    }

    /// Reads the available bytes, and writes as many to the place `next`.
    ///
    /// # Errors
    /// The errors of `read(2)` and `write(2)`.
    #[inline]
    pub fn pass_on(&mut self, reader: &mut impl Read, next: usize) -> io::Result<()> {
        let mut bytes = reader.read(&mut self.scratch.0)?;
        self.events += bytes;
        while bytes > 0 && self.left > 0 {
            self.left -= 1;
            self.send(next)?;
            bytes -= 1;
        }
        Ok(())
    }

    /// Returns `true` if every event has arrived.
    #[inline]
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.events >= self.goal
    }
}
