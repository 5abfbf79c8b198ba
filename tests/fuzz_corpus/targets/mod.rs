//! The targets: each draws its input from bytes, acts, and panics at a broken promise.
//!
//! `cargo test` and the fuzzer both compile this folder. A target must be deterministic: it uses a
//! manual clock, no thread and no wait.

mod address;
mod connection;
mod console;
mod framing;
mod http;
mod kv_server;
mod proxy_protocol;
mod registry;
mod timers;

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use reactor::Reactor;

/// A function that draws an input and checks what it does. It returns an error if it ends early
/// because the bytes have run out.
pub(crate) type Target = fn(&mut Unstructured<'_>) -> Result<()>;

/// All targets, by the names of their folders in `fuzz/corpus`.
pub(crate) const TARGETS: [(&str, Target); 10] = [
    ("address", address::run),
    ("connection", connection::run),
    ("console", console::run),
    ("framing", framing::run),
    ("http", http::run),
    ("kv_session", kv_server::session),
    ("proxy_protocol", proxy_protocol::run),
    ("registry", registry::run),
    ("resp", kv_server::parse),
    ("timers", timers::run),
];

/// The turns after which a loop that still runs callbacks counts as one that never rests.
const TURNS_MAX: usize = 2000;

/// Takes turns until one runs no callback.
#[track_caller]
fn run_until_idle<S>(reactor: &mut Reactor<S>, state: &mut S) {
    for _ in 0..TURNS_MAX {
        if reactor.turn(state, Some(Duration::ZERO)).unwrap() == 0 {
            return;
        }
    }
    panic!("the loop never rests: {:?}", reactor.metrics());
}

/// Draws a piece from the front of `data` that is not empty. Returns it and the rest. The piece is
/// all of it if there is nothing left to draw from.
fn cut<'d>(data: &'d [u8], u: &mut Unstructured<'_>) -> Result<(&'d [u8], &'d [u8])> {
    let length = match u.arbitrary::<Option<u8>>()? {
        Some(length) => usize::from(length) + 1,
        None => data.len(),
    };
    Ok(data.split_at(length.min(data.len())))
}

/// Draws up to `max_length` bytes.
fn bytes<'a>(u: &mut Unstructured<'a>, max_length: usize) -> Result<&'a [u8]> {
    let length = u.int_in_range(0..=max_length)?.min(u.len());
    u.bytes(length)
}
