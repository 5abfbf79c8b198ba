//! TLS of the examples: with real clients, with bad input, and with new certificates.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod bad_input;
mod clients;
mod http;
mod openssl;
mod options;
mod proxy;
mod redis;

use std::fs::{self, File};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use handlers::tls::rustls::pki_types::pem::PemObject;
use handlers::tls::rustls::pki_types::{CertificateDer, ServerName};
use handlers::tls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use crate::Result;
use crate::server::{PATIENCE, Server};

/// The names of the certificate of a server.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// A blocking client that speaks TLS.
type Client = StreamOwned<ClientConnection, TcpStream>;

/// An issuer, and a folder of files of PEM: `roots.pem`, and for each certificate that it has
/// issued `NAME.pem` and `NAME-key.pem`.
struct Certificates {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Certificates {
    /// Makes an issuer, and issues the certificate `server`.
    fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let folder = tempfile::tempdir()?;
        let certificates = Self { issuer, folder };
        fs::write(certificates.path("roots.pem"), certificates.issuer.pem())?;
        certificates.issue("server", &NAMES)?;
        Ok(certificates)
    }

    fn issue(&self, file: &str, names: &[&str]) -> Result {
        self.issue_with(file, names, |_params| ())
    }

    /// Issues a certificate that expired on 2024-02-29.
    fn issue_expired(&self, file: &str) -> Result {
        self.issue_with(file, &NAMES, |params| {
            params.not_before = rcgen::date_time_ymd(2023, 1, 1);
            params.not_after = rcgen::date_time_ymd(2024, 2, 29);
        })
    }

    fn issue_with(
        &self,
        file: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names)?;
        change(&mut params);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        fs::write(self.path(&format!("{file}.pem")), certificate.pem())?;
        fs::write(self.path(&format!("{file}-key.pem")), key.serialize_pem())?;
        Ok(())
    }

    fn path(&self, file: &str) -> String {
        self.folder.path().join(file).display().to_string()
    }

    /// Returns the arguments with which an example serves TLS at a port that the kernel chooses.
    fn arguments(&self, certificate: &str) -> [String; 6] {
        let files = ["", "-key"].map(|part| self.path(&format!("{certificate}{part}.pem")));
        let [chain, key] = files;
        [
            "--listen".to_owned(),
            "127.0.0.1:0".to_owned(),
            "--tls-certificate".to_owned(),
            chain,
            "--tls-key".to_owned(),
            key,
        ]
    }

    /// Starts an example with the certificate `server`. Its log has what is worth debugging.
    fn start(&self, example: &str, arguments: &[&str]) -> Result<Logged> {
        let tls = self.arguments("server");
        let tls: Vec<_> = tls.iter().map(String::as_str).collect();
        self.start_by(example, &[&tls, arguments].concat(), "debug")
    }

    /// Starts an example whose roots are those of this issuer.
    fn start_by(&self, example: &str, arguments: &[&str], level: &str) -> Result<Logged> {
        let log = self.path(&format!("{example}.log"));
        let environment = [
            ("NO_COLOR", "1"),
            ("RUST_LOG", level),
            ("SSL_CERT_FILE", &self.path("roots.pem")),
            ("SSL_CERT_DIR", ""),
        ];
        let file = File::create(&log)?;
        let server = Server::start_with_log(example, arguments, &environment, file)?;
        Ok(Logged { server, log })
    }

    /// Returns the configuration of a client that trusts this issuer.
    fn client(&self) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("roots.pem"))?)?;
        let config = ClientConfig::builder().with_root_certificates(roots);
        Ok(Arc::new(config.with_no_client_auth()))
    }

    /// Returns a client of this server. Its handshake is done by its first write.
    fn connect(&self, server: &Server) -> Result<Client> {
        let session = ClientConnection::new(self.client()?, ServerName::try_from("localhost")?)?;
        Ok(StreamOwned::new(session, server.connect()?))
    }
}

/// A server with its log.
struct Logged {
    server: Server,
    log: String,
}

impl Logged {
    fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    /// Waits until the log has `count` lines with `text`.
    #[track_caller]
    fn expect_in_log(&self, text: &str, count: usize) -> Result {
        let began = Instant::now();
        loop {
            let log = self.log()?;
            let found = log.lines().filter(|line| line.contains(text)).count();
            if found == count {
                return Ok(());
            }
            assert!(
                found < count && began.elapsed() < PATIENCE,
                "{found} of {count} lines with {text:?} in:\n{log}"
            );
            thread::sleep(Duration::from_millis(10)); // between two looks
        }
    }

    fn port(&self) -> &str {
        self.server.address.rsplit(':').next().unwrap()
    }
}
