//! Children whose loop ended while they ran. They are kept until another loop of this process
//! adopts them.
//!
//! A child that its parent does not reap stays a zombie while the parent lives. The next loop that
//! starts or watches a child adopts the kept children, in the background.

use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A child that no loop watches.
pub(super) struct Orphan {
    /// `None` if the pidfd could not be opened.
    pub(super) pidfd: Option<Arc<OwnedFd>>,
    pub(super) child: Child,
    pub(super) label: Arc<str>,
}

impl Orphan {
    /// Takes a child of the standard library that could not be watched and is not reaped. Closes
    /// its pipes.
    pub(super) fn of(mut child: Child, label: &str) -> Self {
        drop((child.stdin.take(), child.stdout.take(), child.stderr.take()));
        Self {
            pidfd: None,
            child,
            label: label.into(),
        }
    }
}

static ORPHANS: Mutex<Vec<Orphan>> = Mutex::new(Vec::new());

/// Keeps a child for the next loop that starts or watches a child.
pub(super) fn add(orphan: Orphan) {
    tracing::debug!(child = %orphan.label, "no loop watches this child");
    ORPHANS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(orphan);
}

/// Takes the kept children. A child whose pidfd cannot be opened stays kept. If there are no
/// children, this costs one lock.
pub(super) fn adopt() -> Vec<(Orphan, Arc<OwnedFd>)> {
    let left = std::mem::take(&mut *ORPHANS.lock().unwrap_or_else(PoisonError::into_inner));
    let mut adopted = Vec::new();
    for orphan in left {
        let pidfd = match &orphan.pidfd {
            Some(pidfd) => Ok(Arc::clone(pidfd)),
            None => pidfd_open(Pid::from_child(&orphan.child), PidfdFlags::empty()).map(Arc::new),
        };
        match pidfd {
            Ok(pidfd) => adopted.push((orphan, pidfd)),
            Err(rustix::io::Errno::SRCH) => {} // other code has reaped it
            Err(_) => add(orphan),
        }
    }
    adopted
}
