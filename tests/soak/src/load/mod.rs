//! The load: threads of clients, and one thread of faults. The checker can close the gate: then
//! no client and no fault is at work until it opens again.

mod clients;
mod faults;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::process::Pid;

pub(crate) use self::clients::LastClients;
pub(crate) use self::clients::Targets;
use crate::draw::Draw;
use crate::process::PATIENCE;

const CLIENTS: u64 = 12;

/// The state that clients, faults and the checker share.
#[derive(Default)]
pub(crate) struct Shared {
    gate: Mutex<Gate>,
    changed: Condvar,
    /// Odd while the daemon has a low limit of open files.
    pub(crate) shortages: AtomicU64,
    /// The number that the watched file holds.
    pub(crate) version: AtomicU64,
    pub(crate) totals: Totals,
}

#[derive(Default)]
struct Gate {
    is_closed: bool,
    is_over: bool,
    inside: u64,
    deviation: Option<String>,
}

/// Counts of the clients' work and of the faults.
#[derive(Default)]
pub(crate) struct Totals {
    pub(crate) sessions: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) lines: AtomicU64,
    pub(crate) cuts: AtomicU64,
    pub(crate) datagrams: AtomicU64,
    pub(crate) datagrams_lost: AtomicU64,
    pub(crate) stops: AtomicU64,
}

pub(crate) fn count(total: &AtomicU64, more: u64) {
    total.fetch_add(more, Ordering::Relaxed);
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the gate is open. Returns `false` if the load is over.
    fn enter(&self) -> bool {
        let gate = self.lock();
        let is_shut = |gate: &mut Gate| gate.is_closed && !gate.is_over;
        let waited = self.changed.wait_while(gate, is_shut);
        let mut gate = waited.unwrap_or_else(PoisonError::into_inner);
        gate.inside += u64::from(!gate.is_over);
        !gate.is_over
    }

    fn leave(&self, outcome: Result<(), String>) {
        let mut gate = self.lock();
        gate.inside -= 1;
        if let Err(deviation) = outcome {
            gate.deviation.get_or_insert(deviation);
        }
        self.changed.notify_all();
    }

    /// Closes the gate, and waits until all have left.
    pub(crate) fn close_gate(&self) -> Result<(), String> {
        let mut gate = self.lock();
        gate.is_closed = true;
        let waited = self
            .changed
            .wait_timeout_while(gate, 2 * PATIENCE, |gate| gate.inside > 0);
        let (gate, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        match gate.deviation.clone() {
            Some(deviation) => Err(deviation),
            None if timeout.timed_out() => Err(format!("{} clients do not end", gate.inside)),
            None => Ok(()),
        }
    }

    pub(crate) fn open_gate(&self) {
        self.lock().is_closed = false;
        self.changed.notify_all();
    }

    pub(crate) fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    /// Returns the first deviation that a client or a fault has found.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.lock().deviation.clone().map_or(Ok(()), Err)
    }
}

/// Starts the threads. The gate is closed at first.
pub(crate) fn start(
    shared: &Arc<Shared>,
    seed: u64,
    targets: Targets,
    pid: Pid,
    folder: &Path,
) -> Vec<JoinHandle<()>> {
    shared.lock().is_closed = true;
    let targets = Arc::new(targets);
    let mut threads = Vec::new();
    for client in 0..CLIENTS {
        let (shared, targets) = (Arc::clone(shared), Arc::clone(&targets));
        let mut draw = Draw::new(seed, client);
        threads.push(thread::spawn(move || {
            while shared.enter() {
                shared.leave(clients::session(&shared, &targets, &mut draw));
            }
        }));
    }
    let (shared, folder) = (Arc::clone(shared), folder.to_owned());
    let mut draw = Draw::new(seed, CLIENTS);
    threads.push(thread::spawn(move || {
        while shared.enter() {
            shared.leave(faults::next(&shared, pid, &folder, &mut draw));
        }
    }));
    threads
}
