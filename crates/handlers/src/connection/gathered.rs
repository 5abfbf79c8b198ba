//! What is written in one callback, and leaves at its end.

/// So much may be written in one callback before it is not gathered any more but tried as it is.
pub(super) const GATHERED_MAX: usize = 16 * 1024;

/// A buffer whose room is there from the beginning: a `Vec` asks at each piece whether it has to grow, and is copied to by a
/// function of its own, at twice the instructions.
#[derive(Default)]
pub(super) struct Gathered {
    room: Box<[u8]>,
    len: usize,
}

impl Gathered {
    /// With room for [`GATHERED_MAX`]; by default there is none, for who gathers nothing.
    pub(super) fn with_room() -> Self {
        Self { room: vec![0; GATHERED_MAX].into(), len: 0 }
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.room[..self.len]
    }

    #[inline]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a piece for which there is room.
    #[inline(always)]
    pub(super) fn push(&mut self, piece: &[u8]) {
        let end = self.len + piece.len();
        self.room[self.len..end].copy_from_slice(piece);
        self.len = end;
    }

    #[inline]
    pub(super) const fn clear(&mut self) {
        self.len = 0;
    }
}
