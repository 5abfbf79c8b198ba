//! The seam to the system is whole, and the code map names the files that exist.

use std::fs;
use std::path::Path;

use crate::{Result, files, root};

/// Returns the lines of code of a source file with their numbers.
/// Leaves out comments, and everything below `#[cfg(test)]`.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().take_while(|line| *line != "#[cfg(test)]");
    (1..)
        .zip(lines)
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Calls that enter the system, read a clock or start a thread.
const SYSTEM: [&str; 9] = [
    "rustix::",
    "socket2::",
    "libc::",
    "mio::",
    "Instant::now",
    "SystemTime::now",
    "thread::Builder",
    "thread::spawn",
    "std::fs",
];

/// Names of the system that are not calls.
const WORDS: [&str; 6] = [
    "rustix::event::epoll::EventFlags",
    "rustix::io::Errno",
    "mio::net::",
    "mio::unix::pipe::",
    "sys::thread::spawn",
    "[`std::thread::spawn`]",
];

/// Calls on sockets, and the types that make them. A connection reads and writes through its `Io`.
const SOCKET_CALLS: [&str; 14] = [
    "SockRef",
    "socket2::",
    "UdpSocketState",
    "ioctl_fionread",
    "poll(",
    "rustix::net",
    "TcpListener::bind",
    "TcpStream::connect",
    "UdpSocket::bind(",
    "UnixListener::bind",
    "UnixStream::connect",
    ".accept()",
    ".set_nodelay(",
    ".take_error()",
];

/// The polls of futures, which share their name with a system call.
const POLLS: [&str; 3] = ["fn poll(", ".poll(", "_poll("];

/// Lists the lines below a folder of code that contain one of these calls, except for `words` and
/// what is in one of the folders `except`.
fn lines_with(
    calls: &[&str],
    words: &[&str],
    folder: &str,
    except: &[&str],
) -> Result<Vec<String>> {
    let source = root().join(folder);
    let looked_at: Vec<_> = files(&source, "rs")?
        .into_iter()
        .filter(|path| {
            !except
                .iter()
                .any(|part| path.starts_with(source.join(part)))
        })
        .collect();
    assert!(looked_at.len() > 50, "{looked_at:?}");
    let mut faults = Vec::new();
    for path in looked_at {
        let text = fs::read_to_string(&path)?;
        for (number, line) in code(&text) {
            let without = words
                .iter()
                .fold(line.to_owned(), |line, word| line.replace(word, ""));
            if calls.iter().any(|call| without.contains(call)) {
                faults.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    Ok(faults)
}

#[test]
fn nothing_above_the_seam_speaks_to_the_system() -> Result {
    assert_eq!(
        lines_with(&SYSTEM, &WORDS, "crates/reactor/src", &["sys"])?,
        [""; 0],
        "through crates/reactor/src/sys, whose page is the contract"
    );
    Ok(())
}

#[test]
fn every_call_on_a_socket_is_in_one_folder() -> Result {
    // What is standard input may be a socket, and only `console` reads it.
    let except = ["sockets", "console"];
    assert_eq!(
        lines_with(&SOCKET_CALLS, &POLLS, "crates/handlers/src", &except)?,
        [""; 0],
        "through crates/handlers/src/sockets"
    );
    Ok(())
}

#[test]
fn the_code_map_names_files_that_exist_and_leaves_out_none() -> Result {
    let page = fs::read_to_string(root().join("docs/architecture.md"))?;
    let (_, map) = page.split_once("## Code map").ok_or("no code map")?;
    let (map, _) = map.split_once("\n## ").ok_or("the code map does not end")?;
    let (reactor, handlers) = map
        .split_once("In `crates/handlers/src`")
        .ok_or("no map of handlers")?;
    let (handlers, simulation) = handlers
        .split_once("In `crates/simulation/src`")
        .ok_or("no map of simulation")?;
    for (part, folder) in [
        (reactor, "crates/reactor/src"),
        (handlers, "crates/handlers/src"),
        (simulation, "crates/simulation/src"),
    ] {
        let named: Vec<_> = part
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|word| word.ends_with(".rs"))
            .collect();
        let source = root().join(folder);
        let exist: Vec<_> = files(&source, "rs")?;
        let path_of = |file: &Path| {
            file.strip_prefix(&source)
                .map(|path| path.display().to_string())
        };
        let exist = exist
            .iter()
            .map(|file| path_of(file))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        for name in &named {
            assert!(
                exist
                    .iter()
                    .any(|file| file == name || file.ends_with(&format!("/{name}"))),
                "{folder}: no {name}"
            );
        }
        // A single file may be left out of the map. Of each folder at least one file is in it.
        let rooms: Vec<_> = exist
            .iter()
            .filter_map(|file| file.split_once('/').map(|(room, _)| room))
            .collect();
        for room in rooms {
            assert!(
                named
                    .iter()
                    .any(|name| name.starts_with(&format!("{room}/"))),
                "{folder}: nothing of {room}/"
            );
        }
    }
    Ok(())
}
