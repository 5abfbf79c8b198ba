//! Children whose loop is gone while they ran: kept until a loop of this process takes them in.
//!
//! A child must be reaped by its parent, or it stays a zombie as long as that lives. The next loop that starts or watches a
//! child takes in those that are left, in the background.

use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A child that nobody watches.
pub(super) struct Orphan {
    /// `None` where none was to be had.
    pub(super) pidfd: Option<Arc<OwnedFd>>,
    pub(super) child: Child,
    pub(super) label: Arc<str>,
}

impl Orphan {
    /// A child of the standard library that could not be watched and that nobody has reaped. Its pipes are closed.
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

/// Keeps a child for the next loop that starts one.
pub(super) fn add(orphan: Orphan) {
    tracing::debug!(child = %orphan.label, "left without a loop");
    ORPHANS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(orphan);
}

/// Takes the children that were kept; one that cannot be watched stays. A lock, if there are none.
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
            Err(rustix::io::Errno::SRCH) => {} // reaped by others
            Err(_) => add(orphan),
        }
    }
    adopted
}
