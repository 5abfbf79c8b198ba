//! Sockets that a service manager passes to this process.
//!
//! listenfd turns descriptors into sockets. It accepts them even without a `LISTEN_PID`, and it
//! removes only two of the three variables. Therefore the variables are checked here first, and
//! sd-notify removes the rest.
//!
//! Source: `sd_listen_fds(3)`.

use std::env;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::process;

/// The default of `fs.nr_open`: the maximum number of descriptors of a process.
const FDS_MAX: u32 = 1 << 20;

/// Takes the sockets that are passed to this process. Removes the variables in every case.
pub(super) fn take() -> io::Result<Vec<OwnedFd>> {
    let sockets = match are_for_us() {
        Ok(true) => sockets(listenfd::ListenFd::from_env()),
        Ok(false) => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    // The results do not matter. The second call removes the names, but only if `LISTEN_FDS` is
    // removed already.
    let _ = sd_notify::listen_fds().map(drop);
    let _ = sd_notify::listen_fds_with_names(true).map(drop);
    sockets
}

/// Returns `true` if the environment passes descriptors to this process.
fn are_for_us() -> io::Result<bool> {
    let (Some(for_process), Some(fds)) = (number("LISTEN_PID")?, number("LISTEN_FDS")?) else {
        return Ok(false);
    };
    if for_process != process::id() {
        return Ok(false);
    }
    if !(1..=FDS_MAX).contains(&fds) {
        return Err(invalid(format!(
            "LISTEN_FDS={fds}: expected 1 to {FDS_MAX}"
        )));
    }
    match number("LISTEN_FDS_FIRST_FD")? {
        Some(first) => Err(invalid(format!(
            "LISTEN_FDS_FIRST_FD={first}: not supported, the first descriptor is always 3"
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
        .ok_or_else(|| invalid(format!("{variable}={}: not a number", value.display())))
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
