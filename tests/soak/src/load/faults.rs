//! Faults: the daemon is stopped for a while, runs out of file descriptors, gets signals, and finds
//! its file replaced.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit};

use super::{Shared, count};
use crate::draw::Draw;
use crate::process;

const STOP_MAX_MS: usize = 1200;
const SHORTAGE_MAX_MS: usize = 1500;
const PAUSE_MAX_MS: usize = 400;
/// Below what the daemon has open from the start, so nothing more can be opened.
const FILES_MIN: u64 = 8;

/// Pauses, and causes one fault. When this returns, the fault is over.
pub(super) fn next(
    shared: &Shared,
    pid: Pid,
    folder: &Path,
    draw: &mut Draw,
) -> Result<(), String> {
    thread::sleep(draw.ms(PAUSE_MAX_MS));
    match draw.below(6) {
        0 => {
            process::signal(pid, Signal::STOP)?;
            thread::sleep(draw.ms(STOP_MAX_MS));
            count(&shared.totals.stops, 1);
            process::signal(pid, Signal::CONT)
        }
        1 => shortage(shared, pid, draw),
        2 => process::signal(pid, Signal::USR1),
        _ => {
            let version = shared.version.fetch_add(1, Ordering::Relaxed) + 1;
            process::write_version(folder, version)?;
            thread::sleep(Duration::from_millis(20));
            Ok(())
        }
    }
}

/// Lowers the limit of open files for a while.
fn shortage(shared: &Shared, pid: Pid, draw: &mut Draw) -> Result<(), String> {
    let own = getrlimit(Resource::Nofile);
    let low = Rlimit {
        current: Some(FILES_MIN + draw.below(60) as u64),
        maximum: own.maximum,
    };
    count(&shared.shortages, 1); // odd from before the limit is low
    let before = process::limit_files(pid, low)?;
    thread::sleep(draw.ms(SHORTAGE_MAX_MS));
    process::limit_files(pid, before)?;
    count(&shared.shortages, 1);
    Ok(())
}
