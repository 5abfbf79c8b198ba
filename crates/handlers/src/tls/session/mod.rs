//! A TLS session that knows neither its stream nor a loop: ciphertext in, plaintext out, and back.
//!
//! Ground rule: a session holds memory only for bytes that wait: an incomplete record, plaintext
//! that was not read yet, ciphertext that the stream has not taken. Everything else happens in
//! buffers of the thread, see `scratch.rs`.
//!
//! rustls decrypts in place, and its handshake messages stay in the ciphertext until they are
//! complete. So the rest of the ciphertext is kept as it is after a step, and never as it came.
//!
//! The steps of rustls are in `records.rs`, and the reads and writes of the stream in
//! `transfer.rs`.

mod held;
mod hello;
mod records;
mod scratch;
mod transfer;

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::unbuffered::EncryptError;
use rustls::{ClientConfig, CommonState, InvalidMessage, ServerConfig};

pub(super) use self::hello::Recorded;
pub(super) use self::transfer::Below;

use self::held::Held;
use self::hello::Hello;
use self::records::{OnTraffic, Plaintext, Side, Step};
use super::error::{Failed, TlsError};

/// The longest record, in bytes: RFC 5246 section 6.2.3, which allows more than RFC 8446.
const RECORD_MAX: usize = 5 + (1 << 14) + 2048;

/// The most ciphertext that waits for its rest, in bytes. rustls refuses handshake messages of
/// more than 64 KiB. Parts of a message wait in their records. So this leaves room for a message
/// in records of a sensible size, and for a record after it.
const UNDECRYPTED_MAX: usize = 96 << 10;

/// The alert that rustls sends if no certificate is found, and the start of those that RFC 6066
/// section 3 and RFC 8446 section 9.2 ask for.
const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
const MISSING_EXTENSION: [u8; 7] = [21, 3, 3, 0, 2, 2, 109];

/// A TLS session of either side.
pub(super) struct Session {
    side: Side,
    /// Ciphertext that waits for its rest.
    undecrypted: Vec<u8>,
    /// Plaintext that was not read yet.
    plaintext: Held,
    /// Ciphertext that was not sent yet.
    output: Held,
    failure: Option<TlsError>,
    /// The alert that tells the peer of the failure is in the output, or was sent.
    has_alerted: bool,
    /// A record of the peer was accepted, so the peer speaks TLS.
    speaks_tls: bool,
    /// The peer has sent close_notify.
    peer_closed: bool,
    server_name: Option<Box<str>>,
}

impl Session {
    /// Makes the session of a client. Its hello is in the output.
    pub(super) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, TlsError> {
        let text = name.to_str().into();
        let side = Side::client(config, name).map_err(|error| TlsError::of_config(&error))?;
        let mut session = Self::of(side);
        session.server_name = Some(text);
        session.decrypt(&mut [], &mut []);
        Ok(session)
    }

    /// Makes the session of a server. The configuration must have a [`Recorded`] resolver.
    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        let side = Side::server(config).map_err(|error| TlsError::of_config(&error))?;
        Ok(Self::of(side))
    }

    fn of(side: Side) -> Self {
        Self {
            side,
            undecrypted: Vec::new(),
            plaintext: Held::default(),
            output: Held::default(),
            failure: None,
            has_alerted: false,
            speaks_tls: false,
            peer_closed: false,
            server_name: None,
        }
    }

    /// Returns `true` if the handshake is done.
    pub(super) fn is_established(&self) -> bool {
        !self.side.state().is_handshaking()
    }

    pub(super) fn state(&self) -> &CommonState {
        self.side.state()
    }

    pub(super) fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Returns `true` if a read returns plaintext, the end or an error without the stream.
    pub(super) const fn can_read(&self) -> bool {
        self.has_plaintext() || self.peer_closed || self.failure.is_some()
    }

    pub(super) const fn has_plaintext(&self) -> bool {
        !self.plaintext.is_empty()
    }

    /// Returns `true` if the session has failed, and an alert tells the peer so: it is in the
    /// output, or was sent.
    pub(super) const fn has_alerted(&self) -> bool {
        self.has_alerted
    }

    /// Returns how many bytes of ciphertext wait for the stream.
    pub(super) const fn output_len(&self) -> usize {
        self.output.len()
    }

    /// Returns the capacity of all buffers of this session, in bytes.
    #[cfg(test)]
    pub(super) fn held_capacity(&self) -> usize {
        self.undecrypted.capacity() + self.plaintext.capacity() + self.output.capacity()
    }

    /// Decrypts `ciphertext`, which begins with the undecrypted rest of before. Returns how many
    /// bytes of plaintext are in `buf`. Further plaintext is held.
    fn decrypt(&mut self, ciphertext: &mut [u8], buf: &mut [u8]) -> usize {
        let (used, count) = self.process(ciphertext, buf, &mut |_| ());
        self.keep_undecrypted(&ciphertext[used..]);
        count
    }

    /// Encrypts into `out`. Returns the number of bytes written there, or `None` if `out` is too
    /// small.
    fn encrypt(&mut self, plaintext: &[u8], out: &mut [u8]) -> Result<Option<usize>, TlsError> {
        let mut encrypted = None;
        self.on_traffic(&mut |traffic| encrypted = Some(traffic.encrypt(plaintext, out)));
        match encrypted {
            Some(Ok(count)) => Ok(Some(count)),
            Some(Err(EncryptError::InsufficientSize(_))) => Ok(None),
            Some(Err(EncryptError::EncryptExhausted)) => {
                self.queue_alerts(false); // rustls ends the session by close_notify
                Err(self.fail(TlsError::keys_used_up()))
            }
            None => Err(self.failure.clone().unwrap_or_else(TlsError::no_traffic)),
        }
    }

    /// Puts our close_notify into the output. rustls makes no second one.
    fn queue_close_notify(&mut self) {
        if !self.is_established() {
            return;
        }
        let mut alert = scratch::Scratch::borrow();
        let mut len = 0;
        self.on_traffic(&mut |traffic| len = traffic.close_notify(&mut alert).unwrap_or(0));
        self.output.push(&alert[..len]);
    }

    /// Runs an operation of an established session.
    fn on_traffic(&mut self, run: OnTraffic<'_>) {
        if self.failure.is_some() {
            return;
        }
        let mut ciphertext = std::mem::take(&mut self.undecrypted);
        let (used, _) = self.process(&mut ciphertext, &mut [], run);
        ciphertext.drain(..used);
        self.undecrypted = ciphertext;
    }

    /// Takes steps until more ciphertext is needed. Returns how many bytes of `ciphertext` are used
    /// up, and how many bytes of plaintext are in `buf`.
    fn process(
        &mut self,
        ciphertext: &mut [u8],
        buf: &mut [u8],
        on_traffic: OnTraffic<'_>,
    ) -> (usize, usize) {
        let mut used = 0;
        let mut plaintext = Plaintext {
            buf,
            count: 0,
            rest: &mut self.plaintext,
        };
        let failed = loop {
            let rest = &mut ciphertext[used..];
            let (taken, step) =
                (self.side).step(rest, &mut plaintext, &mut self.output, on_traffic);
            used += taken;
            match step {
                Step::Done => {}
                Step::PeerClosed => self.peer_closed = true,
                Step::Blocked => break None,
                Step::Failed(error) => break Some(error),
            }
        };
        let count = plaintext.count;
        let is_refused = self.take_hello();
        if let Some(error) = failed {
            let before = self.output.len();
            self.queue_alerts(is_refused);
            self.has_alerted = self.output.len() > before;
            self.note_failure(&error, is_refused, ciphertext);
        }
        self.speaks_tls |= used > 0;
        (used, count)
    }

    /// Takes the name that a client has asked for. Returns `true` if there is no certificate.
    fn take_hello(&mut self) -> bool {
        if self.side.is_client() {
            return false;
        }
        Hello::take_last().is_some_and(|hello| {
            self.server_name = hello.name;
            hello.is_refused
        })
    }

    /// Puts the alerts that follow a failure into the output. No step may be taken on ciphertext
    /// any more: rustls would process the faulty record again.
    fn queue_alerts(&mut self, is_refused: bool) {
        while self.side.state().wants_write() {
            let mut plaintext = Plaintext {
                buf: &mut [],
                count: 0,
                rest: &mut self.plaintext,
            };
            self.side
                .step(&mut [], &mut plaintext, &mut self.output, &mut |_| ());
        }
        if is_refused {
            let alert = match self.server_name {
                Some(_) => UNRECOGNIZED_NAME,
                None => MISSING_EXTENSION,
            };
            self.output.replace_end(&ACCESS_DENIED, &alert);
        }
    }

    #[cold]
    fn note_failure(&mut self, error: &rustls::Error, is_refused: bool, ciphertext: &[u8]) {
        let failed = Failed {
            error,
            is_client: self.side.is_client(),
            server_name: self.server_name.as_deref(),
            no_certificate: is_refused,
            first_bytes: if self.speaks_tls { &[] } else { ciphertext },
        };
        let error = failed.explain();
        self.fail(error);
    }

    /// Ends the session with a failure. The first one stays.
    fn fail(&mut self, error: TlsError) -> TlsError {
        self.undecrypted = Vec::new();
        self.failure.get_or_insert(error).clone()
    }

    /// Keeps what waits for its rest. Bytes after a failure, or after close_notify, are ignored
    /// (RFC 8446 section 6.1).
    fn keep_undecrypted(&mut self, rest: &[u8]) {
        if rest.is_empty() || self.peer_closed || self.failure.is_some() {
            self.undecrypted = Vec::new();
            return;
        }
        self.undecrypted.clear();
        self.undecrypted.extend_from_slice(rest);
        if rest.len() > UNDECRYPTED_MAX {
            let error = InvalidMessage::HandshakePayloadTooLarge.into();
            self.note_failure(&error, false, rest);
        }
    }
}
