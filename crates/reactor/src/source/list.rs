//! The list of what is registered, and how a registration appears in logs.

use std::fmt;
use std::os::fd::RawFd;
use std::panic::Location;

use super::kind::Kind;
use super::readiness::{Interest, Readiness};
use super::ready::Priority;
use crate::callback::Entry;
use crate::registry::Registry;
use crate::slots::Key;
use crate::turn::policies::Label;

/// One line of the list of what is registered: [`Registry::registrations`](crate::Registry::registrations).
///
/// Displays as `3v1 fd 7 stream read (ready: none) echo::serve examples/echo.rs:31:18, 12 calls`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RegistrationInfo<'a> {
    /// Its key.
    pub key: Key,
    /// The fd of its source; -1 for a notification queue.
    pub fd: RawFd,
    /// What the fd is. Where its type does not say it the kernel is asked; while the handler of such a one is running it is
    /// [`Kind::Unknown`].
    pub kind: Kind,
    /// What its handler wants to be called for.
    pub interest: Interest,
    /// What is known of the source, and has not been delivered or not been used up.
    pub readiness: Readiness,
    /// Its place among the ready.
    pub priority: Priority,
    /// Whether the kernel refuses to watch it because it is always ready.
    pub always_ready: bool,
    /// Whether it keeps [`Reactor::run`](crate::Reactor::run) alive.
    pub keeps_alive: bool,
    /// The name given by [`Registry::set_name`](crate::Registry::set_name), or else the type of the handler.
    pub name: &'a str,
    /// Where it was registered.
    pub origin: &'static Location<'static>,
    /// How often its handler has been called: that of a queue once for each value, that of an event once for each time that
    /// it was set. The queue named "remote" counts the closures that were posted.
    pub calls: u64,
}

impl fmt::Display for RegistrationInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            fd,
            kind,
            interest,
            readiness,
            name,
            origin,
            calls,
            ..
        } = self;
        write!(
            f,
            "{key} fd {fd} {kind} {interest} (ready: {readiness}) {name} {origin}, {calls} calls"
        )?;
        if self.priority != Priority::Normal {
            write!(f, ", {} priority", self.priority)?;
        }
        if self.always_ready {
            f.write_str(", always ready")?;
        }
        if !self.keeps_alive {
            f.write_str(", background")?;
        }
        Ok(())
    }
}

impl<S> Registry<S> {
    /// Everything that is registered, in the order of places: for a status command, a log line at the end, a leak hunt.
    ///
    /// The registration whose handler is running is named `(running)` unless it was given a name.
    #[doc(alias("event_base_foreach_event", "event_base_dump_events", "uv_walk"))]
    pub fn registrations(&self) -> impl Iterator<Item = RegistrationInfo<'_>> {
        self.sources.iter().map(|(key, slot)| RegistrationInfo {
            key,
            fd: slot.fd,
            kind: slot
                .entry
                .as_deref()
                .map_or(slot.kind, |entry| entry.kind()),
            interest: Interest::of_facts(slot.wanted),
            readiness: slot.ready,
            priority: slot.priority,
            always_ready: slot.always_ready && slot.kind != Kind::Queue,
            keeps_alive: !slot.background,
            name: self.name_of(key, slot.entry.as_deref()),
            origin: slot.origin,
            calls: slot.calls,
        })
    }

    pub(crate) fn name_of<'a>(&'a self, key: Key, entry: Option<&dyn Entry<S>>) -> &'a str {
        match self.sources.names.get(&key) {
            Some(name) => name,
            None => entry.map_or("(running)", |entry| entry.handler_type()),
        }
    }

    /// How `key`, whose entry this is, appears in logs.
    pub(crate) fn label<'a>(&'a self, key: Key, entry: &dyn Entry<S>) -> Label<'a> {
        Label {
            name: self.name_of(key, Some(entry)),
            origin: self.sources.get(key).map(|slot| slot.origin),
        }
    }
}

impl<S> fmt::Debug for Registry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.registrations()).finish()
    }
}
