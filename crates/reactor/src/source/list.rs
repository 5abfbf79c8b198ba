//! The list of registrations, and the label of a registration in logs.

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

/// An entry of the list of registrations: see
/// [`Registry::registrations`](crate::Registry::registrations).
///
/// Displays as `3v1 fd 7 stream read (ready: none) echo::serve examples/echo.rs:31:18, 12 calls`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RegistrationInfo<'a> {
    /// The key of the registration.
    pub key: Key,
    /// The fd of the source; -1 for a notification queue.
    pub fd: RawFd,
    /// The kind of the source. If the type does not determine it, the kernel is asked. While the
    /// handler of such a source is running, `kind` is [`Kind::Unknown`].
    pub kind: Kind,
    /// The interest of the handler.
    pub interest: Interest,
    /// The known readiness of the source: readiness for which the handler was not called yet, and
    /// readiness that still holds after the last call of the handler.
    pub readiness: Readiness,
    /// The priority of the source.
    pub priority: Priority,
    /// `true` if the kernel refuses to watch the source because the source is always ready.
    pub always_ready: bool,
    /// `true` if [`Reactor::run`](crate::Reactor::run) keeps running while this registration
    /// exists. `false` if the registration is in the [background](crate::Registry::set_background).
    pub keeps_alive: bool,
    /// The name given by [`Registry::set_name`](crate::Registry::set_name), or else the type of the
    /// handler.
    pub name: &'a str,
    /// The line that registered the source.
    pub origin: &'static Location<'static>,
    /// The number of calls of the handler. For a queue, each value is one call. For the queue named
    /// "remote", each posted closure is one call. For a registration of [`Event`](crate::Event)s,
    /// each call of its handler is one call, however many events the registration waits for.
    pub calls: u64,
    /// The [name](crate::RequestContext::name) of its context, if it has one.
    #[cfg(feature = "request-context")]
    pub context: Option<&'static str>,
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
        #[cfg(feature = "request-context")]
        if let Some(context) = self.context {
            write!(f, ", in {context}")?;
        }
        Ok(())
    }
}

impl<S> Registry<S> {
    /// Returns all registrations. They are ordered by the first number of their keys, which is the
    /// 3 of a key that displays as `3v1`. Use the list for a status command, for a log line when
    /// the program ends, or to find a leak.
    ///
    /// A registration whose handler is running has the name `(running)`, unless it was given a
    /// name.
    ///
    /// ```
    /// use reactor::{Interest, Next, Reactor};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// let (reader, _writer) = std::io::pipe()?;
    /// let key = reactor.add(reader, Interest::READABLE, |_reader, _cx| Ok(Next::Keep))?;
    /// reactor.set_name(key, "commands")?;
    /// for registration in reactor.registrations() {
    ///     // 0v1 fd 5 pipe read (ready: none) commands src/main.rs:6:19, 0 calls
    ///     println!("{registration}");
    ///     assert_eq!((registration.key, registration.name), (key, "commands"));
    /// }
    /// # Ok(())
    /// # }
    /// ```
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
            keeps_alive: !slot.marks.is_background(),
            name: self.name_of(key, slot.entry.as_deref()),
            origin: slot.origin,
            calls: slot.calls,
            #[cfg(feature = "request-context")]
            context: self.contexts.of_sources.get(key).name(),
        })
    }

    pub(crate) fn name_of<'a>(&'a self, key: Key, entry: Option<&dyn Entry<S>>) -> &'a str {
        match self.sources.names.get(&key) {
            Some(name) => name,
            None => entry.map_or("(running)", |entry| entry.handler_type()),
        }
    }

    /// Returns the label of `key`, whose entry is `entry`, for logs.
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
