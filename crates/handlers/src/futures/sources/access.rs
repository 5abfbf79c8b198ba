//! The operations of a registry that a future asks for, without the state type of the loop.

use std::panic::Location;

use reactor::{Error, Event, Interest, Key, Next, Registry};

use super::feed::{Feeder, in_callback};
#[cfg(feature = "names")]
use crate::names::{Resolver, Target};
#[cfg(feature = "names")]
use std::{io, net::SocketAddr};

/// A request that uses the registry of the loop.
pub(in crate::futures) type Access = Box<dyn FnOnce(&mut dyn LoopAccess)>;

/// The addresses of a lookup.
#[cfg(feature = "names")]
pub(super) type Found = io::Result<Vec<SocketAddr>>;

/// The end of something that was asked for.
#[cfg(feature = "names")]
pub(super) type Cancel = Box<dyn FnOnce(&mut dyn LoopAccess)>;

/// A registry, whatever its state type is.
pub(in crate::futures) trait LoopAccess {
    /// Ends a registration, unless it has ended.
    fn remove(&mut self, key: Key);

    /// Lets a queue that was paused go on.
    fn resume(&mut self, key: Key);

    /// Waits once for any or all of `events`. Passes the index of the event on. If the future was
    /// dropped, undoes the pass.
    fn wait_for_events(
        &mut self,
        events: &[Event],
        all: bool,
        to: Feeder<usize>,
        origin: &'static Location<'static>,
    ) -> Result<Key, Error>;

    /// Looks up a name. Returns what cancels the lookup.
    #[cfg(feature = "names")]
    fn look_up(&mut self, resolver: &Resolver, target: &Target, to: Feeder<Found>) -> Cancel;

    /// For operations that know the state type.
    #[cfg(feature = "names")]
    fn as_any(&mut self) -> &mut dyn std::any::Any;
}

impl<S: 'static> LoopAccess for Registry<S> {
    fn remove(&mut self, key: Key) {
        let _ = Self::remove(self, key); // it may have ended meanwhile
    }

    fn resume(&mut self, key: Key) {
        let _ = self.set_interest(key, Interest::READABLE); // it may have ended meanwhile
    }

    fn wait_for_events(
        &mut self,
        events: &[Event],
        all: bool,
        to: Feeder<usize>,
        origin: &'static Location<'static>,
    ) -> Result<Key, Error> {
        let own: Box<[Event]> = events.into();
        let events: Vec<_> = events.iter().collect();
        // A future that is dropped outside of a poll does not end its registration at once.
        let key = if all {
            self.on_all(&events, move |cx| {
                if to.is_unheard() {
                    own.iter().for_each(Event::undo_pass);
                }
                in_callback(cx.registry, &to, || to.push(0));
                Ok(Next::Remove)
            })
        } else {
            self.on_any(&events, move |index, cx| {
                if to.is_unheard() {
                    own.get(index).map(Event::undo_pass);
                }
                in_callback(cx.registry, &to, || to.push(index));
                Ok(Next::Remove)
            })
        }?;
        // It was registered just now.
        let _ = self.set_background(key);
        let _ = self.set_origin(key, origin);
        Ok(key)
    }

    #[cfg(feature = "names")]
    fn look_up(&mut self, resolver: &Resolver, target: &Target, to: Feeder<Found>) -> Cancel {
        let lookup = resolver.resolve(self, target, move |found, cx| {
            in_callback(cx.registry, &to, || to.push(found));
        });
        Box::new(move |access| {
            if let Some(registry) = access.as_any().downcast_mut() {
                lookup.cancel(registry);
            }
        })
    }

    #[cfg(feature = "names")]
    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}
