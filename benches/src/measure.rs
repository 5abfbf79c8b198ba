//! One run of one program.

use std::process::Command;

use workloads::Result;

use crate::catalogue::Cores;
use crate::figures::{self, Figures};
use crate::pinning::{Core, on_core};
use crate::process::succeed_soon;
use crate::slices::Loaded;

/// Runs a program once. A server is loaded for one slice.
pub(crate) fn measure(command: &mut Command, cores: Cores) -> Result<Figures> {
    let output = match cores {
        Cores::All => succeed_soon(command),
        Cores::One => on_core(Core::Last, || succeed_soon(command)),
        Cores::Server(load) => return Loaded::start(command, load)?.slice(),
    }?;
    figures::parse(&String::from_utf8(output.stdout)?)
        .map_err(|error| format!("{command:?}: {error}").into())
}
