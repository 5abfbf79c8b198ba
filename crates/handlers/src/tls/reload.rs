//! A configuration that can be replaced while sessions use it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::error::TlsError;

/// The options that a configuration was loaded from, and the configuration that new sessions get.
/// A session keeps the one that it began with.
#[derive(Debug)]
pub(super) struct Reloadable<O, C> {
    options: Option<O>,
    current: RwLock<Arc<C>>,
    /// Held while a configuration is loaded. Without it, an older load could replace a newer one.
    loading: Mutex<()>,
}

impl<O, C> Reloadable<O, C> {
    pub(super) const fn new(options: Option<O>, config: Arc<C>) -> Self {
        Self {
            options,
            current: RwLock::new(config),
            loading: Mutex::new(()),
        }
    }

    pub(super) fn current(&self) -> Arc<C> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn replace(&self, config: Arc<C>) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, config);
        drop(current); // before the old configuration, whose destructors may be of the user
        drop(old);
    }

    /// Loads the configuration again. `load` gets the options and the present configuration.
    pub(super) fn reload(&self, load: impl FnOnce(&O, &C) -> io::Result<C>) -> io::Result<()> {
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(options) = &self.options else {
            let text = "a configuration of rustls has no files to load again: use `replace`";
            return Err(TlsError::config(text).into());
        };
        self.replace(Arc::new(load(options, &self.current())?));
        Ok(())
    }
}
