//! The write buffer of a loop: what one callback writes, until it returns.

/// More than this is not collected in the buffer of a callback, but tried at once.
pub(in crate::connection) const BUFFER_MAX: usize = 16 * 1024;

/// A buffer of fixed size. A `Vec` would ask at each piece whether it has to grow, and copy by a function of its own,
/// at twice the instructions.
#[derive(Default)]
pub(in crate::connection) struct WriteBuffer {
    room: Box<[u8]>,
    len: usize,
}

impl WriteBuffer {
    /// Returns a buffer with room for [`BUFFER_MAX`] bytes. The default has room for none.
    pub(in crate::connection) fn with_room() -> Self {
        Self {
            room: vec![0; BUFFER_MAX].into(),
            len: 0,
        }
    }

    #[inline]
    pub(in crate::connection) fn bytes(&self) -> &[u8] {
        &self.room[..self.len]
    }

    #[inline]
    pub(in crate::connection) const fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(in crate::connection) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a piece for which there is room.
    #[inline(always)]
    pub(in crate::connection) fn push(&mut self, piece: &[u8]) {
        let end = self.len + piece.len();
        self.room[self.len..end].copy_from_slice(piece);
        self.len = end;
    }

    #[inline]
    pub(in crate::connection) const fn clear(&mut self) {
        self.len = 0;
    }
}
