//! The file of session keys, for tools that decrypt captures of the network.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rustls::{KeyLog, KeyLogFile};

use crate::error::named;

/// The name that other implementations of TLS use too.
const VARIABLE: &str = "SSLKEYLOGFILE";

/// Returns the log of keys that `SSLKEYLOGFILE` names. rustls ignores a file that cannot be opened,
/// so it is opened here first.
pub(super) fn key_log() -> io::Result<Arc<dyn KeyLog>> {
    if let Some(path) = std::env::var_os(VARIABLE) {
        check(&path)?;
    }
    Ok(Arc::new(KeyLogFile::new()))
}

fn check(path: &OsStr) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let opened = options.append(true).create(true).mode(0o600).open(path);
    opened.map(|_| ()).map_err(|error| {
        let path = Path::new(path).display();
        named(format_args!("open({path}) for {VARIABLE}"), error)
    })
}
