//! The bytes and the facts that a connection shares with its future. Pure data: knows neither the
//! loop nor the socket.
//!
//! The connection offers input and takes output. The future does the reverse, and leaves marks for
//! what only the connection can do: read again, close the write side, end.
//!
//! Ground rule: all fields are cells, and no value is borrowed while a waker is used.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::mem::take;
use std::task::{Context, Poll};

use super::buffers;
use super::wakers::{WakerSlot, WakerSlots};
use crate::error::copy_error;
use crate::futures::fairness;

/// Once this many bytes of input wait for the future, the connection stops reading.
pub(super) const INPUT_MAX: usize = 64 * 1024;
/// The most output that one poll of the future collects.
pub(super) const OUTPUT_MAX: usize = 64 * 1024;

/// The progress of our write side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Writing {
    #[default]
    Open,
    /// The future has closed it.
    Asked,
    /// The connection sends what is queued, and then the end.
    Ending,
    /// Everything was passed to the kernel.
    Ended,
}

/// The end that the connection must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Everything is sent, and then the end of the stream.
    Clean,
    /// Everything is sent, and then a reset.
    Cut,
    /// A reset at once.
    Reset,
}

/// The owner of the connection, which decides how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A future, by its result.
    Future,
    /// The handle, by its drop.
    Handle,
}

pub(super) struct Link {
    /// The input that the handle has not taken.
    input: RefCell<Vec<u8>>,
    /// The peer has closed its write side. Comes after the input.
    has_read_ended: Cell<bool>,
    /// The connection does not read, because there is enough input.
    is_paused: Cell<bool>,
    /// The future has taken input, so the connection can read again.
    wants_input: Cell<bool>,
    pub(super) reader: WakerSlot,
    /// The output that the connection has not taken.
    output: RefCell<Vec<u8>>,
    output_max: usize,
    /// The write queue of the connection is full.
    is_full: Cell<bool>,
    writing: Cell<Writing>,
    pub(super) writer: WakerSlot,
    /// The reason why reads fail, after the input.
    read_failure: Cell<Option<io::Error>>,
    write_failure: Cell<Option<io::Error>>,
    /// A timeout has expired and was reported.
    has_timed_out: Cell<bool>,
    is_over: Cell<bool>,
    is_stopping: Cell<bool>,
    pub(super) stops: WakerSlots,
    owner: Cell<Owner>,
    has_handle: Cell<bool>,
    end: Cell<Option<End>>,
}

impl Link {
    /// Returns the link of a new connection, whose write queue takes `max_write_queue` bytes.
    pub(super) fn new(owner: Owner, max_write_queue: usize) -> Self {
        Self {
            input: RefCell::default(),
            has_read_ended: Cell::new(false),
            is_paused: Cell::new(false),
            wants_input: Cell::new(false),
            reader: WakerSlot::default(),
            output: RefCell::default(),
            output_max: max_write_queue.clamp(1, OUTPUT_MAX),
            is_full: Cell::new(false),
            writing: Cell::default(),
            writer: WakerSlot::default(),
            read_failure: Cell::default(),
            write_failure: Cell::default(),
            has_timed_out: Cell::new(false),
            is_over: Cell::new(false),
            is_stopping: Cell::new(false),
            stops: WakerSlots::default(),
            owner: Cell::new(owner),
            has_handle: Cell::new(true),
            end: Cell::new(None),
        }
    }

    /// Offers input. Returns `true` if the connection must stop reading.
    pub(super) fn offer(&self, data: &[u8]) -> bool {
        if !self.has_handle.get() {
            return false; // nothing reads it
        }
        let mut input = self.input.borrow_mut();
        if input.capacity() == 0 {
            *input = buffers::take();
        }
        input.extend_from_slice(data);
        let is_enough = input.len() >= INPUT_MAX;
        self.is_paused.set(is_enough);
        is_enough
    }

    pub(super) fn end_input(&self) {
        self.has_read_ended.set(true);
    }

    /// Takes all input. Returns an empty buffer at the end of the stream.
    #[inline]
    pub(super) fn poll_input(&self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        let input = take(&mut *self.input.borrow_mut());
        if input.is_empty() {
            return self.poll_end_of_input(cx).map_ok(|()| input);
        }
        if self.is_paused.take() {
            self.wants_input.set(true);
        }
        Poll::Ready(Ok(input))
    }

    fn poll_end_of_input(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_read_ended.get() {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = report(&self.read_failure) {
            return Poll::Ready(Err(error));
        }
        self.reader.register(cx.waker());
        Poll::Pending
    }

    /// Adds bytes to the output, by `push` with the buffer and its room.
    #[inline]
    pub(super) fn poll_output(
        &self,
        cx: &mut Context<'_>,
        push: impl FnOnce(&mut Vec<u8>, usize) -> usize,
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.write_error() {
            return at_its_end(cx, Err(error));
        }
        let mut output = self.output.borrow_mut();
        let room = self.output_max.saturating_sub(output.len());
        if room == 0 || self.is_full.get() {
            drop(output);
            self.writer.register(cx.waker());
            return Poll::Pending;
        }
        if output.capacity() == 0 {
            *output = buffers::take();
        }
        Poll::Ready(Ok(push(&mut output, room)))
    }

    /// Returns the error of a write.
    fn write_error(&self) -> Option<io::Error> {
        let closed = || io::Error::new(ErrorKind::BrokenPipe, "our write side is closed");
        report(&self.write_failure).or_else(|| (self.writing.get() != Writing::Open).then(closed))
    }

    /// Waits until the output has room again. The connection sends it by itself.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = report(&self.write_failure) {
            return at_its_end(cx, Err(error));
        }
        if !self.is_full.get() {
            return Poll::Ready(Ok(()));
        }
        self.writer.register(cx.waker());
        Poll::Pending
    }

    /// Closes the write side, and waits until all output was passed to the kernel.
    pub(super) fn poll_close(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.writing.get() {
            Writing::Ended => return at_its_end(cx, Ok(())),
            Writing::Open => self.writing.set(Writing::Asked),
            Writing::Asked | Writing::Ending => {}
        }
        if let Some(error) = report(&self.write_failure) {
            return at_its_end(cx, Err(error));
        }
        self.writer.register(cx.waker());
        Poll::Pending
    }

    pub(super) const fn writing(&self) -> Writing {
        self.writing.get()
    }

    pub(super) fn set_writing(&self, writing: Writing) {
        self.writing.set(writing);
    }

    /// Returns `true` if the future waits for something that the connection must do.
    #[inline]
    pub(super) fn has_wishes(&self) -> bool {
        !self.output.borrow().is_empty()
            || self.wants_input.get()
            || self.writing.get() == Writing::Asked
            || self.end.get().is_some()
    }

    pub(super) fn take_output(&self) -> Vec<u8> {
        take(&mut *self.output.borrow_mut())
    }

    pub(super) fn take_wants_input(&self) -> bool {
        self.wants_input.take()
    }

    pub(super) fn take_end(&self) -> Option<End> {
        self.end.take()
    }

    pub(super) const fn output_max(&self) -> usize {
        self.output_max
    }

    pub(super) fn set_full(&self, is_full: bool) {
        self.is_full.set(is_full);
    }

    /// Records that the write queue is empty. After a failure this does not mean that the bytes
    /// were sent.
    pub(super) fn empty_queue(&self) {
        if self.writing.get() == Writing::Ending && !self.has_failed_to_write() {
            self.writing.set(Writing::Ended);
        }
    }

    fn has_failed_to_write(&self) -> bool {
        let failure = self.write_failure.take();
        let has_failed = failure.is_some();
        self.write_failure.set(failure);
        has_failed
    }

    /// Wakes the future that waits to write or for the end of the output, if its wait is over.
    pub(super) fn wake_writer_if_ready(&self) {
        let is_ready = match self.writing.get() {
            Writing::Open => !self.is_full.get(),
            Writing::Asked | Writing::Ending => self.has_failed_to_write(),
            Writing::Ended => true,
        };
        if is_ready {
            self.writer.wake();
        }
    }

    /// Lets all writes fail. Bytes of the peer may still come.
    pub(super) fn fail_writing(&self, error: io::Error) {
        set_first(&self.write_failure, error);
    }

    /// Reports a timeout to reads and writes. Returns `false` if one was reported before.
    pub(super) fn time_out(&self, error: io::Error) -> bool {
        let is_first = !self.has_timed_out.replace(true);
        self.fail(error);
        is_first
    }

    /// Lets reads and writes fail.
    fn fail(&self, error: io::Error) {
        set_first(&self.write_failure, copy_error(&error));
        set_first(&self.read_failure, error);
    }

    /// Records the end of the connection.
    pub(super) fn end_connection(&self, error: io::Error) {
        self.is_over.set(true);
        self.fail(error);
    }

    /// Records the end of a connection that has sent everything. Only a read that has not come to
    /// the end fails.
    pub(super) fn finish_connection(&self, error: io::Error) {
        self.is_over.set(true);
        self.is_full.set(false);
        self.writing.set(Writing::Ended);
        set_first(&self.read_failure, error);
    }

    /// Returns `true` if the connection does not read because the future has enough input.
    pub(super) const fn holds_input_back(&self) -> bool {
        self.is_paused.get() || self.wants_input.get()
    }

    pub(super) fn begin_stop(&self) {
        self.is_stopping.set(true);
    }

    pub(super) const fn is_stopping(&self) -> bool {
        self.is_stopping.get()
    }

    /// Records the result of the future.
    pub(super) fn finish_future(&self, is_ok: bool) {
        self.owner.set(Owner::Handle);
        match (is_ok, self.has_handle.get()) {
            (true, false) => self.set_end(End::Clean),
            (true, true) => {} // the handle lives on elsewhere
            (false, _) => self.set_end(End::Cut),
        }
    }

    /// Records that the future was dropped before its end.
    pub(super) fn cancel_future(&self) {
        self.owner.set(Owner::Handle);
        self.set_end(self.end_without_result());
    }

    /// Records that the handle was dropped, with its unread input.
    pub(super) fn drop_handle(&self) {
        self.has_handle.set(false);
        buffers::put(take(&mut *self.input.borrow_mut()));
        if self.owner.get() == Owner::Handle {
            self.set_end(self.end_without_result());
        }
    }

    /// Returns `true` if neither a future nor a handle is left.
    pub(super) fn is_left(&self) -> bool {
        self.owner.get() == Owner::Handle && !self.has_handle.get()
    }

    /// Returns the end of a connection that was left without a result. A stream that has not come
    /// to an end of its own must not look whole.
    fn end_without_result(&self) -> End {
        match self.writing.get() {
            Writing::Open => End::Reset,
            Writing::Asked | Writing::Ending | Writing::Ended => End::Clean,
        }
    }

    /// Sets the end, unless there is one.
    fn set_end(&self, end: End) {
        if !self.is_over.get() {
            let earlier = self.end.get();
            self.end.set(earlier.or(Some(end)));
        }
    }
}

/// Returns the result of a direction that has ended. It is the same at each call, so a task that
/// asks for it again and again gives way to others.
fn at_its_end<T>(cx: &Context<'_>, result: io::Result<T>) -> Poll<io::Result<T>> {
    fairness::poll_proceed(cx).map(|()| result)
}

/// Returns the error of a failure, if there is one. The first caller gets the error itself.
fn report(failure: &Cell<Option<io::Error>>) -> Option<io::Error> {
    let error = failure.take()?;
    failure.set(Some(copy_error(&error)));
    Some(error)
}

fn set_first(failure: &Cell<Option<io::Error>>, error: io::Error) {
    let first = failure.take().unwrap_or(error);
    failure.set(Some(first));
}
