//! The steps of rustls' unbuffered interface, the same for both sides.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, CommonState, ServerConfig};

use super::held::Held;

/// The connection of rustls. It is boxed: it has about 1 KiB, and a stream is moved around.
pub(super) enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// The outcome of a step.
pub(super) enum Step {
    /// The next step can be taken at once.
    Done,
    /// The next step needs more ciphertext.
    Blocked,
    /// The peer has closed its write side, by close_notify.
    PeerClosed,
    Failed(rustls::Error),
}

/// Where a step puts plaintext: first into the buffer of the reader, the rest into the session.
pub(super) struct Plaintext<'a> {
    pub(super) buf: &'a mut [u8],
    pub(super) count: usize,
    pub(super) rest: &'a mut Held,
}

impl Plaintext<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let room = &mut self.buf[self.count..];
        let (fits, rest) = bytes.split_at(bytes.len().min(room.len()));
        room[..fits.len()].copy_from_slice(fits);
        self.count += fits.len();
        self.rest.push(rest);
    }
}

/// The operations that need a session whose handshake is done.
pub(super) trait Traffic {
    fn encrypt(&mut self, plaintext: &[u8], into: &mut [u8]) -> Result<usize, EncryptError>;
    fn close_notify(&mut self, into: &mut [u8]) -> Result<usize, EncryptError>;
}

impl<Data> Traffic for WriteTraffic<'_, Data> {
    fn encrypt(&mut self, plaintext: &[u8], into: &mut [u8]) -> Result<usize, EncryptError> {
        WriteTraffic::encrypt(self, plaintext, into)
    }

    fn close_notify(&mut self, into: &mut [u8]) -> Result<usize, EncryptError> {
        self.queue_close_notify(into)
    }
}

/// An operation that is run when a step is blocked and the session may send.
pub(super) type OnTraffic<'a> = &'a mut dyn FnMut(&mut dyn Traffic);

impl Side {
    pub(super) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, rustls::Error> {
        let connection = UnbufferedClientConnection::new(config, name)?;
        Ok(Self::Client(Box::new(connection)))
    }

    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self::Server(Box::new(connection)))
    }

    /// Takes one step on ciphertext, which is decrypted in place. Returns how many bytes at its
    /// front are used up.
    pub(super) fn step(
        &mut self,
        ciphertext: &mut [u8],
        plaintext: &mut Plaintext<'_>,
        output: &mut Held,
        on_traffic: OnTraffic<'_>,
    ) -> (usize, Step) {
        match self {
            Self::Client(client) => take_step(
                client.process_tls_records(ciphertext),
                plaintext,
                output,
                on_traffic,
            ),
            Self::Server(server) => take_step(
                server.process_tls_records(ciphertext),
                plaintext,
                output,
                on_traffic,
            ),
        }
    }

    pub(super) const fn is_client(&self) -> bool {
        matches!(self, Self::Client(_))
    }

    pub(super) fn state(&self) -> &CommonState {
        match self {
            Self::Client(client) => client,
            Self::Server(server) => server,
        }
    }
}

fn take_step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plaintext: &mut Plaintext<'_>,
    output: &mut Held,
    on_traffic: OnTraffic<'_>,
) -> (usize, Step) {
    let mut used = status.discard;
    let step = match status.state {
        Ok(ConnectionState::ReadTraffic(mut records)) => loop {
            match records.next_record() {
                Some(Ok(record)) => {
                    used += record.discard;
                    plaintext.put(record.payload);
                }
                Some(Err(error)) => break Step::Failed(error),
                None => break Step::Done,
            }
        },
        Ok(ConnectionState::EncodeTlsData(record)) => encode(record, output),
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            transmit.done(); // the session sends its output by itself
            Step::Done
        }
        Ok(ConnectionState::PeerClosed) => Step::PeerClosed,
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            on_traffic(&mut traffic);
            Step::Blocked
        }
        Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => Step::Blocked,
        // Early data, which no configuration of ours accepts.
        Ok(state) => Step::Failed(rustls::Error::General(format!("unexpected {state:?}"))),
        Err(error) => Step::Failed(error),
    };
    (used, step)
}

fn encode<Data>(mut record: EncodeTlsData<'_, Data>, output: &mut Held) -> Step {
    // The first call only asks for the size.
    let encoded = match record.encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => {
            output.push_with(size.required_size, |room| record.encode(room))
        }
        other => other.map(|_| ()),
    };
    match encoded {
        Ok(()) => Step::Done,
        Err(error) => Step::Failed(rustls::Error::General(error.to_string())),
    }
}
