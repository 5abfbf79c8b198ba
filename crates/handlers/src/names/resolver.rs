//! The resolver that a program uses, and its limits.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::Location;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use reactor::{Context, Registry};

use super::lookup::{Lookup, start};
use super::target::Target;
use super::threads::{LookupFunction, Threads};
use crate::sockets::names;

/// Looks up the addresses of hosts, without blocking a loop. Clones share their threads and limits.
/// One resolver serves any number of loops.
///
/// [`Resolver::default`] is the resolver of the process. All connections use it, unless
/// [`ConnectionOptions::resolver`](crate::ConnectionOptions::resolver) names another. It asks the
/// system, as `getaddrinfo(3)` does: `/etc/hosts`, then the name servers of `/etc/resolv.conf`. The
/// limits are the defaults of [`ResolverBuilder`].
///
/// A lookup runs on a thread, since `getaddrinfo` blocks. A resolver starts its first thread with
/// the first lookup, and more if several lookups run at once. A thread without work ends after
/// 10 s. If a lookup hangs, its thread is occupied until the system gives up, but the callback is
/// notified at the [timeout](ResolverBuilder::timeout). Nothing waits for a thread that hangs:
/// neither a loop nor the end of the process.
///
/// ```
/// use handlers::Resolver;
/// use reactor::Reactor;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut reactor = Reactor::<usize>::new()?;
/// let target = "localhost:80".parse()?;
/// Resolver::default().resolve(&mut reactor, &target, |addresses, cx| match addresses {
///     Ok(addresses) => *cx.state = addresses.len(),
///     Err(error) => eprintln!("{error}"), // names the target
/// });
/// let mut found = 0;
/// reactor.run(&mut found)?; // returns after the callback
/// assert!(found > 0);
/// # Ok(())
/// # }
/// ```
#[doc(alias("getaddrinfo", "evdns_getaddrinfo", "uv_getaddrinfo", "ToSocketAddrs"))]
#[derive(Clone, Default)]
pub struct Resolver(
    /// `None` for the resolver of the process.
    Option<Arc<Limited>>,
);

/// The threads of a resolver, and the time limit of its lookups.
struct Limited {
    threads: Arc<Threads>,
    timeout: Option<Duration>,
}

/// The resolver of the process.
static OF_PROCESS: LazyLock<Arc<Limited>> = LazyLock::new(|| ResolverBuilder::new().limited());

/// The resolver of a simulated loop. The threads of a simulated process are its own.
#[cfg(feature = "simulation")]
struct OfLoop(Arc<Limited>);

#[cfg(feature = "simulation")]
impl Default for OfLoop {
    fn default() -> Self {
        Self(ResolverBuilder::new().limited())
    }
}

impl Resolver {
    /// Returns a builder. Use it to set limits, or to replace the lookup function.
    pub fn builder() -> ResolverBuilder {
        ResolverBuilder::new()
    }

    /// Looks up the addresses of `target`, and calls `callback` with them on the loop. The
    /// addresses are in the order in which to connect to them. The list is not empty, and no
    /// address is in it twice.
    ///
    /// The callback runs with the [deferred](Registry::defer) callbacks, never before this method
    /// returns. Until then the lookup keeps [`Reactor::run`](reactor::Reactor::run) alive, and
    /// [`Registry::reasons_to_run`] shows it. If the loop is dropped first, the callback is
    /// dropped. The callback is not [`Send`]: it never leaves the loop.
    ///
    /// If `target` is an address, nothing is looked up, and the callback gets this address.
    ///
    /// # Cost
    /// For a name: a registration, a timer, a few allocations, two locks, and a wakeup of a thread
    /// or the start of one. For an address: an allocation.
    ///
    /// # Errors
    /// The callback gets a [`SystemError`](crate::SystemError) such as "resolve db.example:5432:
    /// Name or service not known". It has one of these kinds:
    /// - `NotFound`: the name does not exist.
    /// - `AddrNotAvailable`: the name exists, but it has no address.
    /// - `HostUnreachable`: no name server has answered, or they could not find out. Trying again
    ///   later may help.
    /// - `TimedOut`: there was no answer within the [timeout](ResolverBuilder::timeout). The text
    ///   tells if the lookup has begun.
    /// - `InvalidInput`: the service is unknown, or the target is a Unix socket.
    /// - `QuotaExceeded`: [too many](ResolverBuilder::max_waiting) lookups wait.
    /// - The kind of any other error, with its errno if it has one. Examples are `EAGAIN` if no
    ///   thread can be started, `EMFILE` if the process has no descriptor left, `ENODEV` if there
    ///   is no such network interface, and [`Error::Full`](reactor::Error::Full) at the
    ///   registration limit of the loop.
    #[track_caller]
    pub fn resolve<S: 'static>(
        &self,
        registry: &mut Registry<S>,
        target: &Target,
        callback: impl FnOnce(io::Result<Vec<SocketAddr>>, &mut Context<'_, S>) + 'static,
    ) -> Lookup<S> {
        let line = Location::caller();
        self.resolve_within(None, registry, target, callback, line)
    }

    /// Looks up as [`resolve`](Self::resolve) does, within the time limit of the resolver and
    /// within `timeout`.
    pub(crate) fn resolve_within<S: 'static>(
        &self,
        timeout: Option<Duration>,
        registry: &mut Registry<S>,
        target: &Target,
        callback: impl FnOnce(io::Result<Vec<SocketAddr>>, &mut Context<'_, S>) + 'static,
        line: &'static Location<'static>,
    ) -> Lookup<S> {
        let limited = self.limited(registry);
        let timeout = limited.timeout.into_iter().chain(timeout).min();
        let callback = Box::new(callback);
        start(registry, &limited.threads, target, timeout, callback, line)
    }

    fn limited<S>(&self, registry: &mut Registry<S>) -> Arc<Limited> {
        if let Some(limited) = &self.0 {
            return Arc::clone(limited);
        }
        #[cfg(feature = "simulation")]
        if reactor::simulation::installed().is_some() {
            return Arc::clone(&registry.local::<OfLoop>().0);
        }
        let _ = registry;
        Arc::clone(&OF_PROCESS)
    }

    /// Looks up the TCP addresses of a host with the functions of the system, and blocks until they
    /// return. `service` is a port or the name of a service. This is the lookup function of a
    /// resolver that was given no other one.
    ///
    /// Call it on a thread of your own, or in a [lookup function](ResolverBuilder::lookup) that
    /// answers only some names itself.
    ///
    /// # Errors
    /// The errors of `getaddrinfo(3)`, with the kinds that [`resolve`](Self::resolve) lists.
    ///
    /// ```
    /// use handlers::Resolver;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let addresses = Resolver::system_lookup("localhost", "80")?;
    /// assert!(addresses.iter().all(|address| address.ip().is_loopback()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn system_lookup(host: &str, service: &str) -> io::Result<Vec<SocketAddr>> {
        names::lookup(host, service)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(limited) => limited.threads.describe(f),
            None => f.write_str("Resolver(of the process)"),
        }
    }
}

/// A builder for a [`Resolver`]: it sets the limits and the lookup function.
///
/// ```
/// use std::time::Duration;
/// use handlers::{ConnectionOptions, Resolver};
///
/// let resolver = Resolver::builder().max_threads(2).timeout(Duration::from_secs(3)).build();
/// let options = ConnectionOptions::new().resolver(resolver);
/// ```
pub struct ResolverBuilder {
    max_threads: usize,
    max_waiting: usize,
    timeout: Option<Duration>,
    lookup: Box<LookupFunction>,
}

impl ResolverBuilder {
    fn new() -> Self {
        Self {
            max_threads: 4,
            max_waiting: 1024,
            timeout: Some(Duration::from_secs(10)),
            lookup: Box::new(names::lookup),
        }
    }

    /// Sets the maximum number of threads, and thereby of lookups at once. With 0, one thread is
    /// used. A thread whose lookup hangs counts until the lookup returns. Default: 4.
    #[must_use]
    pub fn max_threads(mut self, threads: usize) -> Self {
        self.max_threads = threads.max(1);
        self
    }

    /// Sets the maximum number of lookups that wait while all threads are occupied. If this number
    /// is reached, a further lookup fails with an error of kind `QuotaExceeded`. Default: 1024.
    #[must_use]
    pub fn max_waiting(mut self, lookups: usize) -> Self {
        self.max_waiting = lookups;
        self
    }

    /// Sets the time limit of a lookup. It runs from the call of [`Resolver::resolve`], and
    /// includes the time for which the lookup waits for a thread. An answer that has arrived within
    /// the time is passed on, even if the loop was busy until later. With `None` the time is not
    /// limited, and the system decides: it may take a minute or more if no name server answers.
    /// Default: 10 s.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Replaces the function that looks up. It gets the host and the service of a [`Target`], and
    /// returns addresses, the best first. The service is a port, unless the target has the name of
    /// a service. The function runs on the threads of the resolver, several times at once if there
    /// are several, and it may block. Default: [`Resolver::system_lookup`].
    ///
    /// An error of the function is passed on with its kind: see
    /// [`Resolver::resolve`] for the kinds. A panic of the function is an error of its
    /// lookup, and the thread continues. With the feature `request-context`, the function runs
    /// without a context.
    ///
    /// ```
    /// use handlers::Resolver;
    ///
    /// // Answers one name itself.
    /// let resolver = Resolver::builder()
    ///     .lookup(|host, service| match host {
    ///         "db.internal" => Ok(vec!["10.0.0.7:5432".parse().expect("an address")]),
    ///         _ => Resolver::system_lookup(host, service),
    ///     })
    ///     .build();
    /// ```
    #[must_use]
    pub fn lookup<F>(mut self, lookup: F) -> Self
    where
        F: Fn(&str, &str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    {
        self.lookup = Box::new(lookup);
        self
    }

    /// Returns the resolver. Starts no thread.
    pub fn build(self) -> Resolver {
        Resolver(Some(self.limited()))
    }

    fn limited(self) -> Arc<Limited> {
        Arc::new(Limited {
            threads: Threads::new(self.max_threads, self.max_waiting, self.lookup),
            timeout: self.timeout,
        })
    }
}

impl fmt::Debug for ResolverBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResolverBuilder")
            .field("max_threads", &self.max_threads)
            .field("max_waiting", &self.max_waiting)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
