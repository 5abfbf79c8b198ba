//! Values of a loop, by their type: shared by libraries of handlers that do not know the user's
//! state.
//!
//! Source: folly's EventBaseLocal.

use std::any::{Any, TypeId};
use std::fmt;

use crate::turn::disposal::Disposal;

/// A list of values, at most one of each type. A loop has a few of them and looks one up with every
/// message: searching a list takes a fifth of the instructions of a hash map.
#[derive(Default)]
pub(crate) struct Locals {
    values: Vec<(TypeId, Box<dyn Any>)>,
}

impl Locals {
    /// Returns the value of a type, made on first use.
    #[inline]
    pub(crate) fn get<T: Default + 'static>(&mut self) -> &mut T {
        let values = &mut self.values;
        let place = values
            .iter()
            .position(|(id, _)| *id == TypeId::of::<T>())
            .unwrap_or_else(|| {
                values.push((TypeId::of::<T>(), Box::new(T::default())));
                values.len() - 1
            });
        match values[place].1.downcast_mut() {
            Some(value) => value,
            None => unreachable!("a value is kept under its own type"),
        }
    }

    /// Drops all values at the end of the loop.
    pub(crate) fn end_all(&mut self, disposal: &mut Disposal) {
        let mut values = std::mem::take(&mut self.values).into_iter();
        disposal.drop_each(|| values.next().is_some());
    }
}

impl fmt::Debug for Locals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locals")
            .field("values", &self.values.len())
            .finish()
    }
}
