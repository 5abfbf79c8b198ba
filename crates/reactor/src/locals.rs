//! Values of a loop, by their type: what libraries of handlers share without knowing the user's state.
//!
//! Source: folly's EventBaseLocal.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use crate::registry::Registry;

/// At most one value of each type.
#[derive(Default)]
pub(crate) struct Locals {
    values: HashMap<TypeId, Box<dyn Any>, BuildHasherDefault<AsItIs>>,
}

/// The hash of a [`TypeId`], which is one already: buffers are asked for with every message.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl fmt::Debug for Locals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locals").field("values", &self.values.len()).finish()
    }
}

impl<S> Registry<S> {
    /// The value of type `T` of this loop, made by `T::default` when it is first asked for. It lives as long as the loop.
    ///
    /// For what a library of handlers shares between them on one loop, a scratch buffer or a cache: keep a type of your
    /// own for it, so that nobody else's value is meant. What belongs to the program belongs into the state `S`. One look
    /// into a hash map; one allocation the first time.
    ///
    /// ```
    /// # fn main() -> Result<(), reactor::Error> {
    /// #[derive(Default)]
    /// struct Scratch(Vec<u8>);
    ///
    /// let mut reactor = reactor::Reactor::<()>::new()?;
    /// reactor.local::<Scratch>().0.resize(65_536, 0);
    /// reactor.defer(|cx| assert_eq!(cx.registry.local::<Scratch>().0.len(), 65_536));
    /// reactor.run(&mut ())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn local<T: Default + 'static>(&mut self) -> &mut T {
        let value = self.locals.values.entry(TypeId::of::<T>()).or_insert_with(|| Box::new(T::default()));
        match value.downcast_mut() {
            Some(value) => value,
            None => unreachable!("a value is kept under its own type"),
        }
    }
}
