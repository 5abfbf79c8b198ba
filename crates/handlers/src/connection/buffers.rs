//! The buffers of a loop. Its connections use them one after the other.

use std::cell::Cell;

use super::write::buffer::WriteBuffer;

/// The size of the read buffer, and so the most that one call reads.
const READ_MAX: usize = 64 * 1024;

/// The buffers that a connection needs during a call. An idle connection holds no buffer.
struct Buffers {
    input: Box<[u8]>,
    output: WriteBuffer,
}

thread_local! {
    /// The buffers of the loop of this thread. They are a thread local because a look-up by
    /// `Registry::local` costs forty instructions more. A call of a connection takes them out: if
    /// the loop of another reactor runs in that call, it makes buffers of its own.
    static BUFFERS: Cell<Option<Box<Buffers>>> = const { Cell::new(None) };
}

/// Calls `call` with the buffers of this loop.
#[inline(always)]
pub(super) fn with_buffers<R>(call: impl FnOnce(&mut [u8], &mut WriteBuffer) -> R) -> R {
    let mut buffers = BUFFERS.take().unwrap_or_else(make_buffers);
    let result = call(&mut buffers.input, &mut buffers.output);
    buffers.output.clear();
    BUFFERS.with(|place| place.set(Some(buffers))); // unlike `LocalKey::set`, this is inlined
    result
}

#[cold]
fn make_buffers() -> Box<Buffers> {
    Box::new(Buffers {
        input: vec![0; READ_MAX].into(),
        output: WriteBuffer::with_room(),
    })
}
