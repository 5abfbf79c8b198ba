//! Readiness and interest: the facts about a source, and the facts that its handler is called for.
//!
//! Seven facts are kept apart, one bit each. Four are *levels*: they hold until an operation on the
//! source, or the end of the source, disproves them. Three are *announcements*: no read or write
//! shows that they are over, so each report of the kernel is delivered once and then forgotten.
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

//!
//! The bits are those of `epoll_event.events`, so an event of the kernel is a `Readiness` without
//! conversion. A hang-up (`EPOLLHUP`) is one bit there and ends both directions: it is part of two
//! facts.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{BitOr, BitOrAssign};

use rustix::event::epoll::EventFlags;

/// The known facts about a source: the operations it is ready for, the directions that have ended,
/// and pending errors and timeouts.
///
/// A handler learns from [`Context::readiness`](crate::Context::readiness) why it is called. The
/// facts are independent of each other: a peer that has hung up can leave bytes to read, and a
/// source can be readable and writable in one call.
///
/// Build one from the constants and `|`, for the unit test of a handler:
///
/// ```
/// use reactor::Readiness;
///
/// let facts = Readiness::READABLE | Readiness::READ_CLOSED;
/// assert!(facts.is_readable() && facts.is_read_closed() && !facts.is_writable());
/// ```
#[derive(Clone, Copy, Default)]
pub struct Readiness(u16);

impl Readiness {
    /// No fact.
    pub const EMPTY: Self = Self(0);
    /// Every fact.
    pub(crate) const ALL: Self = Self(u16::MAX);
    /// There is data to read: [`is_readable`](Self::is_readable).
    pub const READABLE: Self = Self::from_kernel(EventFlags::IN);
    /// There is room to write: [`is_writable`](Self::is_writable).
    pub const WRITABLE: Self = Self::from_kernel(EventFlags::OUT);
    /// There is urgent data, or a state change: [`is_priority`](Self::is_priority).
    pub const PRIORITY: Self = Self::from_kernel(EventFlags::PRI);
    /// The peer has closed its write side: [`is_read_closed`](Self::is_read_closed).
    #[doc(alias("EV_CLOSED", "UV_DISCONNECT", "EPOLLRDHUP"))]
    pub const READ_CLOSED: Self = Self::from_kernel(EventFlags::RDHUP);
    /// Written data does not arrive any more: [`is_write_closed`](Self::is_write_closed).
    // A bit of our own, for the write end of a pipe.
    pub const WRITE_CLOSED: Self = Self(0x0800);
    /// An error is pending: [`is_error`](Self::is_error).
    pub const ERROR: Self = Self::from_kernel(EventFlags::ERR);
    /// The timeout has expired: [`is_timeout`](Self::is_timeout).
    pub const TIMEOUT: Self = Self(0x4000);
    const HUNG_UP: u16 = EventFlags::HUP.bits() as u16;
    /// The bits that each mean read-closed. A hang-up also means write-closed.
    pub(crate) const READ_CLOSED_BITS: Self = Self(Self::READ_CLOSED.0 | Self::HUNG_UP);
    /// The bits that each mean write-closed. A hang-up also means read-closed.
    pub(crate) const WRITE_CLOSED_BITS: Self = Self(Self::WRITE_CLOSED.0 | Self::HUNG_UP);
    /// Not a fact: the result of a call that has ended its registration.
    pub(crate) const ENDED: Self = Self(0x8000);
    /// Not a fact: an operation of this call has returned `WouldBlock`.
    pub(crate) const MET_WOULD_BLOCK: Self = Self(0x0400);
    /// Not a fact: the facts that were forgotten were not disproved, so the kernel must be asked
    /// again.
    pub(crate) const RECHECK: Self = Self(0x1000);
    /// Not a fact: all facts are as they were before this call.
    pub(crate) const AS_BEFORE: Self = Self(0x0200);
    /// The results that a call seldom has, and that the loop must look at.
    pub(crate) const SELDOM: Self = Self(Self::ENDED.0 | Self::RECHECK.0 | Self::AS_BEFORE.0);
    /// The facts that are delivered once for each report.
    pub(crate) const ANNOUNCEMENTS: Self = Self(Self::PRIORITY.0 | Self::ERROR.0 | Self::TIMEOUT.0);

    /// The facts that are checked before a call, because they may mean more or less than they say.
    pub(crate) const CHECKED_BEFORE_CALL: Self = Self(Self::ANNOUNCEMENTS.0 | Self::HUNG_UP);

    /// The facts that do not outlast a call.
    pub(crate) const OF_ONE_CALL: Self = Self(Self::ANNOUNCEMENTS.0 | Self::MET_WOULD_BLOCK.0);

    /// Every fact by its own bit.
    const FACTS: u16 = Self::ANNOUNCEMENTS.0
        | Self::READABLE.0
        | Self::WRITABLE.0
        | Self::READ_CLOSED.0
        | Self::WRITE_CLOSED.0;

    const NAMES: [(Self, &'static str); 7] = [
        (Self::READABLE, "readable"),
        (Self::WRITABLE, "writable"),
        (Self::PRIORITY, "priority"),
        (Self::READ_CLOSED_BITS, "read-closed"),
        (Self::WRITE_CLOSED_BITS, "write-closed"),
        (Self::ERROR, "error"),
        (Self::TIMEOUT, "timeout"),
    ];

    /// Returns the facts of an event. No bit of the kernel above `EPOLLRDHUP` is requested, so half
    /// of its bits are enough.
    #[inline]
    pub(crate) const fn from_kernel(flags: EventFlags) -> Self {
        Self(flags.bits() as u16)
    }

    #[cfg(test)]
    pub(crate) const fn to_kernel(self) -> EventFlags {
        EventFlags::from_bits_retain(self.0 as u32)
    }

    /// Returns `true` if there is data to read, a connection to accept, or an end of stream to
    /// find.
    #[inline]
    pub const fn is_readable(self) -> bool {
        self.intersects(Self::READABLE)
    }

    /// Returns `true` if there is room to write.
    #[inline]
    pub const fn is_writable(self) -> bool {
        self.intersects(Self::WRITABLE)
    }

    /// Returns `true` if there is urgent data (TCP), a state change (a terminal in packet mode) or
    /// a pressure alarm (PSI).
    #[inline]
    pub const fn is_priority(self) -> bool {
        self.intersects(Self::PRIORITY)
    }

    /// Returns `true` if the peer has closed its write side: a read returns 0 once the buffered
    /// data has been read.
    #[inline]
    pub const fn is_read_closed(self) -> bool {
        self.intersects(Self::READ_CLOSED_BITS)
    }

    /// Returns `true` if written data no longer reaches the peer: a write would fail with `EPIPE`
    /// or `ECONNRESET`.
    #[inline]
    pub const fn is_write_closed(self) -> bool {
        self.intersects(Self::WRITE_CLOSED_BITS)
    }

    /// Returns `true` if an error is pending on the source. The next read or write, or `SO_ERROR`,
    /// returns it.
    #[inline]
    pub const fn is_error(self) -> bool {
        self.intersects(Self::ERROR)
    }

    /// Returns `true` if the [timeout](crate::Registry::set_timeout) of this source has expired.
    #[inline]
    pub const fn is_timeout(self) -> bool {
        self.intersects(Self::TIMEOUT)
    }

    /// Returns `true` if no fact is set.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 & !(Self::SELDOM.0 | Self::MET_WOULD_BLOCK.0) == 0
    }

    #[inline]
    pub(crate) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns `true` for a hang-up without a closed write side of the peer. On a stream socket it
    /// means that the socket is not connected.
    #[inline]
    pub(crate) const fn is_only_hang_up(self) -> bool {
        self.0 & Self::HUNG_UP != 0 && self.0 & EventFlags::RDHUP.bits() as u16 == 0
    }

    #[inline]
    pub(crate) const fn only(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the facts without these bits. A hang-up is one bit, so both of its facts are
    /// removed, or none.
    #[inline]
    pub(crate) const fn without_bits(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns the facts of `self` that are not in `other`.
    ///
    /// ```
    /// use reactor::Readiness;
    ///
    /// let facts = Readiness::READABLE | Readiness::READ_CLOSED;
    /// assert_eq!(facts.without(Readiness::READABLE), Readiness::READ_CLOSED);
    /// ```
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.each_fact().0 & !other.each_fact().0)
    }

    /// Returns the same facts and nothing else, with a hang-up as its two facts.
    const fn each_fact(self) -> Self {
        let hang_up = if self.0 & Self::HUNG_UP == 0 {
            0
        } else {
            Self::READ_CLOSED.0 | Self::WRITE_CLOSED.0
        };
        Self((self.0 | hang_up) & Self::FACTS)
    }
}

/// Two values are equal if they have the same facts.
impl PartialEq for Readiness {
    fn eq(&self, other: &Self) -> bool {
        self.each_fact().0 == other.each_fact().0
    }
}

impl Eq for Readiness {}

/// Values that are equal have the same hash.
impl Hash for Readiness {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.each_fact().0.hash(state);
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
        write_names(
            f,
            Self::NAMES
                .iter()
                .filter(|(fact, _)| self.intersects(*fact))
                .map(|(_, name)| *name),
        )
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Readiness({self})")
    }
}

/// The kinds of [`Readiness`] for which a handler is called: a mask in user space that can be
/// changed at any time.
///
/// A handler with `READABLE` is called when its source is readable, read-closed or in error. A
/// handler with `WRITABLE` is called when its source is writable, write-closed or in error. A
/// handler with `PRIORITY` is called when its source has urgent data, another exceptional state, or
/// an error. A handler with [`Interest::NONE`] is called only for its
/// [timeout](crate::Registry::set_timeout), if one is set.
///
/// Changing the interest usually costs no system call: see the cost of
/// [`Registry::set_interest`](crate::Registry::set_interest).
///
/// ```
/// use reactor::Interest;
///
/// let both = Interest::READABLE | Interest::WRITABLE;
/// assert!(both.contains(Interest::WRITABLE));
/// assert_eq!(both.without(Interest::WRITABLE), Interest::READABLE);
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Interest(u8);

impl Interest {
    /// No direction. The registration stays, but its handler is paused.
    pub const NONE: Self = Self(0);
    /// To read, to accept, or to learn that the peer has closed its write side.
    #[doc(alias("EV_READ", "UV_READABLE", "EPOLLIN"))]
    pub const READABLE: Self = Self(Readiness::READABLE.0 as u8);
    /// To write, to learn that a connect has finished, or that the reader is gone.
    #[doc(alias("EV_WRITE", "UV_WRITABLE", "EPOLLOUT"))]
    pub const WRITABLE: Self = Self(Readiness::WRITABLE.0 as u8);
    /// Urgent data and other exceptional states (`EPOLLPRI`).
    #[doc(alias("UV_PRIORITIZED", "EPOLLPRI"))]
    pub const PRIORITY: Self = Self(Readiness::PRIORITY.0 as u8);
    const ALL: Self = Self(Self::READABLE.0 | Self::WRITABLE.0 | Self::PRIORITY.0);

    /// Returns `true` if every direction of `other` is included.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns `true` if no direction is included.
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Returns the directions of `self` that are not in `other`.
    #[inline]
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns the facts for which a handler with this interest is called.
    #[inline]
    pub(crate) const fn facts(self) -> Readiness {
        let mut facts = self.levels().0;
        if self.contains(Self::READABLE) {
            facts |= Readiness::READ_CLOSED_BITS.0;
        }
        if self.contains(Self::WRITABLE) {
            facts |= Readiness::WRITE_CLOSED_BITS.0;
        }
        if !self.is_none() {
            facts |= Readiness::ERROR.0;
        }
        Readiness(facts)
    }

    /// Returns the facts that the handler is called for: [`facts`](Self::facts), and always a
    /// timeout. The bits that the loop checks after a call are included, so that one test says
    /// whether the call has left anything to do.
    #[inline]
    pub(crate) const fn wanted(self) -> Readiness {
        Readiness(self.facts().0 | Readiness::TIMEOUT.0 | Readiness::SELDOM.0)
    }

    /// Returns the facts among the [`facts`](Self::facts) which mean that an operation can be done
    /// now.
    #[inline]
    const fn levels(self) -> Readiness {
        Readiness(self.0 as u16)
    }

    /// Returns the facts that a short read or write in this direction disproves.
    #[inline]
    pub(crate) const fn disproved_by_short(self) -> Readiness {
        self.levels()
    }

    /// Returns the facts that an operation disproves when it would block. A direction that has
    /// ended never blocks.
    #[inline]
    pub(crate) const fn disproved_by_would_block(self) -> Readiness {
        self.facts().without_bits(Readiness::ERROR)
    }

    /// Returns the directions that the kernel watches for this interest. A reader must also learn
    /// of urgent data, at whose mark a read stops short (see io_state.rs).
    #[inline]
    pub(crate) const fn watched(self) -> Self {
        if self.contains(Self::READABLE) {
            Self(self.0 | Self::PRIORITY.0)
        } else {
            self
        }
    }

    /// Returns the same interest. For an empty one, returns the least that can be watched: urgent
    /// data, which hardly ever comes.
    #[inline]
    pub(crate) const fn or_least(self) -> Self {
        if self.is_none() { Self::PRIORITY } else { self }
    }

    /// Returns `true` for several directions. If an operation in several directions would block, it
    /// is not known in which.
    #[inline]
    pub(crate) const fn is_several(self) -> bool {
        self.0.count_ones() > 1
    }

    /// Returns the interest whose [`wanted`](Self::wanted) facts these are.
    #[inline]
    pub(crate) const fn of_facts(facts: Readiness) -> Self {
        Self(facts.0 as u8 & Self::ALL.0)
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
        let names = [
            (Self::READABLE, "read"),
            (Self::WRITABLE, "write"),
            (Self::PRIORITY, "priority"),
        ];
        write_names(
            f,
            names
                .iter()
                .filter(|(part, _)| self.contains(*part))
                .map(|(_, name)| *name),
        )
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interest({self})")
    }
}

/// Writes `a+b+c`, or `none`.
fn write_names<'a>(
    f: &mut fmt::Formatter<'_>,
    names: impl Iterator<Item = &'a str>,
) -> fmt::Result {
    let mut separator = "";
    for name in names {
        write!(f, "{separator}{name}")?;
        separator = "+";
    }
    if separator.is_empty() {
        f.write_str("none")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_interest_is_woken_by_its_own_direction_its_end_and_by_errors() {
        let read = Readiness::READABLE | Readiness::READ_CLOSED_BITS | Readiness::ERROR;
        let write = Readiness::WRITABLE | Readiness::WRITE_CLOSED_BITS | Readiness::ERROR;
        assert_eq!(Interest::READABLE.facts(), read);
        assert_eq!(Interest::WRITABLE.facts(), write);
        assert_eq!(
            Interest::PRIORITY.facts(),
            Readiness::PRIORITY | Readiness::ERROR
        );
        assert_eq!(
            (Interest::READABLE | Interest::WRITABLE).facts(),
            read | write
        );
        assert_eq!(Interest::NONE.facts(), Readiness::EMPTY);
    }

    #[test]
    fn an_interest_is_recovered_from_its_facts() {
        for interest in [
            Interest::NONE,
            Interest::PRIORITY,
            Interest::READABLE | Interest::WRITABLE,
            Interest::ALL,
        ] {
            assert_eq!(Interest::of_facts(interest.wanted()), interest);
        }
    }

    #[test]
    fn the_kernels_bits_are_distinguished_as_seven_facts() {
        for (flags, facts) in [
            (EventFlags::IN, "readable"),
            (EventFlags::PRI, "priority"),
            (EventFlags::OUT, "writable"),
            (EventFlags::ERR, "error"),
            (EventFlags::RDHUP, "read-closed"),
            (EventFlags::HUP, "read-closed+write-closed"),
            (
                EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP,
                "readable+writable+read-closed",
            ),
            (EventFlags::empty(), "none"),
        ] {
            assert_eq!(Readiness::from_kernel(flags).to_string(), facts);
        }
        assert_eq!(Readiness::TIMEOUT.to_string(), "timeout");
    }

    #[test]
    fn facts_are_equal_for_different_bits_of_the_kernel() {
        let half_closed_twice = Readiness::from_kernel(EventFlags::RDHUP) | Readiness::WRITE_CLOSED;
        assert_eq!(half_closed_twice, Readiness::from_kernel(EventFlags::HUP));
        assert_ne!(half_closed_twice, Readiness::READABLE);
    }

    #[test]
    fn a_fact_states_itself_alone() {
        let facts = Readiness::NAMES.map(|(_, name)| name);
        let of_its_own = [
            Readiness::READABLE,
            Readiness::WRITABLE,
            Readiness::PRIORITY,
            Readiness::READ_CLOSED,
            Readiness::WRITE_CLOSED,
            Readiness::ERROR,
            Readiness::TIMEOUT,
        ];
        assert_eq!(of_its_own.map(|fact| fact.to_string()), facts);
    }

    #[test]
    fn a_hang_up_without_one_end_is_the_other() {
        let hung_up = Readiness::from_kernel(EventFlags::HUP);
        assert_eq!(
            hung_up.without(Readiness::READ_CLOSED),
            Readiness::WRITE_CLOSED
        );
        assert_eq!(
            hung_up.without(Readiness::WRITE_CLOSED),
            Readiness::READ_CLOSED
        );
        assert_eq!(
            (hung_up | Readiness::ENDED).without(hung_up),
            Readiness::EMPTY
        );
    }

    #[test]
    fn readiness_that_is_equal_has_the_same_hash() {
        let hung_up = Readiness::from_kernel(EventFlags::HUP);
        let both_closed = Readiness::READ_CLOSED | Readiness::WRITE_CLOSED | Readiness::RECHECK;
        assert_eq!(
            HashSet::from([hung_up, both_closed, Readiness::READABLE]).len(),
            2
        );
    }

    #[test]
    fn facts_and_interests_are_shown_by_name() {
        assert_eq!(format!("{:?}", Readiness::READABLE), "Readiness(readable)");
        assert_eq!(Interest::NONE.to_string(), "none");
        assert_eq!(
            (Interest::READABLE | Interest::WRITABLE).to_string(),
            "read+write"
        );
    }
}
