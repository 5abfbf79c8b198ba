//! A subscriber of `tracing` that knows which spans each thread has entered, and which are open.

use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use tracing::field::Field;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_core::span::Current;

/// A line of the log: the span in which it was written, and its text.
pub(crate) type Line = (Option<&'static str>, String);

#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    last_id: u64,
    /// The open spans, with the number of their handles.
    open: HashMap<u64, (&'static Metadata<'static>, usize)>,
    entered: HashMap<ThreadId, Vec<u64>>,
    lines: Vec<(ThreadId, Line)>,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the lines of this thread, and forgets them.
    pub(crate) fn take_lines(&self) -> Vec<Line> {
        let (mut lines, mut inner) = (Vec::new(), self.lock());
        for (thread, line) in std::mem::take(&mut inner.lines) {
            if thread == thread::current().id() {
                lines.push(line);
            } else {
                inner.lines.push((thread, line));
            }
        }
        lines
    }

    /// Returns the names of the spans that this thread has entered, from the outermost on.
    pub(crate) fn entered(&self) -> Vec<&'static str> {
        let inner = self.lock();
        let entered = inner.entered.get(&thread::current().id());
        let names = entered
            .into_iter()
            .flatten()
            .map(|id| inner.open[id].0.name());
        names.collect()
    }

    pub(crate) fn is_open(&self, id: &Id) -> bool {
        self.lock().open.contains_key(&id.into_u64())
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut |field: &Field, value: &dyn Debug| {
            let _ = write!(text, "{field}={value:?} ");
        });
        let span = self.entered().last().copied();
        self.lock()
            .lines
            .push((thread::current().id(), (span, text)));
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut inner = self.lock();
        inner.last_id += 1;
        let id = inner.last_id;
        inner.open.insert(id, (attributes.metadata(), 1));
        Id::from_u64(id)
    }

    fn clone_span(&self, id: &Id) -> Id {
        if let Some((_, handles)) = self.lock().open.get_mut(&id.into_u64()) {
            *handles += 1;
        }
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let mut inner = self.lock();
        let Some((_, handles)) = inner.open.get_mut(&id.into_u64()) else {
            return false;
        };
        *handles -= 1;
        let closes = *handles == 0;
        if closes {
            inner.open.remove(&id.into_u64());
        }
        closes
    }

    fn current_span(&self) -> Current {
        let inner = self.lock();
        let entered = inner.entered.get(&thread::current().id());
        entered
            .and_then(|entered| entered.last())
            .map_or_else(Current::none, |id| {
                Current::new(Id::from_u64(*id), inner.open[id].0)
            })
    }

    fn enter(&self, id: &Id) {
        let mut inner = self.lock();
        let entered = inner.entered.entry(thread::current().id()).or_default();
        entered.push(id.into_u64());
    }

    fn exit(&self, id: &Id) {
        let mut inner = self.lock();
        let entered = inner.entered.entry(thread::current().id()).or_default();
        let place = entered
            .iter()
            .rposition(|entered| *entered == id.into_u64());
        entered.remove(place.expect("a span is left once for each time it is entered"));
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
}
