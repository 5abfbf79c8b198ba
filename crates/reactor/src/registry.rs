//! The registry: what every callback has in its hands.
//!
//! It is made of rooms. Each field is the data of one folder, and the methods that work on it stand in that folder:
//!
//! | field | what lies there | its methods |
//! | --- | --- | --- |
//! | `sources` | the registrations, and those that are ready | `source/` |
//! | `timers` | the wheel, and what is due | `timer/` |
//! | `inbox` | where other threads meet the loop | `notify/` |
//! | `deferred`, `hooks`, `turn` | what a turn runs beside sources and timers; its policies; why it ends | `turn/` |
//! | `time` | the time of the turn | `turn/time.rs` |
//! | `sys` | the kernel, or what stands in for it | `sys/` |

use std::collections::VecDeque;

use crate::callback::{Deferred, Entry, HookFn, TimerFn};
use crate::locals::Locals;
use crate::notify::inbox::LoopInbox;
use crate::notify::posts::PostBox;
use crate::source::Sources;
use crate::sys::Sys;
use crate::timer::Timers;
use crate::turn::Turn;
use crate::turn::hook_list::Hooks;
use crate::turn::metrics::Metrics;
use crate::turn::time::Time;

/// Where registrations live: add, remove, change, defer, stop.
///
/// A callback reaches it as [`Context::registry`](crate::Context::registry); outside of callbacks a [`Reactor`](crate::Reactor)
/// dereferences to it. Not `Send`: it belongs to the loop's thread, as the handlers do.
#[doc(alias("LoopHandle", "Handle"))]
pub struct Registry<S> {
    pub(crate) sources: Sources<dyn Entry<S>>,
    pub(crate) timers: Timers<TimerFn<S>>,
    pub(crate) inbox: LoopInbox<PostBox<S>>,
    pub(crate) deferred: VecDeque<Deferred<S>>,
    pub(crate) hooks: Hooks<HookFn<S>>,
    pub(crate) turn: Turn,
    pub(crate) time: Time,
    pub(crate) sys: Sys,
    pub(crate) metrics: Metrics,
    pub(crate) locals: Locals,
}

impl<S> Registry<S> {
    pub(crate) fn new(sys: Sys, time: Time, turn: Turn, max_registrations: usize) -> Self {
        Self {
            sources: Sources::new(max_registrations),
            timers: Timers::new(time.started()),
            inbox: LoopInbox::default(),
            deferred: VecDeque::new(),
            hooks: Hooks::new(),
            turn,
            time,
            sys,
            metrics: Metrics::default(),
            locals: Locals::default(),
        }
    }

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
    #[doc(alias("EventBaseLocal"))]
    #[inline]
    pub fn local<T: Default + 'static>(&mut self) -> &mut T {
        self.locals.get()
    }

    /// What the loop has done so far.
    pub fn metrics(&self) -> Metrics {
        let signals = self.inbox.hub.as_ref().map_or(0, |hub| hub.signals());
        let deferred = self.metrics.deferred - self.turn.cancelled.ended;
        Metrics {
            clock_reads: self.time.reads(),
            wakeups: signals,
            deferred,
            ..self.metrics
        }
    }
}
