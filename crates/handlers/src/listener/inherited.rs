//! Sockets that a service manager hands over: which of the descriptors of this process are meant for it.
//!
//! listenfd makes sockets of descriptors. It takes them without a `LISTEN_PID`, too, and removes two of the three variables: so
//! they are looked at before, and sd-notify removes what is left.
//!
//! Source: `sd_listen_fds(3)`.

use std::env;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::process;

/// The default of `fs.nr_open`: no process has more descriptors.
const FDS_MAX: u32 = 1 << 20;

/// Takes what is there for this process, and removes the variables in any case.
pub(super) fn take() -> io::Result<Vec<OwnedFd>> {
    let sockets = match are_for_us() {
        Ok(true) => sockets(listenfd::ListenFd::from_env()),
        Ok(false) => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    // What they return is of no interest. The second one removes the names, and does so only if there is no number any more.
    let _ = sd_notify::listen_fds().map(drop);
    let _ = sd_notify::listen_fds_with_names(true).map(drop);
    sockets
}

/// Whether the environment speaks of descriptors for this process.
fn are_for_us() -> io::Result<bool> {
    let (Some(for_process), Some(fds)) = (number("LISTEN_PID")?, number("LISTEN_FDS")?) else {
        return Ok(false);
    };
    if for_process != process::id() {
        return Ok(false);
    }
    if !(1..=FDS_MAX).contains(&fds) {
        return Err(invalid(format!(
            "LISTEN_FDS={fds}: between 1 and {FDS_MAX} are possible"
        )));
    }
    match number("LISTEN_FDS_FIRST_FD")? {
        Some(first) => Err(invalid(format!(
            "LISTEN_FDS_FIRST_FD={first}: the first descriptor is 3 always"
        ))),
        None => Ok(true),
    }
}

fn number(variable: &str) -> io::Result<Option<u32>> {
    let Some(value) = env::var_os(variable) else {
        return Ok(None);
    };
    let number = value.to_str().and_then(|value| value.parse().ok());
    number
        .map(Some)
        .ok_or_else(|| invalid(format!("{variable}={}: no number", value.display())))
}

fn invalid(text: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, text)
}

fn sockets(mut inherited: listenfd::ListenFd) -> io::Result<Vec<OwnedFd>> {
    let mut sockets = Vec::new();
    for place in 0..inherited.len() {
        let socket: Option<OwnedFd> = match inherited.take_unix_listener(place) {
            Ok(listener) => listener.map(Into::into),
            Err(_) => inherited.take_tcp_listener(place)?.map(Into::into),
        };
        sockets.extend(socket);
    }
    Ok(sockets)
}
