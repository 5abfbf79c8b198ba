//! The write buffer of a loop. It holds the writes of one callback until the callback returns.

/// The size of the buffer. A larger write is tried at once.
pub(in crate::connection) const BUFFER_MAX: usize = 16 * 1024;

/// A buffer of fixed size. A `Vec` would check for each piece whether it must grow, and would copy
/// by a function call, at twice the instructions.
#[derive(Default)]
pub(in crate::connection) struct WriteBuffer {
    room: Box<[u8]>,
    len: usize,
}

impl WriteBuffer {
    /// Returns a buffer with room for [`BUFFER_MAX`] bytes. The default buffer has no room.
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

    /// Adds a piece, for which there must be room.
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
