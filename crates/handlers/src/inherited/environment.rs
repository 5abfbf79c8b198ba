//! The descriptors that a service manager passes to this process, and the variables that describe
//! them.
//!
//! listenfd turns a descriptor into a socket that is owned. It accepts descriptors even without a
//! `LISTEN_PID`, and it removes only two of the three variables. Therefore the variables are
//! checked here first. sd-notify reads the names, sets close-on-exec on every descriptor, and
//! removes the rest.
//!
//! Source: `sd_listen_fds(3)`.

use std::env;
use std::io::{self, ErrorKind};
use std::os::fd::{OwnedFd, RawFd};
use std::process;

use listenfd::ListenFd;

use crate::error::advised;
use crate::sockets;

/// The default of `fs.nr_open`: the maximum number of descriptors of a process.
const FDS_MAX: u32 = 1 << 20;

/// A descriptor that is passed to this process.
pub(super) enum Descriptor {
    Socket { fd: OwnedFd, name: String },
    NoSocket { fd: RawFd, name: String },
}

/// Takes the descriptors that are passed to this process, in their order. Removes the variables in
/// every case.
pub(super) fn take() -> io::Result<Vec<Descriptor>> {
    let descriptors = match fds_for_us() {
        Ok(0) => Ok(Vec::new()),
        Ok(fds) => named_fds(fds).map(|names| own(ListenFd::from_env(), names)),
        Err(error) => Err(error),
    };
    // The results do not matter. The second call removes the names, but only if `LISTEN_FDS` is
    // removed already.
    let _ = sd_notify::listen_fds().map(drop);
    let _ = sd_notify::listen_fds_with_names(true).map(drop);
    descriptors
}

/// Returns how many descriptors the environment passes to this process.
fn fds_for_us() -> io::Result<u32> {
    let (Some(for_process), Some(fds)) = (number("LISTEN_PID")?, number("LISTEN_FDS")?) else {
        return Ok(0);
    };
    if for_process != process::id() {
        return Ok(0);
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
        None => Ok(fds),
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

/// Returns the descriptors with their names. Sets close-on-exec on each.
fn named_fds(fds: u32) -> io::Result<Vec<(RawFd, String)>> {
    let named = sd_notify::listen_fds_with_names(false);
    named.map(Iterator::collect).map_err(|error| {
        if error.raw_os_error().is_some() {
            let advice = ": one of the descriptors from 3 on is not open";
            advised(format_args!("LISTEN_FDS={fds}: fcntl"), error, advice)
        } else {
            let names = env::var_os("LISTEN_FDNAMES").unwrap_or_default();
            invalid(format!(
                "LISTEN_FDNAMES={}: expected {fds} names, with : between them",
                names.display()
            ))
        }
    })
}

/// Takes each socket. A descriptor that is not a socket has no owner in safe Rust, so it stays.
fn own(mut inherited: ListenFd, named: Vec<(RawFd, String)>) -> Vec<Descriptor> {
    let described = named.into_iter().enumerate();
    described
        .map(
            |(place, (fd, name))| match take_socket(&mut inherited, place) {
                Some(fd) => Descriptor::Socket { fd, name },
                None => Descriptor::NoSocket { fd, name },
            },
        )
        .collect()
}

/// Takes the descriptor at `place` if it is a socket. listenfd asks for family and type, and leaves
/// a descriptor of another family or type at its place. It takes IPv6 for IPv4.
fn take_socket(inherited: &mut ListenFd, place: usize) -> Option<OwnedFd> {
    sockets::families_and_types().find_map(|(family, of_type)| {
        let taken = inherited.take_custom(place, family, of_type, "socket");
        taken.ok().flatten()
    })
}
