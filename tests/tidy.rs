//! What reviewers forget: that the seam is whole, and that the map of the code shows what is there.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of a folder with this ending, in no order.
fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|is| is == ending) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// The lines of code of a source file, with their numbers: neither comments nor what stands below `#[cfg(test)]`.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().take_while(|line| *line != "#[cfg(test)]");
    (1..).zip(lines).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// What makes a system call, reads a clock or starts a thread.
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

/// Words of the system that are no calls.
const WORDS: [&str; 6] = [
    "rustix::event::epoll::EventFlags",
    "rustix::io::Errno",
    "mio::net::",
    "mio::unix::pipe::",
    "sys::thread::spawn",
    "[`std::thread::spawn`]",
];

#[test]
fn nothing_above_the_seam_speaks_to_the_system() -> Result {
    let source = root().join("crates/reactor/src");
    let above: Vec<_> =
        files(&source, "rs")?.into_iter().filter(|path| !path.starts_with(source.join("sys"))).collect();
    assert!(above.len() > 50, "{above:?}");
    let mut faults = Vec::new();
    for path in above {
        let text = fs::read_to_string(&path)?;
        for (number, line) in code(&text) {
            let line = WORDS.iter().fold(line.to_owned(), |line, word| line.replace(word, ""));
            if SYSTEM.iter().any(|call| line.contains(call)) {
                faults.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    assert_eq!(faults, [""; 0], "through crates/reactor/src/sys, whose page is the contract");
    Ok(())
}

#[test]
fn the_code_map_names_files_that_exist_and_leaves_out_none() -> Result {
    let page = fs::read_to_string(root().join("docs/architecture.md"))?;
    let (_, map) = page.split_once("## Code map").ok_or("no code map")?;
    let (map, _) = map.split_once("\n## ").ok_or("the code map does not end")?;
    let (reactor, handlers) = map.split_once("In `crates/handlers/src`").ok_or("no map of handlers")?;
    for (part, folder) in [(reactor, "crates/reactor/src"), (handlers, "crates/handlers/src")] {
        let named: Vec<_> = part.split('`').skip(1).step_by(2).filter(|word| word.ends_with(".rs")).collect();
        let source = root().join(folder);
        let exist: Vec<_> = files(&source, "rs")?;
        let path_of = |file: &Path| file.strip_prefix(&source).map(|path| path.display().to_string());
        let exist = exist.iter().map(|file| path_of(file)).collect::<std::result::Result<Vec<_>, _>>()?;
        for name in &named {
            assert!(
                exist.iter().any(|file| file == name || file.ends_with(&format!("/{name}"))),
                "{folder}: no {name}"
            );
        }
        // A page of a folder, and what is only its list, may go without a question.
        let rooms: Vec<_> = exist.iter().filter_map(|file| file.split_once('/').map(|(room, _)| room)).collect();
        for room in rooms {
            assert!(named.iter().any(|name| name.starts_with(&format!("{room}/"))), "{folder}: nothing of {room}/");
        }
    }
    Ok(())
}
