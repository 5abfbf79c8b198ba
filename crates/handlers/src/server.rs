//! The identity of a server. Its listener, the connections that it has accepted and its key share
//! it, on all loops of the process.
//!
//! A connection can be opened long after it was accepted, and on another loop. So the stop of a
//! server is recorded here: a connection that is opened later is closed too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// A server.
#[derive(Debug)]
pub(crate) struct Server {
    id: ServerId,
    stop: Mutex<Option<Stop>>,
}

/// The number of a server. No two servers of the process have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServerId(u64);

/// The way in which a server closes its connections when it stops.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GracefulClose {
    pub(crate) grace: Duration,
    /// `true` if input that has arrived is answered too.
    pub(crate) reads: bool,
}

#[derive(Clone, Copy, Debug)]
struct Stop {
    /// `None` without a deadline.
    by: Option<Instant>,
    reads: bool,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// The servers of the process.
static SERVERS: Mutex<Vec<(ServerId, Weak<Server>)>> = Mutex::new(Vec::new());

impl Server {
    pub(crate) fn new() -> Arc<Self> {
        let server = Arc::new(Self {
            id: ServerId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            stop: Mutex::default(),
        });
        lock(&SERVERS).push((server.id, Arc::downgrade(&server)));
        server
    }

    pub(crate) const fn id(&self) -> ServerId {
        self.id
    }

    /// Returns the way in which a connection that is opened now must be closed, or `None` if the
    /// server has not stopped.
    pub(crate) fn close_at(&self, now: Instant) -> Option<GracefulClose> {
        let stop = (*lock(&self.stop))?;
        let left = |by: Instant| by.saturating_duration_since(now);
        Some(GracefulClose {
            grace: stop.by.map_or(Duration::MAX, left),
            reads: stop.reads,
        })
    }

    /// Records a stop. The earliest deadline of several stops holds.
    fn stop_at(&self, now: Instant, how: GracefulClose) {
        let mut stop = lock(&self.stop);
        let before = stop.and_then(|stop| stop.by);
        *stop = Some(Stop {
            by: now.checked_add(how.grace).into_iter().chain(before).min(),
            reads: how.reads && stop.is_none_or(|stop| stop.reads),
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        lock(&SERVERS).retain(|(id, _)| *id != self.id);
    }
}

impl ServerId {
    /// Records that the server stops. Does nothing if nothing of the server is left.
    pub(crate) fn stop_at(self, now: Instant, how: GracefulClose) {
        let servers = lock(&SERVERS);
        let server = servers.iter().find(|(id, _)| *id == self);
        let server = server.and_then(|(_, server)| server.upgrade());
        drop(servers); // which the end of the server locks too
        if let Some(server) = server {
            server.stop_at(now, how);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn stop(server: &Server, now: Instant, grace: Duration, reads: bool) {
        server.id().stop_at(now, GracefulClose { grace, reads });
    }

    #[test]
    fn the_earliest_deadline_of_several_stops_holds() {
        let (server, now) = (Server::new(), Instant::now());
        assert!(server.close_at(now).is_none());
        stop(&server, now, Duration::MAX, true);
        assert_eq!(server.close_at(now).unwrap().grace, Duration::MAX);
        stop(&server, now, 2 * SECOND, true);
        stop(&server, now, 5 * SECOND, true);
        let close = server.close_at(now + SECOND).unwrap();
        assert_eq!((close.grace, close.reads), (SECOND, true));
        assert!(server.close_at(now + 3 * SECOND).unwrap().grace.is_zero());
    }

    #[test]
    fn after_a_stop_without_reading_none_reads_again() {
        let (server, now) = (Server::new(), Instant::now());
        for reads in [true, false, true] {
            stop(&server, now, SECOND, reads);
        }
        assert!(!server.close_at(now).unwrap().reads);
    }

    #[test]
    fn a_stop_reaches_only_the_server_that_it_names() {
        let (stopped, other, now) = (Server::new(), Server::new(), Instant::now());
        assert_ne!(stopped.id(), other.id());
        stop(&stopped, now, SECOND, true);
        assert!(stopped.close_at(now).is_some() && other.close_at(now).is_none());
    }

    #[test]
    fn a_server_that_has_ended_is_forgotten() {
        let server = Server::new();
        let id = server.id();
        drop(server);
        assert!(lock(&SERVERS).iter().all(|(other, _)| *other != id));
        id.stop_at(
            Instant::now(),
            GracefulClose {
                grace: SECOND,
                reads: true,
            },
        );
    }
}
