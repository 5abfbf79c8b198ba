//! Cold builds: the time that a user waits for the first build of a program, with all crates that
//! its library depends on.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;
use workloads::{Result, report};

use crate::process::succeed;
use crate::workshop::cargo;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The Cargo.toml of the package to build
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// The target folder, which is emptied before and after the build
    #[arg(long, value_name = "DIR")]
    target: PathBuf,
}

/// Builds a package whose dependencies have been fetched. Prints the seconds that this takes and
/// the number of crates that are compiled.
pub(crate) fn run(options: &Options) -> Result {
    clear(&options.target)?;
    let mut build = cargo("build", &options.manifest);
    build
        .args([
            "--release",
            "--offline",
            "--message-format",
            "json",
            "--target-dir",
        ])
        .arg(&options.target);
    // A wrapper may take the compiled crates from a cache.
    build
        .env("RUSTC_WRAPPER", "")
        .env("RUSTC_WORKSPACE_WRAPPER", "");
    let began = Instant::now();
    let output = succeed(&mut build)?;
    let seconds = began.elapsed().as_secs_f64();
    report(&[
        ("seconds", seconds),
        ("crates", crates(&String::from_utf8(output.stdout)?) as f64),
    ]);
    clear(&options.target)
}

/// Returns the number of packages that cargo has compiled, without the requested package.
fn crates(messages: &str) -> usize {
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let compiled = messages.filter(|message| message["reason"] == "compiler-artifact");
    let packages: BTreeSet<_> = compiled
        .map(|artifact| artifact["package_id"].to_string())
        .collect();
    packages.len().saturating_sub(1)
}

fn clear(folder: &Path) -> Result {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(format!("{}: {error}", folder.display()).into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::crates;

    #[test]
    fn a_crate_with_a_build_script_counts_once_and_the_package_itself_never() {
        let artifact =
            |package| format!(r#"{{"reason": "compiler-artifact", "package_id": "{package}"}}"#);
        let script = r#"{"reason": "build-script-executed", "package_id": "other"}"#.to_owned();
        let messages = [
            artifact("libc"),
            script,
            artifact("libc"),
            artifact("mio"),
            artifact("hello"),
        ];
        assert_eq!(crates(&messages.join("\n")), 2);
        assert_eq!(crates(""), 0);
    }
}
