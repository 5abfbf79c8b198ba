//! The handler of each connection of an upstream. It calls the handler of the user, and writes the
//! messages.

use std::any::Any;
use std::io;
use std::rc::Rc;

use reactor::Context;

use super::driver::Driver;
use crate::connection::{CloseReason, Connection, ConnectionHandler, ConnectionMetrics, Timeout};

/// The driver while it is at a connection, or at an attempt. `None` after the end.
pub(super) struct Session<S: 'static, H>(Option<Driver<S, H>>);

impl<S, H> Session<S, H> {
    pub(super) const fn new(driver: Driver<S, H>) -> Self {
        Self(Some(driver))
    }
}

impl<S, H: ConnectionHandler<S>> Session<S, H> {
    /// Calls the handler of the user.
    fn call<R: Default>(
        &mut self,
        connection: &mut Connection<'_, S>,
        callback: impl FnOnce(&mut H, &mut Connection<'_, S>) -> io::Result<R>,
    ) -> io::Result<R> {
        let Some(driver) = &mut self.0 else {
            return Ok(R::default());
        };
        driver.shared.record_metrics(connection.metrics());
        callback(&mut driver.handler, connection)
    }

    /// Writes the messages that wait.
    fn feed(&self, connection: &mut Connection<'_, S>, cx: &mut Context<'_, S>) {
        if let Some(driver) = &self.0 {
            driver.shared.feed(connection, cx);
        }
    }
}

impl<S, H: ConnectionHandler<S>> ConnectionHandler<S> for Session<S, H> {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        if let Some(driver) = &self.0 {
            super::attempts::forget(cx.registry, driver.shared.id());
            driver.shared.opened(connection.key(), cx.now());
            tracing::info!("upstream connected");
            // The messages follow what the handler writes first.
            Rc::clone(&driver.shared).advance_later(cx.registry);
        }
        self.call(connection, |handler, connection| {
            handler.on_open(connection, cx)
        })
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<usize> {
        if let Some(driver) = &self.0 {
            driver.shared.received();
        }
        self.call(connection, |handler, connection| {
            handler.on_data(data, connection, cx)
        })
    }

    fn on_drain(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let result = self.call(connection, |handler, connection| {
            handler.on_drain(connection, cx)
        });
        self.feed(connection, cx);
        result
    }

    fn on_sent(
        &mut self,
        position: u64,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        if let Some(driver) = &self.0 {
            driver.shared.has_mark.set(false);
        }
        let result = self.call(connection, |handler, connection| {
            handler.on_sent(position, connection, cx)
        });
        self.feed(connection, cx);
        result
    }

    fn on_end(
        &mut self,
        rest: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        self.call(connection, |handler, connection| {
            handler.on_end(rest, connection, cx)
        })
    }

    fn on_graceful_close(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        self.call(connection, |handler, connection| {
            handler.on_graceful_close(connection, cx)
        })
    }

    fn on_failure(
        &mut self,
        error: &io::Error,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        self.call(connection, |handler, connection| {
            handler.on_failure(error, connection, cx)
        })
    }

    fn on_timeout(
        &mut self,
        timeout: Timeout,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        self.call(connection, |handler, connection| {
            handler.on_timeout(timeout, connection, cx)
        })
    }

    fn on_final_metrics(&mut self, metrics: ConnectionMetrics, cx: &mut Context<'_, S>) {
        if let Some(driver) = &mut self.0 {
            driver.shared.record_metrics(metrics);
            driver.handler.on_final_metrics(metrics, cx);
        }
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        if let Some(driver) = self.0.take() {
            driver.closed(reason, cx);
        }
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        match &mut self.0 {
            Some(driver) => driver.handler.as_any_mut(),
            ended => ended,
        }
    }
}
