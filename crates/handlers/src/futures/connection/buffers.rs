//! Spare buffers of the thread: a connection whose bytes are in transit takes one, and an idle
//! connection holds none.

use std::cell::RefCell;

/// The number of spare buffers that a thread keeps.
const SPARE_MAX: usize = 64;
/// The greatest capacity of a buffer that is kept.
const CAPACITY_MAX: usize = 256 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Returns an empty buffer.
pub(super) fn take() -> Vec<u8> {
    let spare = SPARE.try_with(|spare| spare.borrow_mut().pop());
    spare.ok().flatten().unwrap_or_default()
}

/// Keeps a buffer for the next user.
pub(super) fn put(mut buffer: Vec<u8>) {
    if !(1..=CAPACITY_MAX).contains(&buffer.capacity()) {
        return;
    }
    buffer.clear();
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < SPARE_MAX {
            spare.push(buffer);
        }
    });
}
