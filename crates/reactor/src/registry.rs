//! The registry: the part of a reactor that every callback can use.
//!
//! Each field holds the data of one folder, and the methods that work on it are in that folder:
//!
//! | field | content | its methods |
//! | --- | --- | --- |
//! | `sources` | the registrations, and the queue of ready sources | `source/` |
//! | `timers` | the wheel, and the timers that are due | `timer/` |
//! | `inbox` | messages from other threads | `notify/` |
//! | `deferred`, `hooks`, `turn` | further callbacks; policies; why the loop ends | `turn/` |
//! | `contexts` | the contexts that callbacks carry | `request_context/` |
//! | `time` | the time of the turn | `turn/time.rs` |
//! | `sys` | the kernel, or its stand-in in tests | `sys/` |

use std::collections::VecDeque;

use crate::callback::{Deferred, Entry, HookFn, TimerFn};
use crate::locals::Locals;
use crate::notify::inbox::LoopInbox;
use crate::notify::posts::PostBox;
use crate::request_context::Contexts;
use crate::source::Sources;
use crate::sys::Sys;
use crate::timer::Timers;
use crate::turn::Turn;
use crate::turn::hook_list::Hooks;
use crate::turn::metrics::Metrics;
use crate::turn::time::Time;

/// The set of registrations of a loop, with the methods to add, remove, change, defer and stop.
///
/// A callback reaches it as [`Context::registry`](crate::Context::registry). Outside callbacks a
/// [`Reactor`](crate::Reactor) dereferences to it. A `Registry` is not `Send`, because it belongs
/// to the thread of the loop, as the handlers do.
///
/// A *turn* is one iteration of the loop: it waits until something is ready, and then calls the
/// handlers. See [`Reactor::turn`](crate::Reactor::turn).
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
    pub(crate) contexts: Contexts,
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
            contexts: Contexts::default(),
        }
    }

    /// Returns this loop's value of type `T`. The first use makes the value by `T::default`. The
    /// value lives until the reactor is dropped.
    ///
    /// Use it for a value that the handlers of a library share on one loop, such as a scratch
    /// buffer or a cache. Define a type of your own for it: if two libraries use the same type,
    /// they share one value. Values of the program belong in the state `S`.
    ///
    /// # Cost
    /// One search through the list of the types in use. One allocation on the first use of a type.
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

    /// Returns the counters of this loop.
    ///
    /// ```
    /// # fn main() -> Result<(), reactor::Error> {
    /// let mut reactor = reactor::Reactor::<()>::new()?;
    /// reactor.defer(|_cx| ());
    /// reactor.run(&mut ())?;
    /// let metrics = reactor.metrics();
    /// assert_eq!((metrics.turns, metrics.deferred, metrics.sleeps), (1, 1, 0));
    /// # Ok(())
    /// # }
    /// ```
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
