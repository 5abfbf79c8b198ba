//! The option of a listener that expects a PROXY header.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::listener::Peer;

/// The default of `timeout`, which is that of `proxy_protocol_timeout` of nginx.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The proxies whose PROXY header a listener accepts, and the time that they have to send it. Pass
/// it to [`ListenOptions::proxy_protocol`](crate::ListenOptions::proxy_protocol).
///
/// ```
/// use std::net::IpAddr;
/// use handlers::proxy_protocol::ProxyProtocol;
/// use handlers::{ListenOptions, Peer};
///
/// # fn main() -> std::io::Result<()> {
/// let proxies: [IpAddr; 2] = ["192.0.2.10".parse().unwrap(), "192.0.2.11".parse().unwrap()];
/// let behind = ProxyProtocol::trusting(move |peer| match peer {
///     Peer::Tcp(address) => proxies.contains(&address.ip()),
///     _ => false,
/// });
/// let listener = ListenOptions::new()
///     .proxy_protocol(behind)
///     .bind(&"127.0.0.1:0".parse()?)?;
/// # let _ = listener;
/// # Ok(())
/// # }
/// ```
#[doc(alias("accept-proxy", "set_real_ip_from", "proxy_protocol_timeout"))]
#[derive(Clone)]
pub struct ProxyProtocol {
    trusts: Arc<dyn Fn(&Peer) -> bool + Send + Sync>,
    timeout: Duration,
}

impl ProxyProtocol {
    /// Returns the option for a listener whose connections all come from trusted proxies. `trusts`
    /// is called with the address of each connection, and returns `true` for a trusted proxy. Any
    /// other connection is closed, which is logged at DEBUG.
    ///
    /// Do not return `true` for an address that a client can connect from. Such a client could
    /// claim the address of anybody else.
    pub fn trusting(trusts: impl Fn(&Peer) -> bool + Send + Sync + 'static) -> Self {
        Self {
            trusts: Arc::new(trusts),
            timeout: TIMEOUT,
        }
    }

    /// Sets the time within which the whole header must have arrived after the connection was
    /// accepted. Then the connection is reset. The specification recommends at least 3 seconds, in
    /// which a lost packet can be sent again. Default: 30 s.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub(crate) fn trusts(&self, peer: &Peer) -> bool {
        (self.trusts)(peer)
    }

    pub(crate) const fn time_for_header(&self) -> Duration {
        self.timeout
    }
}

impl fmt::Debug for ProxyProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyProtocol")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
