//! The context that is current on a thread.
//!
//! INVARIANT (entered): the span of the current context is entered on this thread, once. Kept by
//! `replace`, which leaves the span of one context and enters that of the next.

use std::cell::{Cell, RefCell};

use tracing::dispatcher::get_default;
use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Span};

use super::context::RequestContext;

/// At most this many spans that a caller has entered are left while a turn runs.
const SPANS_MAX: usize = 256;

thread_local! {
    static CURRENT: RefCell<RequestContext> = const { RefCell::new(RequestContext::NONE) };
    /// `true` if `CURRENT` has a context. It has no destructor, so a look at it costs one load.
    static IS_SET: Cell<bool> = const { Cell::new(false) };
}

/// Returns the current context, with the current span of `tracing`.
#[inline]
pub(super) fn get() -> RequestContext {
    if may_be_current() {
        get_some()
    } else {
        RequestContext::NONE
    }
}

/// Returns `false` if neither a context nor a span can be current.
#[inline]
fn may_be_current() -> bool {
    IS_SET.get() || !are_spans_off()
}

#[inline(never)]
fn get_some() -> RequestContext {
    let context = CURRENT.try_with(|current| current.borrow().clone());
    let context = context.unwrap_or_default(); // at the end of a thread there is none
    if are_spans_off() {
        context
    } else {
        with_current_span(context)
    }
}

/// Returns `true` if there is no span, since no subscriber listens.
#[inline]
fn are_spans_off() -> bool {
    LevelFilter::current() == LevelFilter::OFF
}

/// Returns `context` with the span that is current, unless that is the span of `context`.
#[inline(never)]
fn with_current_span(context: RequestContext) -> RequestContext {
    let is_known = get_default(|dispatch| {
        let current = dispatch.current_span();
        // Two subscribers may give the same id, so an id says nothing alone.
        let callsite = current.metadata().map(Metadata::callsite);
        let of_context = context.span();
        current.id().is_none()
            || current.id().cloned() == of_context.and_then(Span::id)
                && callsite == of_context.and_then(Span::metadata).map(Metadata::callsite)
    });
    if is_known {
        context
    } else {
        context.with_span(Span::current())
    }
}

/// Makes `context` current. Returns the context that was current.
pub(super) fn replace(context: RequestContext) -> RequestContext {
    let entered = context.clone();
    IS_SET.set(!context.is_none());
    let Ok(before) = CURRENT.try_with(|current| current.replace(context)) else {
        return RequestContext::NONE; // the thread ends
    };
    if !before.is_same(&entered) {
        before.span().into_iter().for_each(leave);
        entered.span().into_iter().for_each(enter);
    }
    before
}

fn enter(span: &Span) {
    span.with_subscriber(|(id, dispatch)| dispatch.enter(id));
}

fn leave(span: &Span) {
    span.with_subscriber(|(id, dispatch)| dispatch.exit(id));
}

/// The context that was current on this thread, and the spans that were entered by other means.
/// They are restored when this value is dropped, also by a panic.
#[derive(Debug)]
pub(crate) struct SetAside {
    context: RequestContext,
    /// From the innermost to the outermost.
    spans: Vec<Span>,
}

impl SetAside {
    /// Sets aside all that is current.
    #[inline]
    pub(crate) fn all() -> Self {
        if may_be_current() {
            Self::some()
        } else {
            Self {
                context: RequestContext::NONE,
                spans: Vec::new(),
            }
        }
    }

    #[inline(never)]
    fn some() -> Self {
        let context = replace(RequestContext::NONE);
        let mut spans = Vec::new();
        while !are_spans_off() && spans.len() < SPANS_MAX {
            let span = Span::current();
            if span.is_none() {
                break;
            }
            leave(&span);
            spans.push(span);
        }
        Self { context, spans }
    }
}

impl Drop for SetAside {
    #[inline]
    fn drop(&mut self) {
        if IS_SET.get() || !self.context.is_none() || !self.spans.is_empty() {
            self.restore();
        }
    }
}

impl SetAside {
    #[inline(never)]
    fn restore(&mut self) {
        // The spans that were entered by other means lay within the span of the context.
        let ended = replace(std::mem::take(&mut self.context));
        self.spans.iter().rev().for_each(enter);
        drop(ended); // last, since a destructor of its values may panic
    }
}
