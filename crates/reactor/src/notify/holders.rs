//! Holders: the source lines that keep a loop alive. They are used only for lists, and are no part
//! of the wake protocol.

use std::panic::Location;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A source line, and how many of its tokens are held.
pub(crate) type Holder = (&'static Location<'static>, usize);

/// The holders of a loop. Few lines of a program keep a loop alive, and each keeps its entry here:
/// a token costs a lock and no allocation.
#[derive(Debug, Default)]
pub(crate) struct Holders(Mutex<Vec<Holder>>);

impl Holders {
    pub(crate) fn record(&self, origin: &'static Location<'static>) {
        let mut holders = self.lock();
        match holders.iter_mut().find(|(line, _)| ptr::eq(*line, origin)) {
            Some((_, held)) => *held += 1,
            None => holders.push((origin, 1)),
        }
    }

    pub(crate) fn forget(&self, origin: &'static Location<'static>) {
        if let Some((_, held)) = self
            .lock()
            .iter_mut()
            .find(|(line, _)| ptr::eq(*line, origin))
        {
            *held -= 1;
        }
    }

    /// Returns the lines whose tokens are held.
    pub(crate) fn list(&self) -> Vec<Holder> {
        self.lock()
            .iter()
            .copied()
            .filter(|(_, held)| *held > 0)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Holder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
