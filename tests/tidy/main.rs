//! Checks that a reviewer forgets: the seam to the system, the code map, the language of the docs,
//! links, names and leftovers. Each checker lists its faults as `path:line: text`.
//!
//! `cargo test --test tidy -- --ignored --nocapture measures` prints figures of docs and code.
//! With `TREE=/path` in its environment it measures another checkout.

mod api;
mod architecture;
mod examples;
mod language;
mod links;
mod measures;
mod names;
mod prose;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// The widest line of a comment, in columns. `max_width` in rustfmt.toml is the same for code.
const WIDTH: usize = 100;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every file below a folder that has this extension, sorted by path.
/// Skips build output and hidden folders.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder);
        for entry in entries.map_err(|error| format!("{}: {error}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|is| is == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Returns path and text of every file with one of these extensions below these folders.
/// The paths are relative to `root`.
fn texts(root: &Path, folders: &[&str], extensions: &[&str]) -> Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for folder in folders {
        for extension in extensions {
            for path in files(&root.join(folder), extension)? {
                let name = path.strip_prefix(root)?.display().to_string();
                texts.push((name, fs::read_to_string(&path)?));
            }
        }
    }
    // A checker that reads nothing would find no fault.
    if texts.is_empty() {
        Err(format!("no {extensions:?} below {folders:?}").into())
    } else {
        Ok(texts)
    }
}

/// Fails with the rule and the whole list if there is a fault.
#[track_caller]
fn assert_none(faults: &[String], rule: &str) {
    assert!(
        faults.is_empty(),
        "{} × {rule}\n{}",
        faults.len(),
        faults.join("\n")
    );
}
