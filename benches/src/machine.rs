//! The machine and the versions that were measured. A figure means nothing without them.

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Display, Formatter};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use workloads::Result;

use crate::catalogue::Case;
use crate::contestant::{Library, Origin};
use crate::process::succeed;
use crate::workshop::{BENCHES, compile_flags, includes};

/// The machine, and the programs that are measured on it.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The start of the measurement, in UTC.
    pub(crate) date: String,
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    /// The version of this library, with its commit if it has one.
    pub(crate) ours: String,
    pub(crate) compilers: Vec<String>,
    /// Name and version of each peer whose version is known.
    peers: HashMap<Origin, String>,
}

impl Machine {
    /// Returns this machine, with the versions of the peers in these cases.
    pub(crate) fn look(cases: &[Case]) -> Result<Self> {
        let mut peers = HashMap::new();
        for origin in cases
            .iter()
            .flat_map(|case| &case.contestants)
            .map(|contestant| contestant.origin)
        {
            if let Some(peer) = peer(origin) {
                peers.insert(origin, peer);
            }
        }
        let uname = rustix::system::uname();
        let machine = uname.machine().to_string_lossy();
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
        Ok(Self {
            date: said(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]))
                .ok_or("date(1) failed")?,
            kernel: format!(
                "{} {}",
                uname.sysname().to_string_lossy(),
                uname.release().to_string_lossy()
            ),
            processor: processor(&cpuinfo).map_or_else(
                || machine.to_string(),
                |model| format!("{model} ({machine})"),
            ),
            cores: std::thread::available_parallelism()?.get(),
            ours: ours(),
            compilers: ["rustc", "cc"]
                .iter()
                .filter_map(|name| said(Command::new(name).arg("--version")))
                .collect(),
            peers,
        })
    }

    /// Returns the versions of the peers with these origins, each once.
    pub(crate) fn peers<'a>(
        &self,
        origins: impl IntoIterator<Item = &'a Origin>,
    ) -> BTreeSet<&str> {
        origins
            .into_iter()
            .filter_map(|origin| self.peers.get(origin).map(String::as_str))
            .collect()
    }

    /// Returns the date and the machine.
    pub(crate) fn place(&self) -> String {
        let Self {
            date,
            kernel,
            processor,
            cores,
            ..
        } = self;
        format!("{date}, {kernel}, {processor}, {cores} cores")
    }

    /// Returns the versions of this library, of these peers and of the compilers.
    pub(crate) fn versions(&self, peers: BTreeSet<&str>) -> String {
        let parts: Vec<_> = [self.ours.as_str()].into_iter().chain(peers).collect();
        format!("{}; {}", parts.join(", "), self.compilers.join(", "))
    }

    pub(crate) fn json(&self) -> Value {
        let Self {
            date,
            kernel,
            processor,
            cores,
            ours,
            compilers,
            peers,
        } = self;
        json!({
            "date": date, "kernel": kernel, "processor": processor, "cores": cores, "version": ours,
            "compilers": compilers, "peers": self.peers(peers.keys()),
        })
    }
}

impl Display for Machine {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "{}\n{}",
            self.place(),
            self.versions(self.peers(self.peers.keys()))
        )
    }
}

fn ours() -> String {
    let version = concat!("reactor ", env!("CARGO_PKG_VERSION"));
    let commit = said(Command::new("git").args(["-C", BENCHES, "describe", "--always", "--dirty"]));
    commit.map_or_else(
        || version.to_owned(),
        |commit| format!("{version} ({commit})"),
    )
}

/// Returns the first line of a command's output, or `None` if the command fails.
fn said(command: &mut Command) -> Option<String> {
    let output = succeed(command).ok()?;
    Some(
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .next()?
            .trim()
            .to_owned(),
    )
}

fn processor(cpuinfo: &str) -> Option<&str> {
    let model = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    Some(model.split_once(':')?.1.trim())
}

/// Returns name and version of the library that a program uses. Returns `None` if it uses no
/// library, or if the version is unknown.
fn peer(origin: Origin) -> Option<String> {
    let (name, version) = match origin {
        Origin::Ours | Origin::C(_, None) => return None,
        Origin::C(_, Some(library)) => (library.name, header_version(library)?),
        Origin::Rust("crossbeam") => (
            "crossbeam-channel",
            locked("rust-peers", "crossbeam-channel")?,
        ),
        Origin::Rust(peer) => (peer, locked("rust-peers", peer)?),
        Origin::ColdBuild(peer) => (peer, locked(&format!("hello/{peer}"), peer)?),
    };
    // This library is listed before all peers.
    (name != "reactor").then(|| format!("{name} {version}"))
}

/// Returns the version of a crate, from the lock file of one of our packages.
fn locked(package: &str, name: &str) -> Option<String> {
    let lock = std::fs::read_to_string(Path::new(BENCHES).join(package).join("Cargo.lock")).ok()?;
    version_in(&lock, name).map(str::to_owned)
}

fn version_in<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = lock.lines();
    lines.find(|line| {
        line.strip_prefix("name = ")
            .is_some_and(|quoted| quoted.trim_matches('"') == name)
    })?;
    Some(lines.next()?.strip_prefix("version = ")?.trim_matches('"'))
}

/// Returns the version of a library, from the macros of its header. Not every library has its
/// version in pkg-config.
fn header_version(library: Library) -> Option<String> {
    let macros = match library.name {
        "libev" => "EV_VERSION_MAJOR EV_VERSION_MINOR",
        "libevent" => "LIBEVENT_VERSION",
        "libevent with OpenSSL" => "LIBEVENT_VERSION OPENSSL_VERSION_STR",
        "libuv" => "UV_VERSION_MAJOR UV_VERSION_MINOR UV_VERSION_PATCH",
        _ => return None,
    };
    let mut cc = Command::new("cc");
    cc.args(compile_flags(library))
        .args(includes(library))
        .args(["-E", "-P", "-x", "c", "-"]);
    cc.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = cc.spawn().ok()?;
    // The pipe is closed at the end of the statement, which ends the input of the compiler.
    writeln!(child.stdin.take()?, "{macros}").ok()?;
    let output = child.wait_with_output().ok()?;
    let expanded = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| dotted(expanded.lines().last().unwrap_or_default()))
}

/// Returns a version with dots, from separate numbers or from a string in quotes.
fn dotted(expanded: &str) -> String {
    expanded
        .split_whitespace()
        .map(|part| part.trim_matches('"'))
        .collect::<Vec<_>>()
        .join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_crate_is_that_of_its_own_entry_in_the_lock_file() {
        let lock = "[[package]]\nname = \"mio-more\"\nversion = \"9.0.0\"\n\n[[package]]\nname = \"mio\"\nversion = \"1.2.4\"\n\
                    dependencies = [\n \"libc\",\n]\n";
        assert_eq!(version_in(lock, "mio"), Some("1.2.4"));
        assert_eq!(version_in(lock, "libc"), None);
    }

    #[test]
    fn macros_are_numbers_or_a_string() {
        assert_eq!(dotted("1 44 2"), "1.44.2");
        assert_eq!(dotted("\"2.1.12-stable\""), "2.1.12-stable");
    }

    #[test]
    fn a_processor_without_a_model_name_is_not_guessed() {
        assert_eq!(
            processor("processor\t: 0\nmodel name\t: Some CPU @ 3.0\nmodel name\t: other\n"),
            Some("Some CPU @ 3.0")
        );
        assert_eq!(processor("processor\t: 0\nBogoMIPS\t: 50.00\n"), None);
    }
}
