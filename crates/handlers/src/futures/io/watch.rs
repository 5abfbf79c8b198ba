//! The registrations of the sources that futures wait for: how the loop begins to watch one, what
//! it does with a report, and how the watch ends.
//!
//! The registry and the future each hold the source. So the fd stays open until the kernel has
//! ended its watch, whichever of the two is dropped first.

use std::fmt;
use std::io;
use std::rc::Rc;

use reactor::{Context, Interest, Io, Key, Next, Registry};

use super::readiness::SourceState;
use super::shared::SharedSource;
use crate::futures::executor;
use crate::futures::local::Local;
use crate::futures::requests::{Request, SourceKey};
use crate::futures::waiter::Waiter;

/// Records the end of a registration when its closure is dropped, whatever has ended it.
struct Watch {
    local: Rc<Local>,
    key: SourceKey,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let waiters =
            (self.local.sources.borrow_mut().get_mut(self.key)).map(SourceState::end_watch);
        Waiter::wake_all(waiters.into_iter().flatten().flatten(), &self.local);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Watches a source in the directions that its futures wait for, unless it was dropped.
pub(in crate::futures) fn update<S: 'static>(
    local: &Rc<Local>,
    key: SourceKey,
    registry: &mut Registry<S>,
) {
    let begun = local.sources.borrow_mut().get_mut(key).and_then(|state| {
        let (interest, registration) = state.begin_update()?;
        Some((state.source.clone(), state.origin, interest, registration))
    });
    let Some((source, origin, interest, registration)) = begun else {
        return;
    };
    let updated = match registration {
        Some(registration) => registry.set_interest(registration, interest),
        None => register(local, key, source, interest, registry).map(|registration| {
            // The registration was made just now, so its key is not stale.
            let _ = registry.set_background(registration);
            let _ = registry.set_origin(registration, origin);
            let _ = registry.set_name(registration, "async");
        }),
    };
    if let Err(error) = updated {
        refuse(local, key, interest, error.into());
        if let Some(registration) = registration {
            let _ = registry.remove(registration); // it may have ended
        }
    }
}

/// Lets a future of a source return the error of the loop.
fn refuse(local: &Local, key: SourceKey, asked: Interest, error: io::Error) {
    let mut sources = local.sources.borrow_mut();
    let waiters = sources.get_mut(key).map(|state| state.refuse(asked, error));
    drop(sources);
    Waiter::wake_all(waiters.into_iter().flatten().flatten(), local);
}

fn register<S: 'static>(
    local: &Rc<Local>,
    key: SourceKey,
    source: SharedSource,
    interest: Interest,
    registry: &mut Registry<S>,
) -> Result<Key, reactor::Error> {
    let watch = Watch {
        local: Rc::clone(local),
        key,
    };
    let registration = registry
        .add(source, interest, move |io, cx| Ok(report(&watch, io, cx)))
        .map_err(|refused| refused.error)?;
    if let Some(state) = local.sources.borrow_mut().get_mut(key) {
        state.set_registered(registration);
    }
    Ok(registration)
}

/// Records what the loop reports of a source, and wakes the tasks that wait for it.
fn report<S: 'static>(watch: &Watch, io: &mut Io<SharedSource>, cx: &mut Context<'_, S>) -> Next {
    let (facts, is_always_ready) = (cx.readiness(), io.is_always_ready());
    for direction in [Interest::READABLE, Interest::WRITABLE] {
        // From here on the table knows of the readiness, so the loop forgets it. No operation is
        // made, only its answer is passed.
        let _ = io.try_io(direction, |_| {
            Err::<(), _>(io::ErrorKind::WouldBlock.into())
        });
    }
    let waiters = {
        let mut sources = watch.local.sources.borrow_mut();
        sources
            .get_mut(watch.key)
            .map(|state| state.report(facts, is_always_ready))
    };
    let mut waiters = waiters.into_iter().flatten().flatten().peekable();
    if waiters.peek().is_some()
        && let Some(executor) = executor::find(cx.registry)
    {
        executor.wake_in_callback(cx.registry, || Waiter::wake_all(waiters, &watch.local));
    }
    if is_always_ready {
        Next::Remove // the loop would call again each turn
    } else {
        Next::Keep
    }
}

/// Ends the watch of a source on the thread of its loop, after the poll. Returns the state for the
/// caller to drop, which may call the user.
pub(in crate::futures) fn end(local: &Local, key: SourceKey) -> Option<SourceState> {
    let ended = local.sources.borrow_mut().remove(key)?;
    if let Some(registration) = ended.registration() {
        local.request(Request::Unwatch(registration));
    }
    Some(ended)
}

/// Ends the watch of a source that another thread has dropped.
pub(in crate::futures) fn forget<S>(local: &Local, key: SourceKey, registry: &mut Registry<S>) {
    let ended = local.sources.borrow_mut().remove(key);
    if let Some(registration) = ended.as_ref().and_then(SourceState::registration) {
        let _ = registry.remove(registration); // it may have ended
    }
}
