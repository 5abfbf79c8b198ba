//! A slot: the data that the loop needs to decide whether to call a registration.

use std::os::fd::RawFd;
use std::panic::Location;
use std::time::Duration;

use super::kind::Kind;
use super::readiness::{Interest, Readiness};
use super::ready::Priority;
use crate::slots::{Blank, Key};
use crate::turn::policies::PanicPolicy;

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
    /// The facts known between calls. During a call its `Io` has newer ones.
    pub(crate) ready: Readiness,
    /// The directions that the kernel watches.
    pub(crate) armed: Interest,
    /// The number of events that were not wanted, since the interest was last changed.
    pub(crate) unwanted_events: u8,
    pub(crate) priority: Priority,
    /// `true` if the ready queue holds its key.
    pub(crate) queued: bool,
    pub(crate) always_ready: bool,
    pub(crate) marks: Marks,
    pub(crate) kind: Kind,
}

// A slot and its key fill one cache line.
const _: () = assert!(size_of::<Slot<dyn Fn()>>() == 56);

/// Properties that few registrations have, in one byte.
#[derive(Clone, Copy, Default)]
pub(crate) struct Marks(u8);

impl Marks {
    const ENDS_RUN: u8 = 1;
    const CATCHES: u8 = 2;
    const PROPAGATES: u8 = 4;
    const BACKGROUND: u8 = 8;
    const HAS_CONTEXT: u8 = 16;

    /// Returns `true` if it does not keep `run` alive.
    pub(crate) const fn is_background(self) -> bool {
        self.0 & Self::BACKGROUND != 0
    }

    /// Moves it into the background or the foreground. Returns `true` if it was in the background.
    pub(super) const fn set_background(&mut self, is_background: bool) -> bool {
        let was = self.is_background();
        self.set(Self::BACKGROUND, is_background);
        was
    }

    /// Returns `true` if it has a [request context](crate::request_context).
    #[inline]
    pub(crate) const fn has_context(self) -> bool {
        self.0 & Self::HAS_CONTEXT != 0
    }

    pub(crate) const fn set_has_context(&mut self, has_context: bool) {
        self.set(Self::HAS_CONTEXT, has_context);
    }

    const fn set(&mut self, bit: u8, is_set: bool) {
        self.0 = if is_set { self.0 | bit } else { self.0 & !bit };
    }

    /// Returns `true` if an error ends `run`.
    pub(crate) const fn is_essential(self) -> bool {
        self.0 & Self::ENDS_RUN != 0
    }

    pub(super) const fn set_essential(&mut self) {
        self.0 |= Self::ENDS_RUN;
    }

    /// Returns the registration's own policy, if it has one.
    pub(crate) const fn panic_policy(self) -> Option<PanicPolicy> {
        match self.0 & (Self::CATCHES | Self::PROPAGATES) {
            Self::CATCHES => Some(PanicPolicy::RemoveHandler),
            Self::PROPAGATES => Some(PanicPolicy::Propagate),
            _ => None,
        }
    }

    pub(super) const fn set_panic_policy(&mut self, policy: PanicPolicy) {
        let bit = match policy {
            PanicPolicy::RemoveHandler => Self::CATCHES,
            PanicPolicy::Propagate => Self::PROPAGATES,
        };
        self.0 = self.0 & !(Self::CATCHES | Self::PROPAGATES) | bit;
    }
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
            marks: Marks::default(),
            kind: Kind::Anonymous,
        }
    }
}

/// A source whose handler was called without a result.
#[derive(Debug)]
pub(crate) struct Backoff {
    /// The turn of its last such call.
    pub(super) turn: u64,
    /// The number of such calls in consecutive turns.
    pub(super) calls: u32,
    pub(super) next: Duration,
}
