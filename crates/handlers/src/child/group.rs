//! The processes of a group other than its leader. They are found in `/proc`, since they are not
//! children of this process.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{is_out_of_resources, named};

/// Returns the processes of the group of `leader` that have not ended, except `leader` itself.
///
/// After the pidfd of a process is opened, the group of the process is checked again, so each pidfd
/// certainly belongs to a process of the group. A process that is started meanwhile may be missing.
/// O(processes of the machine).
pub(super) fn others(leader: Pid) -> io::Result<impl Iterator<Item = io::Result<OwnedFd>>> {
    let pids =
        fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(pids.filter_map(Pid::from_raw).filter_map(move |pid| {
        if pid == leader {
            return None;
        }
        open(pid, leader).transpose()
    }))
}

/// Opens the pidfd of a process, if the process is alive and belongs to the group.
fn open(pid: Pid, group: Pid) -> io::Result<Option<OwnedFd>> {
    if !is_alive_in(pid, group)? {
        return Ok(None);
    }
    let pidfd = pidfd_open(pid, PidfdFlags::empty());
    let belongs = is_alive_in(pid, group)?;
    Ok(belongs.then_some(pidfd).transpose()?)
}

/// # Errors
/// The process cannot be looked at for now, for lack of descriptors or memory.
fn is_alive_in(pid: Pid, group: Pid) -> io::Result<bool> {
    let path = format!("/proc/{}/stat", pid.as_raw_pid());
    let stat = match fs::read(&path) {
        Err(error) if is_out_of_resources(&error) => {
            return Err(named(format_args!("read({path})"), error));
        }
        // The process may have ended, so that there is no such file.
        read => read.unwrap_or_default(),
    };
    Ok(state_and_group(&stat)
        .is_some_and(|(state, of)| of == group.as_raw_pid() && !matches!(state, b'Z' | b'X')))
}

/// Returns the third and the fifth field of `/proc/pid/stat`. The second field is the name in
/// parentheses, which may contain any character.
fn state_and_group(stat: &[u8]) -> Option<(u8, i32)> {
    let behind_name = &stat[stat.iter().rposition(|byte| *byte == b')')? + 1..];
    let mut fields = std::str::from_utf8(behind_name)
        .ok()?
        .split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_and_group_are_found_behind_any_name() {
        assert_eq!(
            state_and_group(b"12 (a) R 3 (b)) S 7 4711 4711 0 -1"),
            Some((b'S', 4711))
        );
        assert_eq!(state_and_group(b"12 (sh) Z 7 12"), Some((b'Z', 12)));
        assert_eq!(state_and_group(b"12 (\xff) T 7 12 1"), Some((b'T', 12)));
        for broken in [
            &b""[..],
            b"12 sh",
            b"12 (sh)",
            b"12 (sh) S 7",
            b"12 (sh) S 7 x",
        ] {
            assert_eq!(state_and_group(broken), None);
        }
    }
}
