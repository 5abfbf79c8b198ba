//! Values of a loop, by their type: what libraries of handlers share without knowing the user's state.
//!
//! Source: folly's EventBaseLocal.

use std::any::{Any, TypeId};
use std::fmt;

use crate::registry::Registry;
use crate::supervise::Disposal;

/// At most one value of each type. A loop has a few of them, and asks with every message: a list that is looked through
/// takes a fifth of the instructions of a hash map.
#[derive(Default)]
pub(crate) struct Locals {
    values: Vec<(TypeId, Box<dyn Any>)>,
}

impl Locals {
    /// Drops all of them, with the loop.
    pub(crate) fn end_all(&mut self, disposal: &mut Disposal) {
        let mut values = std::mem::take(&mut self.values).into_iter();
        disposal.drop_each(|| values.next().is_some());
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
    /// through the list of these types; one allocation the first time.
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
    #[inline]
    pub fn local<T: Default + 'static>(&mut self) -> &mut T {
        let values = &mut self.locals.values;
        let place = values.iter().position(|(id, _)| *id == TypeId::of::<T>()).unwrap_or_else(|| {
            values.push((TypeId::of::<T>(), Box::new(T::default())));
            values.len() - 1
        });
        match values[place].1.downcast_mut() {
            Some(value) => value,
            None => unreachable!("a value is kept under its own type"),
        }
    }
}
