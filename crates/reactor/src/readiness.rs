//! Readiness and interest: what a source can do now, and what its handler wants to be called for.
//!
//! Seven facts are kept apart, one bit each. Four are *levels*: they hold until an operation on the source, or the end
//! of the source, disproves them. Three are *announcements*: nothing we could read tells us that they are over, so each
//! report of the kernel is delivered once and then forgotten.
//!
//! | fact | kind | from `epoll_ctl(2)` |
//! | --- | --- | --- |
//! | readable | level | `EPOLLIN` |
//! | writable | level | `EPOLLOUT` |
//! | read-closed | level | `EPOLLRDHUP`, `EPOLLHUP` |
//! | write-closed | level | `EPOLLHUP`; on the write end of a pipe `EPOLLERR` |
//! | priority | announcement | `EPOLLPRI` |
//! | error | announcement | `EPOLLERR` |
//! | timeout | announcement | none: the reactor's own |

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// The facts known of a source: what it can do, what has ended, what has happened.
///
/// A handler reads it from [`Context::readiness`](crate::Context::readiness), which tells why it is called. The facts
/// are independent of each other: a hung-up peer can leave bytes to read, and a source can be readable and writable in
/// one call.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Readiness(u8);

impl Readiness {
    /// No fact at all.
    pub const EMPTY: Self = Self(0);
    pub(crate) const READABLE: Self = Self(0x01);
    pub(crate) const PRIORITY: Self = Self(0x02);
    pub(crate) const WRITABLE: Self = Self(0x04);
    pub(crate) const ERROR: Self = Self(0x08);
    pub(crate) const READ_CLOSED: Self = Self(0x10);
    pub(crate) const WRITE_CLOSED: Self = Self(0x20);
    pub(crate) const TIMEOUT: Self = Self(0x40);
    /// The facts that are delivered once for each report.
    pub(crate) const ANNOUNCEMENTS: Self = Self(Self::PRIORITY.0 | Self::ERROR.0 | Self::TIMEOUT.0);

    const NAMES: [(Self, &'static str); 7] = [
        (Self::READABLE, "readable"),
        (Self::WRITABLE, "writable"),
        (Self::PRIORITY, "priority"),
        (Self::READ_CLOSED, "read-closed"),
        (Self::WRITE_CLOSED, "write-closed"),
        (Self::ERROR, "error"),
        (Self::TIMEOUT, "timeout"),
    ];

    /// Builds a set from bits that already are in this layout.
    #[inline]
    pub(crate) const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    #[inline]
    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    /// There is something to read, or to accept, or an end of stream to find.
    #[inline]
    pub const fn is_readable(self) -> bool {
        self.intersects(Self::READABLE)
    }

    /// There is room to write.
    #[inline]
    pub const fn is_writable(self) -> bool {
        self.intersects(Self::WRITABLE)
    }

    /// There is urgent data (TCP), a state change (a terminal in packet mode), a pressure alarm (PSI).
    #[inline]
    pub const fn is_priority(self) -> bool {
        self.intersects(Self::PRIORITY)
    }

    /// The peer has ended its direction: after what is still buffered, a read gives 0.
    #[inline]
    pub const fn is_read_closed(self) -> bool {
        self.intersects(Self::READ_CLOSED)
    }

    /// Nothing that is written arrives any more: a write would fail with `EPIPE` or `ECONNRESET`.
    #[inline]
    pub const fn is_write_closed(self) -> bool {
        self.intersects(Self::WRITE_CLOSED)
    }

    /// An error is pending on the source: the next read or write, or `SO_ERROR`, says which.
    #[inline]
    pub const fn is_error(self) -> bool {
        self.intersects(Self::ERROR)
    }

    /// The timeout set on this source has passed.
    #[inline]
    pub const fn is_timeout(self) -> bool {
        self.intersects(Self::TIMEOUT)
    }

    /// No fact is set.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub(crate) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    #[inline]
    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Readiness {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Readiness {
    #[inline]
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_names(f, Self::NAMES.iter().filter(|(fact, _)| self.intersects(*fact)).map(|(_, name)| *name))
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Readiness({self})")
    }
}

/// What a handler wants to be called for: a mask in user space, free to change.
///
/// A handler that wants to read is called when its source is readable, read-closed or in error; one that wants to write
/// when it is writable, write-closed or in error; one that wants priority on priority or error. With
/// [`Interest::NONE`] it is not called for anything its source does.
///
/// Changing it costs no system call, apart from the first time that a direction is wanted
/// ([`Registry::set_interest`](crate::Registry::set_interest)).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Interest(u8);

impl Interest {
    /// Nothing: the registration stays, its handler rests.
    pub const NONE: Self = Self(0);
    /// To read, to accept, or to learn that the peer has ended its direction.
    pub const READABLE: Self = Self(Readiness::READABLE.0);
    /// To write, to learn that a connect has finished, or that nobody will read what is written.
    pub const WRITABLE: Self = Self(Readiness::WRITABLE.0);
    /// Urgent data and other exceptional states (`EPOLLPRI`).
    pub const PRIORITY: Self = Self(Readiness::PRIORITY.0);

    /// Whether every part of `other` is wanted.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is wanted.
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// What is wanted here and not in `other`.
    #[inline]
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The facts for which a handler with this interest is called.
    #[inline]
    pub(crate) const fn facts(self) -> Readiness {
        const BY_INTEREST: [u8; 8] = {
            let mut table = [0; 8];
            let mut interest = 1;
            while interest < table.len() {
                let mut facts = interest as u8 | Readiness::ERROR.0;
                if Interest(interest as u8).contains(Interest::READABLE) {
                    facts |= Readiness::READ_CLOSED.0;
                }
                if Interest(interest as u8).contains(Interest::WRITABLE) {
                    facts |= Readiness::WRITE_CLOSED.0;
                }
                table[interest] = facts;
                interest += 1;
            }
            table
        };
        Readiness(BY_INTEREST[(self.0 & 7) as usize])
    }

    /// The facts that an operation in these directions disproves when it would block.
    #[inline]
    pub(crate) const fn levels(self) -> Readiness {
        Readiness(self.0)
    }

    /// The interest whose [`facts`](Self::facts) these are.
    #[inline]
    pub(crate) const fn of_facts(facts: Readiness) -> Self {
        Self(facts.0 & 7)
    }
}

impl BitOr for Interest {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Interest {
    #[inline]
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Display for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(Self::READABLE, "read"), (Self::WRITABLE, "write"), (Self::PRIORITY, "priority")];
        write_names(f, names.iter().filter(|(part, _)| self.contains(*part)).map(|(_, name)| *name))
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interest({self})")
    }
}

/// Writes `a+b+c`, or `none`.
fn write_names<'a>(f: &mut fmt::Formatter<'_>, names: impl Iterator<Item = &'a str>) -> fmt::Result {
    let mut separator = "";
    for name in names {
        write!(f, "{separator}{name}")?;
        separator = "+";
    }
    if separator.is_empty() { f.write_str("none") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interest_is_woken_by_its_own_direction_its_end_and_by_errors() {
        let read = Readiness::READABLE | Readiness::READ_CLOSED | Readiness::ERROR;
        let write = Readiness::WRITABLE | Readiness::WRITE_CLOSED | Readiness::ERROR;
        assert_eq!(Interest::READABLE.facts(), read);
        assert_eq!(Interest::WRITABLE.facts(), write);
        assert_eq!(Interest::PRIORITY.facts(), Readiness::PRIORITY | Readiness::ERROR);
        assert_eq!((Interest::READABLE | Interest::WRITABLE).facts(), read | write);
        assert_eq!(Interest::NONE.facts(), Readiness::EMPTY);
    }

    #[test]
    fn an_interest_is_recovered_from_its_facts() {
        for bits in 0..8 {
            assert_eq!(Interest::of_facts(Interest(bits).facts()), Interest(bits));
        }
    }

    #[test]
    fn facts_and_interests_are_shown_by_name() {
        assert_eq!((Readiness::READABLE | Readiness::READ_CLOSED).to_string(), "readable+read-closed");
        assert_eq!(Readiness::EMPTY.to_string(), "none");
        assert_eq!((Interest::READABLE | Interest::WRITABLE).to_string(), "read+write");
    }
}
