//! The TLS session of a connection.
//!
//! A client must need less time for a message than any server, or the servers wait for it. So while
//! a server is measured, the client only copies ciphertext: its messages were encrypted before, and
//! the answers are decrypted and compared afterwards. Meanwhile it knows their length from the
//! headers of their records.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use handlers::tls::rustls::pki_types::ServerName;
use handlers::tls::rustls::{ClientConnection, HandshakeKind};
use workloads::tls::Exchange;

use super::records::{Records, sealed_len};
use super::security::Security;

/// The result of an operation of a session.
type Told<T = ()> = Result<T, String>;

pub(super) struct Session {
    tls: ClientConnection,
    exchange: Exchange,
    /// The plaintext of each message, and how much of the next one was compared.
    message: Vec<u8>,
    compared: usize,
    /// Encrypted messages of equal length, and how many bytes of them were sent.
    sealed: Vec<u8>,
    sent: usize,
    /// The number of messages that were begun since the last preparation, and its maximum.
    begun: usize,
    begun_max: usize,
    /// The end of the message that was begun, in `sealed`.
    end: usize,
    /// Ciphertext is kept in `returned` until the slice is over.
    is_measured: bool,
    returned: Vec<u8>,
    records: Records,
}

impl Session {
    pub(super) fn new(security: &Security, message: &[u8]) -> Told<Self> {
        let name = ServerName::try_from("localhost").map_err(|error| error.to_string())?;
        let mut tls = ClientConnection::new(Arc::clone(&security.config), name)
            .map_err(|error| error.to_string())?;
        tls.set_buffer_limit(None);
        Ok(Self {
            tls,
            exchange: security.exchange,
            message: message.to_vec(),
            compared: 0,
            sealed: Vec::new(),
            sent: 0,
            begun: 0,
            begun_max: 1,
            end: 0,
            is_measured: false,
            returned: Vec::new(),
            records: Records::default(),
        })
    }

    /// Returns `true` if the session has had its message, and the next one needs a handshake.
    pub(super) fn is_used_up(&self) -> bool {
        self.exchange != Exchange::Messages && !self.tls.is_handshaking()
    }

    /// Checks that the handshake was full or resumed, as it should be.
    pub(super) fn check_handshake(&self) -> Told {
        let expected = match self.exchange {
            Exchange::Messages => return Ok(()),
            Exchange::Full => HandshakeKind::Full,
            Exchange::Resumed => HandshakeKind::Resumed,
        };
        match self.tls.handshake_kind() {
            Some(kind) if kind == expected => Ok(()),
            kind => Err(format!("the handshake was {kind:?}, not {expected:?}")),
        }
    }

    /// Encrypts as many messages as the last slices needed, and a quarter more. From now on,
    /// ciphertext is kept.
    pub(super) fn prepare(&mut self) -> Told {
        if self.exchange != Exchange::Messages {
            return Ok(());
        }
        (self.is_measured, self.begun) = (true, 0);
        self.sealed.drain(..self.sent);
        (self.sent, self.end) = (0, 0);
        self.seal(self.begun_max + self.begun_max / 4)
    }

    /// Decrypts the ciphertext that was kept, and compares it.
    pub(super) fn check(&mut self) -> Told {
        let returned = std::mem::take(&mut self.returned);
        self.is_measured = false;
        self.open(&returned).map(drop)
    }

    /// Begins a message. Before the handshake is done, it waits for that.
    pub(super) fn begin(&mut self) -> Told {
        if self.tls.is_handshaking() {
            let sent = self.tls.writer().write_all(&self.message);
            return sent.map_err(|error| error.to_string());
        }
        self.begun += 1;
        self.begun_max = self.begun_max.max(self.begun);
        if self.end == self.sealed.len() {
            self.seal(1)?;
        }
        self.end += sealed_len(self.message.len());
        Ok(())
    }

    /// Sends what the socket takes.
    pub(super) fn send(&mut self, stream: &mut TcpStream) -> Told {
        while self.tls.wants_write() {
            match self.tls.write_tls(stream) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                sent => sent.map_err(|error| error.to_string())?,
            };
        }
        while self.sent < self.end {
            match stream.write(&self.sealed[self.sent..self.end]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// Takes ciphertext. Returns how many bytes of plaintext it completes.
    pub(super) fn receive(&mut self, ciphertext: &[u8]) -> Told<usize> {
        if self.is_measured {
            self.returned.extend_from_slice(ciphertext);
            return Ok(self.records.count(ciphertext));
        }
        self.open(ciphertext)
    }

    /// Sends the close_notify.
    pub(super) fn close(&mut self, stream: &mut TcpStream) -> Told {
        self.tls.send_close_notify();
        self.send(stream)
    }

    /// Encrypts up to this number of unsent messages.
    fn seal(&mut self, count: usize) -> Told {
        while self.sealed.len() < self.sent + count * sealed_len(self.message.len()) {
            let written = self.tls.writer().write_all(&self.message);
            written.map_err(|error| error.to_string())?;
            while self.tls.wants_write() {
                let sealed = self.tls.write_tls(&mut self.sealed);
                sealed.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// Decrypts ciphertext, and compares it with the message. Returns the length of its plaintext.
    fn open(&mut self, mut ciphertext: &[u8]) -> Told<usize> {
        let (mut plaintext, mut count) = ([0; 4096], 0);
        while !ciphertext.is_empty() {
            let read = self.tls.read_tls(&mut ciphertext);
            read.map_err(|error| error.to_string())?;
            let processed = self.tls.process_new_packets();
            processed.map_err(|error| error.to_string())?;
            loop {
                let len = match self.tls.reader().read(&mut plaintext) {
                    Ok(0) => return Err("the server has closed the session".to_owned()),
                    Ok(len) => len,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.to_string()),
                };
                self.compare(&plaintext[..len])?;
                count += len;
            }
        }
        Ok(count)
    }

    fn compare(&mut self, mut plaintext: &[u8]) -> Told {
        while !plaintext.is_empty() {
            let expected = &self.message[self.compared..];
            let len = expected.len().min(plaintext.len());
            if plaintext[..len] != expected[..len] {
                return Err(format!("{len} bytes came back that differ from those sent"));
            }
            self.compared = (self.compared + len) % self.message.len();
            plaintext = &plaintext[len..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Duration;

    use handlers::tls::rustls::ServerConnection;

    use super::*;
    use crate::certificate::server_session;

    /// A session after its handshake, and the server that it is connected with.
    struct Pair {
        session: Session,
        stream: TcpStream,
        server: ServerConnection,
        accepted: TcpStream,
    }

    impl Pair {
        fn new(message: &[u8]) -> Self {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut accepted, _) = listener.accept().unwrap();
            let patience = Some(Duration::from_secs(20));
            accepted.set_read_timeout(patience).unwrap();
            let mut server = server_session();
            let security = Security::new(Exchange::Messages).unwrap();
            let mut session = Session::new(&security, message).unwrap();
            session.begin().unwrap();
            while server.is_handshaking() {
                session.send(&mut stream).unwrap();
                server.read_tls(&mut accepted).unwrap();
                server.process_new_packets().unwrap();
                assert_eq!(session.receive(&output(&mut server)), Ok(0));
            }
            Self {
                session,
                stream,
                server,
                accepted,
            }
        }

        /// Sends the message that was begun. Returns the plaintext that the server gets.
        fn arrive(&mut self, len: usize) -> Vec<u8> {
            self.session.send(&mut self.stream).unwrap();
            let mut plaintext = vec![0; len];
            while self.server.reader().read_exact(&mut plaintext).is_err() {
                self.server.read_tls(&mut self.accepted).unwrap();
                self.server.process_new_packets().unwrap();
            }
            plaintext
        }

        fn answer(&mut self, plaintext: &[u8]) -> Told<usize> {
            self.server.writer().write_all(plaintext).unwrap();
            self.session.receive(&output(&mut self.server))
        }
    }

    /// Returns the ciphertext that a server sends.
    fn output(server: &mut ServerConnection) -> Vec<u8> {
        let mut ciphertext = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut ciphertext).unwrap();
        }
        ciphertext
    }

    #[test]
    fn messages_prepared_or_not_arrive_in_order_and_are_counted_when_back() {
        let mut pair = Pair::new(b"hello");
        assert_eq!(pair.arrive(5), b"hello");
        assert_eq!(pair.answer(b"hello"), Ok(5));
        for _slice in 0..3 {
            pair.session.prepare().unwrap();
            for _message in 0..4 {
                pair.session.begin().unwrap();
                assert_eq!(pair.arrive(5), b"hello");
                assert_eq!(pair.answer(b"hel"), Ok(3));
                assert_eq!(pair.answer(b"lo"), Ok(2));
            }
            pair.session.check().unwrap();
        }
    }

    #[test]
    fn a_changed_byte_is_noticed_at_once_or_after_the_slice() {
        let mut pair = Pair::new(b"hello");
        pair.arrive(5);
        assert!(pair.answer(b"hellO").is_err());
        let mut pair = Pair::new(b"hello");
        pair.arrive(5);
        pair.answer(b"hello").unwrap();
        pair.session.prepare().unwrap();
        pair.session.begin().unwrap();
        pair.arrive(5);
        assert_eq!(pair.answer(b"hellO"), Ok(5));
        assert!(pair.session.check().is_err());
    }
}
