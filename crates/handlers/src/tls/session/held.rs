//! Bytes that wait to be taken, with memory only while there are any.

/// A queue of bytes. Its memory is freed when the last byte is taken.
#[derive(Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    taken: usize,
}

impl Held {
    /// Returns the bytes that are not taken yet.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    pub(super) const fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends what `fill` writes into a slice of `len` zeros. `fill` returns the length it used.
    pub(super) fn push_with<E>(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let before = self.bytes.len();
        self.bytes.resize(before + len, 0);
        let filled = fill(&mut self.bytes[before..]);
        let used = *filled.as_ref().unwrap_or(&0);
        self.bytes.truncate(before + used.min(len));
        filled.map(|_| ())
    }

    /// Replaces the end of the bytes, if they end with `old`.
    pub(super) fn replace_end(&mut self, old: &[u8], new: &[u8]) {
        if self.bytes().ends_with(old) {
            self.bytes.truncate(self.bytes.len() - old.len());
            self.push(new);
        }
    }

    /// Takes bytes from the front.
    pub(super) fn take(&mut self, count: usize) {
        self.taken += count;
        debug_assert!(self.taken <= self.bytes.len());
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Moves as many bytes as fit into `buf`. Returns their number.
    pub(super) fn move_to(&mut self, buf: &mut [u8]) -> usize {
        let count = self.len().min(buf.len());
        buf[..count].copy_from_slice(&self.bytes()[..count]);
        self.take(count);
        count
    }

    #[cfg(test)]
    pub(super) const fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}
