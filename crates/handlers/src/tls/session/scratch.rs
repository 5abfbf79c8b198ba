//! Buffers of the thread, in which records are decrypted and encrypted.
//!
//! A session holds no buffer while it is idle, so it borrows one for each read and each write. A
//! session whose stream is another session borrows one while the other has one too. So the thread
//! keeps a few, and makes a new one if all are borrowed.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// The size of a buffer, in bytes: the largest undecrypted rest and a record after it, or four
/// encrypted records.
pub(super) const SCRATCH: usize = 128 << 10;

/// The most buffers that a thread keeps. A read needs one, and a write of small slices two.
const KEPT: usize = 2;

thread_local! {
    static BUFFERS: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of the thread. It returns there when it is dropped.
pub(super) struct Scratch(Box<[u8]>);

impl Scratch {
    /// Borrows a buffer. It holds the bytes of its last use.
    pub(super) fn borrow() -> Self {
        let kept = BUFFERS.try_with(|buffers| buffers.borrow_mut().pop());
        Self(
            kept.ok()
                .flatten()
                .unwrap_or_else(|| vec![0; SCRATCH].into_boxed_slice()),
        )
    }
}

impl Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // A thread that ends has dropped its buffers.
        let _ = BUFFERS.try_with(|buffers| {
            let mut buffers = buffers.borrow_mut();
            if buffers.len() < KEPT {
                buffers.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{BUFFERS, KEPT, Scratch};

    #[test]
    fn a_thread_keeps_a_few_buffers_however_many_were_borrowed() {
        let borrowed: Vec<_> = (0..5).map(|_| Scratch::borrow()).collect();
        drop(borrowed);
        assert_eq!(BUFFERS.with_borrow(Vec::len), KEPT);
        let one = Scratch::borrow();
        assert_eq!(BUFFERS.with_borrow(Vec::len), KEPT - 1);
        drop(one);
    }
}
