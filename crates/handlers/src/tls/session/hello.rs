//! The server name of a client's hello, and whether a certificate was found for it.
//!
//! The unbuffered interface of rustls shows the name to the resolver of certificates alone. It
//! calls the resolver while it processes the hello, on the same thread. So the resolver leaves the
//! name in a variable of the thread, and the session takes it from there.

use std::cell::Cell;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

thread_local! {
    static LAST: Cell<Option<Hello>> = const { Cell::new(None) };
}

pub(super) struct Hello {
    /// The name that the client asked for.
    pub(super) name: Option<Box<str>>,
    /// No certificate was found.
    pub(super) is_refused: bool,
}

impl Hello {
    /// Takes the hello that was processed last.
    pub(super) fn take_last() -> Option<Self> {
        LAST.take()
    }
}

/// A resolver that records each hello.
#[derive(Debug)]
pub(in crate::tls) struct Recorded(pub(in crate::tls) Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for Recorded {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(Into::into);
        let found = self.0.resolve(hello);
        LAST.set(Some(Hello {
            name,
            is_refused: found.is_none(),
        }));
        found
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}
