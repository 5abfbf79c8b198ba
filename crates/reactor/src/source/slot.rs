//! A slot: what the loop needs to know of a registration to decide whether to call it.

use std::os::fd::RawFd;
use std::panic::Location;
use std::time::Duration;

use super::kind::Kind;
use super::readiness::{Interest, Readiness};
use super::ready::Priority;
use crate::slots::{Blank, Key};

/// One registered source, whose source and handler are an `E`.
pub(crate) struct Slot<E: ?Sized> {
    /// `None` while the handler runs.
    pub(crate) entry: Option<Box<E>>,
    pub(crate) origin: &'static Location<'static>,
    pub(crate) calls: u64,
    /// The entry of its timeout in the wheel, if it was ever set.
    pub(crate) timeout: Key,
    pub(crate) fd: RawFd,
    /// The facts that the handler is called for.
    pub(crate) wanted: Readiness,
    /// The facts known between calls. During a call its `Io` knows better.
    pub(crate) ready: Readiness,
    /// The directions that the kernel watches.
    pub(crate) armed: Interest,
    /// Events that were not wanted, since the interest was last changed.
    pub(crate) unwanted_events: u8,
    pub(crate) priority: Priority,
    /// Whether the ready queue holds its key.
    pub(crate) queued: bool,
    pub(crate) always_ready: bool,
    pub(crate) background: bool,
    pub(crate) essential: bool,
    pub(crate) kind: Kind,
}

impl<E: ?Sized> Blank for Slot<E> {
    fn blank() -> Self {
        Self {
            entry: None,
            origin: Location::caller(),
            calls: 0,
            timeout: Key::NULL,
            fd: -1,
            wanted: Interest::NONE.wanted(),
            ready: Readiness::EMPTY,
            armed: Interest::NONE,
            unwanted_events: 0,
            priority: Priority::Normal,
            queued: false,
            always_ready: false,
            background: false,
            essential: false,
            kind: Kind::Anonymous,
        }
    }
}

/// A source whose handler was called in vain.
#[derive(Debug)]
pub(crate) struct Rest {
    /// The turn of its last such call.
    pub(super) turn: u64,
    /// How many there were, each a turn after the one before.
    pub(super) calls: u32,
    pub(super) next: Duration,
}
