//! A real proxy, as a program beside the test.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::Result;

/// A running haproxy, which is killed when it is dropped.
#[derive(Debug)]
pub struct Haproxy {
    child: Child,
    /// The address that it listens on.
    pub address: SocketAddr,
    _folder: TempDir,
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

impl Haproxy {
    /// Starts haproxy in front of a server, with options of both sides. It inherits its listening
    /// socket as its standard input, so no port has to be chosen and no start has to be waited for.
    ///
    /// # Errors
    /// The errors of the file system, of sockets and of `fork(2)`.
    pub fn start(accepts: &str, to: SocketAddr, sends: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("haproxy.cfg");
        let configuration = format!(
            "defaults\n mode tcp\n timeout connect 20s\n timeout client 20s\n timeout server 20s\n\
             listen test\n bind fd@0 {accepts}\n server to {to} {sends}\n"
        );
        std::fs::write(&path, configuration)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let child = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(path)
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self {
            child,
            address,
            _folder: folder,
        })
    }
}
