//! `RequestContext`: a span and values, shared by everything that happens on behalf of a request.

use std::any::{Any, type_name};
use std::fmt;
use std::sync::Arc;

use tracing::Span;

use super::current::{self, SetAside};
use crate::turn::disposal::Disposal;

/// The context of a request: a [`tracing::Span`] and any values, for example the id of the request.
///
/// A daemon handles one request in many callbacks. The loop carries the context from one to the
/// next: the context that is [current](Self::current) when work is handed on is current again while
/// its callback runs, on whatever thread and loop. After the callback, nothing is current until the
/// next callback.
///
/// | handed on by | carried |
/// | --- | --- |
/// | [`add`](crate::Registry::add), [`consume`](crate::Registry::consume), [`on_event`](crate::Registry::on_event) | to each call of the handler |
/// | [`after`](crate::Registry::after), [`every`](crate::Registry::every), [`at_wall`](crate::Registry::at_wall) | to each call of the timer |
/// | [`before_wait`](crate::Registry::before_wait), [`idle`](crate::Registry::idle) and the other hooks | to each call of the hook |
/// | [`defer`](crate::Registry::defer) | to the callback |
/// | [`post`](crate::Remote::post), [`call`](crate::Remote::call), [`on_room`](crate::Sender::on_room) | to the closure |
/// | [`try_send`](crate::Sender::try_send) and the other sends to a queue | to the call of the handler for this value |
/// | the end of a registration | to [`closing`](crate::Handler::closing) and [`closed`](crate::Handler::closed) |
/// | [`LoopThread::spawn`](crate::LoopThread::spawn) | to `set_up` |
///
/// A value of a queue that was sent without a context is handled in the context of the queue. The
/// log line about a slow call of a queue is in the context of the queue, since such a call may
/// handle many values. A closure of [`with_handler`](crate::Context::with_handler) and a
/// [`request`](crate::Handler::request) run in the context of their caller, except
/// [`in_own_context`](crate::Context::in_own_context).
///
/// With the feature of the same name, the crate `handlers` carries a context to the callbacks of
/// connections, jobs, lookups and all else that it has. Its first page lists them.
///
/// A context is a value that never changes: [`with`](Self::with) makes another one. To give the
/// callbacks of a registration another context, for example for the next request on a connection,
/// use [`Context::set_context`](crate::Context::set_context) or
/// [`Registry::set_context`](crate::Registry::set_context).
///
/// A context is dropped with its carrier: with the timer when it has run, with the registration
/// when it is removed, with the value when it is handled. A span stays open while it is carried.
///
/// # Cost
/// A clone is one atomic increment. Without the feature `request-context` this type does not exist,
/// and nothing is carried. With it, see `docs/costs.md`.
///
/// `docs/request-context.md` has a server that logs the id of each request, and says what is not
/// carried.
///
/// ```
/// use reactor::{Reactor, RequestContext, Then};
/// use std::time::Duration;
///
/// struct RequestId(u64);
///
/// /// Whatever runs on behalf of a request knows its id.
/// fn id() -> Option<u64> {
///     RequestContext::current().get::<RequestId>().map(|id| id.0)
/// }
///
/// # fn main() -> Result<(), reactor::Error> {
/// let mut reactor = Reactor::<Vec<Option<u64>>>::new()?;
/// RequestContext::NONE.with(RequestId(7)).scope(|| {
///     reactor.after(Duration::ZERO, |cx| {
///         cx.state.push(id());
///         cx.registry.defer(|cx| cx.state.push(id()));
///         Ok(Then::Done)
///     });
/// });
/// reactor.defer(|cx| cx.state.push(id())); // not on behalf of a request
/// let mut ids = Vec::new();
/// reactor.run(&mut ids)?;
/// assert_eq!(ids, [Some(7), None, Some(7)]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
#[doc(alias(
    "ShallowCopyRequestContextScopeGuard",
    "AsyncLocalStorage",
    "contextvars"
))]
pub struct RequestContext(Option<Arc<Parts>>);

#[derive(Clone)]
struct Parts {
    span: Span,
    values: Values,
}

/// The last of several owners drops them, wherever it is: in a callback that a panic unwinds
/// through, too. So a destructor that panics there must not end the process.
#[derive(Clone, Default)]
struct Values(Vec<Value>);

impl Drop for Values {
    fn drop(&mut self) {
        let mut disposal = Disposal::default();
        disposal.drop_each(|| self.0.pop().is_some());
        disposal.resume();
    }
}

#[derive(Clone)]
struct Value {
    type_name: &'static str,
    value: Arc<dyn Any + Send + Sync>,
}

impl RequestContext {
    pub(crate) const ENABLED: bool = true;

    /// No context: no span and no values. Default of each thread.
    pub const NONE: Self = Self(None);

    /// Returns the context that is current on this thread.
    ///
    /// The span of the result is the current span of `tracing`. It need not come from a context: a
    /// span that was [entered](Span::enter) is carried too.
    ///
    /// # Cost
    /// One atomic increment. While a subscriber of `tracing` is installed, it is asked for its
    /// current span. One allocation if a span was entered in this callback by other means than a
    /// context.
    pub fn current() -> Self {
        current::get()
    }

    /// Returns a context with the values of this one and with `value`. A value of the same type is
    /// replaced.
    ///
    /// # Cost
    /// O(values), three allocations.
    #[must_use = "the context itself does not change"]
    pub fn with<T: Send + Sync + 'static>(&self, value: T) -> Self {
        let mut parts = self.parts();
        parts.values.0.retain(|other| !other.value.is::<T>());
        parts.values.0.push(Value {
            type_name: type_name::<T>(),
            value: Arc::new(value),
        });
        Self(Some(Arc::new(parts)))
    }

    /// Returns a context with the values of this one and with the span `span`. The span need not be
    /// [entered](Span::enter): the loop enters it for each callback.
    ///
    /// The parent of a span is the span that was current when the span was made, and a span keeps
    /// its parents open. For the requests of a long-lived connection make spans with
    /// `parent: None`, or with the span of the connection as parent: otherwise each span is a child
    /// of the one before.
    ///
    /// # Cost
    /// O(values), two allocations.
    #[must_use = "the context itself does not change"]
    pub fn with_span(&self, span: Span) -> Self {
        let Parts { values, .. } = self.parts();
        Self(Some(Arc::new(Parts { span, values })))
    }

    fn parts(&self) -> Parts {
        match &self.0 {
            Some(parts) => Parts::clone(parts),
            None => Parts {
                span: Span::none(),
                values: Values::default(),
            },
        }
    }

    /// Returns the value of type `T`.
    ///
    /// # Cost
    /// O(values).
    pub fn get<T: 'static>(&self) -> Option<&T> {
        let mut values = self.0.as_deref()?.values.0.iter();
        values.find_map(|value| value.value.downcast_ref())
    }

    /// Returns the span.
    pub fn span(&self) -> Option<&Span> {
        let span = &self.0.as_deref()?.span;
        (!span.is_none()).then_some(span)
    }

    /// Returns `true` if this is [`NONE`](Self::NONE): there is neither a span nor a value.
    #[inline]
    pub const fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the name of the span. Without a span, returns the type name of the newest value.
    /// Lists show this name.
    pub fn name(&self) -> Option<&'static str> {
        let of_span = self.span().and_then(Span::metadata);
        of_span.map(tracing::Metadata::name).or_else(|| {
            let values = &self.0.as_deref()?.values.0;
            values.last().map(|value| value.type_name)
        })
    }

    /// Runs `callback` with this context, and returns its result. In `callback` nothing else is
    /// current: no value and no span of the caller. The context and the spans of the caller are
    /// restored when `callback` returns or panics.
    ///
    /// To add to what is current, use `RequestContext::current().with(value).scope(..)`. To hand on
    /// work on behalf of nobody, such as a cache that serves all requests, use
    /// `RequestContext::NONE.scope(..)`.
    ///
    /// ```
    /// use reactor::RequestContext;
    ///
    /// let context = RequestContext::NONE.with("a request");
    /// context.scope(|| assert!(RequestContext::current().get::<&str>().is_some()));
    /// assert!(RequestContext::current().is_none());
    /// ```
    pub fn scope<R>(&self, callback: impl FnOnce() -> R) -> R {
        let _outer = SetAside::all();
        drop(self.clone().make_current());
        callback()
    }

    /// Makes this context current on this thread. Returns the context that was current.
    pub(crate) fn make_current(self) -> Self {
        current::replace(self)
    }

    /// Returns `true` if both are the same value, not only equal ones.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl fmt::Debug for RequestContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.0.iter().flat_map(|parts| &parts.values.0);
        let values: Vec<_> = values.map(|value| value.type_name).collect();
        f.debug_struct("RequestContext")
            .field(
                "span",
                &self.span().and_then(Span::metadata).map(|span| span.name()),
            )
            .field("values", &values)
            .finish()
    }
}
