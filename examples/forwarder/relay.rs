//! The relay: lines from clients to the upstream, with the spool beside it.
//!
//! Each line that is not acknowledged by the upstream is in `pending`, in the order in which the
//! upstream gets them. Ground rules:
//! - A line is answered once: when the upstream has acknowledged it, or when it is in the spool.
//! - Lines go into the spool in order, while the upstream is away.
//! - The spool is cleared only when the upstream has acknowledged every line that it holds.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use handlers::{
    Backoff, CloseReason, Connection, ConnectionHandler, ConnectionKey, ConnectionOptions, Flow,
    JobError, Lines, Listener, ServerKey, Target, Timeout, Upstream, UpstreamOptions,
    UpstreamState, WorkerPool, on_frames,
};
use reactor::{Context, Registry, RequestContext, Then};

use super::request::{Pending, Waiting, answer, context_of, context_of_spooled};
use super::spool::{Spool, SyncPolicy, push_record};

/// The longest line of a client.
const LINE_MAX: usize = 64 * 1024;
/// The memory that a waiting line costs in addition to its bytes. It bounds the number of lines.
const LINE_COST: usize = 256;
/// The time that clients and the upstream have when the forwarder ends.
const GRACE: Duration = Duration::from_secs(5);
/// The time after which a failed write of the spool is tried again.
const DISK_RETRY: Duration = Duration::from_secs(1);
/// An upstream that has lines to acknowledge, and has sent nothing for this long, is dead.
const SILENCE_MAX: Duration = Duration::from_secs(30);

pub(crate) struct Settings {
    pub(crate) targets: Vec<Target>,
    pub(crate) backoff: Backoff,
    pub(crate) spool: PathBuf,
    pub(crate) max_spool: usize,
    pub(crate) sync: SyncPolicy,
    pub(crate) slow_after: Duration,
}

/// The state of the loop. Lines are numbered in the order in which they were accepted.
pub(crate) struct Relay {
    upstream: Upstream<Self>,
    pending: VecDeque<Pending>,
    /// The number of the first line in `pending`.
    first: u64,
    /// All lines before this one are in the spool, or acknowledged by the upstream.
    spooled: u64,
    /// The length of the records in the spool.
    spool_bytes: usize,
    max_spool: usize,
    /// `true` while a job uses the spool, or waits to be tried again.
    is_writing: bool,
    /// The number of clients since the start.
    clients: u64,
    /// The time after which a line that is not answered is reported.
    slow_after: Duration,
    /// Clients that are paused until the queue has room.
    paused: Vec<ConnectionKey<Self>>,
    pool: WorkerPool<Self, Spool>,
}

/// A job for the spool.
enum Job {
    /// Add these records. With them, all lines before `spooled` are in the spool.
    Append { records: Vec<u8>, spooled: u64 },
    /// Replace all records by these.
    Replace { records: Vec<u8>, spooled: u64 },
}

impl Relay {
    /// Opens the spool, and starts the link. The lines in the spool are sent first.
    pub(crate) fn start(registry: &mut Registry<Self>, settings: &Settings) -> io::Result<Self> {
        let (spool, lines, spool_bytes) = Spool::open(&settings.spool, settings.sync)?;
        let options = UpstreamOptions::new()
            .connection(&ConnectionOptions::new().read_timeout(SILENCE_MAX))
            .backoff(settings.backoff.clone())
            .max_messages(settings.max_spool.div_ceil(LINE_COST).max(2 * lines.len()))
            // Lines that were acknowledged are never refused, even if the limit is lower now.
            .max_bytes(settings.max_spool.max(2 * spool_bytes))
            .acknowledged(true);
        let targets = settings.targets.iter().cloned();
        let upstream = Upstream::start(registry, targets, &options, Link);
        upstream.on_end(registry, next_job);
        let mut pending = VecDeque::new();
        for (number, line) in lines.into_iter().enumerate() {
            let _ = upstream.send(registry, line.clone())?;
            pending.push_back(Pending {
                line,
                context: context_of_spooled(number as u64),
                waiting: None,
            });
        }
        tracing::info!(lines = pending.len(), "spool read");
        Ok(Self {
            upstream,
            first: 0,
            spooled: pending.len() as u64,
            pending,
            spool_bytes,
            max_spool: settings.max_spool,
            is_writing: false,
            clients: 0,
            slow_after: settings.slow_after,
            paused: Vec::new(),
            pool: start_pool(registry, spool)?,
        })
    }

    fn is_away(&self) -> bool {
        self.upstream.state() != UpstreamState::Up
    }

    /// Returns the number of the line that is accepted next.
    fn next(&self) -> u64 {
        self.first + self.pending.len() as u64
    }

    /// Removes the oldest lines, which the upstream has acknowledged.
    fn remove(&mut self, count: usize) -> Vec<Pending> {
        self.first += count as u64;
        self.pending.drain(..count).collect()
    }

    /// Records that all lines before `spooled` are safe. Returns those that are so newly, with the
    /// clients that wait for them.
    fn record_spooled(&mut self, spooled: u64) -> Vec<(RequestContext, Option<Waiting>)> {
        let [before, safe] =
            [self.spooled, spooled].map(|line| line.saturating_sub(self.first) as usize);
        self.spooled = spooled;
        let newly = self.pending.iter_mut().take(safe).skip(before);
        newly
            .map(|pending| (pending.context.clone(), pending.waiting.take()))
            .collect()
    }

    /// Returns the next job for the spool, or `None` if there is nothing to do.
    fn next_job(&self) -> Option<Job> {
        let spooled = self.next();
        let records = |from: u64| {
            let (mut records, from) = (Vec::new(), from.saturating_sub(self.first) as usize);
            for pending in self.pending.range(from.min(self.pending.len())..) {
                push_record(&pending.line, &mut records);
            }
            records
        };
        if self.is_away() && self.spooled < spooled {
            let new = records(self.spooled);
            // Acknowledged lines are dropped from a file that has grown too long.
            let most = self.max_spool.saturating_mul(2);
            return Some(if self.spool_bytes + new.len() > most {
                let records = records(self.first);
                Job::Replace { records, spooled }
            } else {
                Job::Append {
                    records: new,
                    spooled,
                }
            });
        }
        let is_done = self.spool_bytes > 0 && self.spooled <= self.first;
        is_done.then(|| Job::Replace {
            records: Vec::new(),
            spooled: self.first,
        })
    }
}

/// Starts the one worker, which owns the spool. So jobs are in order.
fn start_pool(
    registry: &mut Registry<Relay>,
    spool: Spool,
) -> io::Result<WorkerPool<Relay, Spool>> {
    let spool = Mutex::new(Some(spool));
    let take = move || {
        let taken = spool.lock().ok().and_then(|mut spool| spool.take());
        taken.ok_or_else(|| io::Error::other("a job has panicked with the spool"))
    };
    WorkerPool::builder()
        .workers(1)
        .worker_state(take)
        .build(registry)
}

/// Starts the next job for the spool, unless one is running.
fn next_job(cx: &mut Context<'_, Relay>) {
    if cx.state.is_writing {
        return;
    }
    let Some(job) = cx.state.next_job() else {
        return;
    };
    cx.state.is_writing = true;
    let (spooled, before) = match &job {
        Job::Append { spooled, .. } => (*spooled, cx.state.spool_bytes),
        Job::Replace { spooled, .. } => (*spooled, 0),
    };
    let work = move |spool: &mut Spool| match job {
        Job::Append { records, .. } => spool.append(&records).map(|()| before + records.len()),
        Job::Replace { records, .. } => spool.replace(&records).map(|()| records.len()),
    };
    let done = move |result: Result<io::Result<usize>, JobError>, cx: &mut Context<'_, Relay>| {
        match result.map_err(io::Error::from).and_then(|result| result) {
            Ok(length) => {
                cx.state.is_writing = false;
                cx.state.spool_bytes = length;
                for (context, waiting) in cx.state.record_spooled(spooled) {
                    context.scope(|| {
                        tracing::debug!("in the spool");
                        answer(waiting, cx);
                    });
                }
                next_job(cx);
            }
            Err(error) => retry_job(&error, cx),
        }
    };
    // It serves all lines that wait, not the one whose callback is running.
    let submitted = RequestContext::NONE.scope(|| cx.state.pool.submit_with(work, done));
    if let Err(refused) = submitted {
        tracing::error!(%refused, "lines are not in the spool");
    }
}

/// Tries the job again after a while. The clients wait meanwhile.
fn retry_job(error: &io::Error, cx: &mut Context<'_, Relay>) {
    tracing::error!(%error, "cannot write the spool");
    if cx.state.upstream.state() == UpstreamState::Ended {
        return; // the lines were not acknowledged, so their clients keep them
    }
    cx.registry.after(DISK_RETRY, |cx| {
        cx.state.is_writing = false;
        next_job(cx);
        Ok(Then::Done)
    });
}

/// Serves the clients of a listener.
pub(crate) fn serve(
    registry: &mut Registry<Relay>,
    listener: Listener,
) -> io::Result<ServerKey<Relay>> {
    let options = ConnectionOptions::new();
    listener.serve(registry, &options, |peer, cx: &mut Context<'_, Relay>| {
        cx.state.clients += 1;
        let client = tracing::info_span!(parent: None, "client", id = cx.state.clients);
        client.in_scope(|| tracing::debug!(address = %peer, "accepted"));
        let lines = Lines::new(LINE_MAX);
        Ok(on_frames::<Relay, _, _>(
            lines,
            move |line, connection, cx| {
                // Replaces the context of the line before, which is answered later.
                cx.set_context(context_of(cx.state.next(), &client));
                receive(line, connection, cx)
            },
        ))
    })
}

/// Ends the forwarder. No more lines are read, and those that were read are answered.
pub(crate) fn stop(server: ServerKey<Relay>, cx: &mut Context<'_, Relay>) {
    server.stop_without_reading(cx, GRACE);
    // After the end of the link, the lines that are left go into the spool.
    cx.state.upstream.clone().stop(cx.registry, GRACE / 2);
}

/// Accepts a line of a client. If it is refused, the connection ends without an answer.
fn receive(
    line: &[u8],
    connection: &mut Connection<'_, Relay>,
    cx: &mut Context<'_, Relay>,
) -> io::Result<()> {
    tracing::debug!(bytes = line.len(), "received");
    let line = Bytes::from([line, b"\n"].concat());
    let flow = cx.state.upstream.send(cx.registry, line.clone())?;
    connection.begin_response();
    let slow = cx.registry.after(cx.state.slow_after, |_cx| {
        tracing::warn!("is not answered yet");
        Ok(Then::Done)
    });
    cx.registry.set_timer_background(slow)?;
    let client = connection.key();
    cx.state.pending.push_back(Pending {
        line,
        context: RequestContext::current(),
        waiting: Some(Waiting { client, slow }),
    });
    if flow == Flow::Full {
        connection.pause_reading();
        resume_later(connection.key(), cx);
    }
    next_job(cx);
    Ok(())
}

/// Lets a client continue when the queue has room.
fn resume_later(client: ConnectionKey<Relay>, cx: &mut Context<'_, Relay>) {
    cx.state.paused.push(client);
    if cx.state.paused.len() > 1 {
        return; // the callback is set already
    }
    let upstream = cx.state.upstream.clone();
    upstream.on_room(cx.registry, |cx| {
        for client in std::mem::take(&mut cx.state.paused) {
            // An error means that the client has gone.
            let _ = client.with(cx, |connection, _cx| connection.resume_reading());
        }
    });
}

/// The handler of the link.
struct Link;

impl ConnectionHandler<Relay> for Link {
    fn on_open(
        &mut self,
        _connection: &mut Connection<'_, Relay>,
        cx: &mut Context<'_, Relay>,
    ) -> io::Result<()> {
        cx.state.upstream.clone().resend(cx.registry);
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        _connection: &mut Connection<'_, Relay>,
        cx: &mut Context<'_, Relay>,
    ) -> io::Result<usize> {
        let answers = data.chunks_exact(2);
        let all = answers.len();
        let count = answers.take_while(|answer| *answer == b"+\n").count();
        let acknowledged = cx.state.upstream.clone().acknowledge(cx.registry, count);
        for line in cx.state.remove(acknowledged) {
            line.context.scope(|| {
                tracing::debug!("acknowledged by the upstream");
                answer(line.waiting, cx);
            });
        }
        next_job(cx);
        if acknowledged < all {
            let text = "the upstream answers what was not sent, or not as a forwarder does";
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
        Ok(2 * count)
    }

    fn on_timeout(
        &mut self,
        _timeout: Timeout,
        connection: &mut Connection<'_, Relay>,
        cx: &mut Context<'_, Relay>,
    ) -> io::Result<()> {
        if !cx.state.pending.is_empty() {
            connection.close();
        }
        Ok(())
    }

    fn on_close(&mut self, _reason: CloseReason, cx: &mut Context<'_, Relay>) {
        next_job(cx); // the lines that are not acknowledged go into the spool
    }
}
