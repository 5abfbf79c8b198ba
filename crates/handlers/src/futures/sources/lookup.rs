//! Looking up names within a future.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;

use super::access::{Cancel, Found};
use super::feed::{Feeder, feed};
use crate::futures::local::Local;
use crate::futures::of_thread;
use crate::names::{Resolver, Target};

/// Looks up the addresses of `target`, as [`Resolver::resolve`] does. Dropping the future cancels
/// the lookup.
///
/// # Cost
/// The cost of [`Resolver::resolve`], and four allocations.
///
/// # Errors
/// Those of [`Resolver::resolve`].
///
/// # Panics
/// The future panics if it is polled outside of a task of this module.
///
/// ```
/// use handlers::{Resolver, futures};
/// use reactor::Reactor;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut reactor = Reactor::<()>::new()?;
/// let found = futures::block_on(&mut reactor, &mut (), async {
///     futures::resolve(&Resolver::default(), "127.0.0.1:80".parse().expect("an address")).await
/// })??;
/// assert_eq!(found, ["127.0.0.1:80".parse()?]);
/// # Ok(())
/// # }
/// ```
#[doc(alias("getaddrinfo", "lookup_host", "to_socket_addrs"))]
pub fn resolve(
    resolver: &Resolver,
    target: Target,
) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + use<> {
    let resolver = resolver.clone();
    async move {
        let local = of_thread::current();
        assert!(local.is_some(), "a name was looked up outside of a task");
        let Some(local) = local else { unreachable!() };
        let (feeder, feed) = feed::<Found>();
        let _cancelled_when_dropped = begin(local, resolver, target, feeder);
        match poll_fn(|cx| feed.poll_next(cx)).await {
            Some(found) => found,
            None => Err(io::Error::new(
                ErrorKind::BrokenPipe,
                "the lookup was cancelled",
            )),
        }
    }
}

/// A lookup that ends when this is dropped.
struct Asked {
    cancel: Rc<Cell<State>>,
    local: Rc<Local>,
}

#[derive(Default)]
enum State {
    #[default]
    Requested,
    Begun(Cancel),
    Cancelled,
}

fn begin(local: Rc<Local>, resolver: Resolver, target: Target, to: Feeder<Found>) -> Asked {
    let cancel = Rc::<Cell<State>>::default();
    let asked = Rc::clone(&cancel);
    local.access(Box::new(move |access| match asked.take() {
        State::Requested => asked.set(State::Begun(access.look_up(&resolver, &target, to))),
        state => asked.set(state),
    }));
    Asked { cancel, local }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let State::Begun(cancel) = self.cancel.replace(State::Cancelled) {
            self.local.access(cancel);
        }
    }
}
