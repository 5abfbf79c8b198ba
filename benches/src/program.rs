//! The programs that take part: what they are built from, whether that is here, and how they are started.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use workloads::Result;

/// A program, under the name that it has in a table.
#[derive(Clone, Debug)]
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) origin: Origin,
    /// What it is told beside the arguments of the case.
    pub(crate) extra: &'static [&'static str],
}

/// Where a program comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// This very program.
    Ours,
    /// A peer of the package of those in Rust.
    Rust(&'static str),
    /// A file in C, and what it is linked with.
    C(&'static str, Option<Library>),
    /// This very program, which builds a package of `hello`.
    ColdBuild(&'static str),
}

/// A library for C, which may be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Library {
    pub(crate) name: &'static str,
    pub(crate) header: &'static str,
    /// Its names for pkg-config.
    pub(crate) modules: &'static [&'static str],
    /// What it is linked by where pkg-config knows nothing of it.
    pub(crate) link: &'static [&'static str],
    /// Where Debian has it.
    pub(crate) package: &'static str,
}

impl Library {
    /// What pkg-config says of it, if it knows it: not every library comes with a file for that.
    fn asked(self, option: &str) -> Option<Vec<String>> {
        let output = succeed(Command::new("pkg-config").arg(option).args(self.modules)).ok()?;
        Some(String::from_utf8(output.stdout).ok()?.split_whitespace().map(str::to_owned).collect())
    }

    /// Where its headers are.
    pub(crate) fn to_compile(self) -> Vec<String> {
        self.asked("--cflags").unwrap_or_default()
    }

    fn to_link(self) -> Vec<String> {
        self.asked("--libs").unwrap_or_else(|| self.link.iter().copied().map(str::to_owned).collect())
    }
}

impl Contestant {
    pub(crate) const fn ours(extra: &'static [&'static str]) -> Self {
        Self { name: "reactor", origin: Origin::Ours, extra }
    }

    pub(crate) const fn rust(name: &'static str) -> Self {
        Self { name, origin: Origin::Rust(name), extra: &[] }
    }

    pub(crate) const fn c(name: &'static str, source: &'static str, library: Option<Library>) -> Self {
        Self { name, origin: Origin::C(source, library), extra: &[] }
    }

    pub(crate) const fn cold_build(name: &'static str) -> Self {
        Self { name, origin: Origin::ColdBuild(name), extra: &[] }
    }

    /// The same program in another of its forms.
    pub(crate) const fn form(mut self, name: &'static str, extra: &'static [&'static str]) -> Self {
        (self.name, self.extra) = (name, extra);
        self
    }

    /// Its name without its form, by which it is chosen.
    pub(crate) fn program(&self) -> &'static str {
        self.name.split(',').next().unwrap_or(self.name)
    }
}

/// Builds programs on demand, each once.
pub(crate) struct Workshop {
    folder: PathBuf,
    ours: PathBuf,
    rust: Option<Built<PathBuf>>,
    c: HashMap<&'static str, Built<PathBuf>>,
}

/// What was built, or in a line what is missing for it.
type Built<T> = std::result::Result<T, String>;

/// The folder of this package.
pub(crate) const BENCHES: &str = env!("CARGO_MANIFEST_DIR");

impl Workshop {
    pub(crate) fn open() -> Result<Self> {
        let ours = std::env::current_exe()?;
        // Beside the folder of the profile, so that both profiles share what is built.
        let folder = ours.ancestors().nth(2).ok_or("no target folder above this program")?.join("peers");
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder, ours, rust: None, c: HashMap::new() })
    }

    /// The command that runs a contestant with these arguments, or what is missing for it.
    pub(crate) fn command(&mut self, contestant: &Contestant, arguments: &[&str]) -> Built<Command> {
        let mut command = match contestant.origin {
            Origin::Ours => {
                let mut command = Command::new(&self.ours);
                command.arg("run");
                command
            }
            Origin::Rust(peer) => {
                let mut command = Command::new(self.rust_peers()?);
                command.args(["--peer", peer]);
                command
            }
            Origin::C(source, library) => Command::new(self.compiled(source, library)?),
            Origin::ColdBuild(package) => self
                .cold_build(package)
                .map_err(|error| format!("its crates cannot be fetched: {}", in_a_line(&error)))?,
        };
        // In C there is a program for each workload; a cold build has a command.
        let skipped = usize::from(matches!(contestant.origin, Origin::C(..) | Origin::ColdBuild(_)));
        command.args(&arguments[skipped..]).args(contestant.extra);
        Ok(command)
    }

    /// Builds those in Rust once, all of them in one program.
    fn rust_peers(&mut self) -> Built<PathBuf> {
        let target = self.folder.join("rust");
        let build = || {
            let mut build = cargo("build", &Path::new(BENCHES).join("rust-peers/Cargo.toml"));
            build.args(["--release", "--target-dir"]).arg(&target);
            succeed(&mut build).map_err(|error| format!("the peers in Rust are not built: {}", in_a_line(&error)))?;
            Ok(target.join("release/rust-peers"))
        };
        self.rust.get_or_insert_with(build).clone()
    }

    /// Fetches what a package of `hello` needs, which is not part of building it.
    fn cold_build(&self, package: &str) -> Result<Command> {
        let manifest = Path::new(BENCHES).join("hello").join(package).join("Cargo.toml");
        succeed(&mut cargo("fetch", &manifest))?;
        let mut command = Command::new(&self.ours);
        command.arg("cold-build").arg("--manifest").arg(manifest);
        command.arg("--target").arg(self.folder.join("cold").join(package));
        Ok(command)
    }

    /// Compiles a file once.
    fn compiled(&mut self, source: &'static str, library: Option<Library>) -> Built<PathBuf> {
        let Self { folder, c, .. } = self;
        c.entry(source).or_insert_with(|| compile(folder, source, library)).clone()
    }
}

fn compile(folder: &Path, source: &str, library: Option<Library>) -> Built<PathBuf> {
    if Command::new("cc").arg("--version").output().is_err() {
        return Err("needs a C compiler, in Debian: gcc libc6-dev".to_owned());
    }
    if let Some(library @ Library { name, package, .. }) = library
        && !has_header(library)
    {
        return Err(format!("{name} is not installed, in Debian: {package}"));
    }
    let program = folder.join(source.replace(['/', '.'], "_"));
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-Wall", "-Werror", "-Wno-unused-function", "-D_GNU_SOURCE", "-pthread", "-o"]).arg(&program);
    cc.args(library.map(Library::to_compile).unwrap_or_default());
    cc.arg(Path::new(BENCHES).join("c-peers").join(source));
    cc.args(library.map(Library::to_link).unwrap_or_default());
    succeed(&mut cc).map_err(|error| format!("it is not compiled: {}", in_a_line(&error)))?;
    Ok(program)
}

/// The cargo that runs this, for a package that has a lock file of its own.
pub(crate) fn cargo(command: &str, manifest: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([command, "--locked", "--manifest-path"]).arg(manifest);
    cargo
}

/// Whether the C compiler finds the header of a library.
fn has_header(library: Library) -> bool {
    let mut cc = Command::new("cc");
    cc.args(library.to_compile()).args(["-E", "-include", library.header, "-x", "c", "/dev/null"]);
    succeed(&mut cc).is_ok()
}

/// Why a program takes no part, short enough for a table: the last line, which is what tools end with. If there are more, all of
/// them go to standard error.
pub(crate) fn in_a_line(error: &impl ToString) -> String {
    let said = error.to_string();
    let last = last_line(&said);
    if last != said {
        eprintln!("{said}");
    }
    last.to_owned()
}

fn last_line(said: &str) -> &str {
    said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default()
}

/// Runs a command and gives what it said.
///
/// # Errors
/// That it does not start or fails, and what it said then.
pub(crate) fn succeed(command: &mut Command) -> Result<Output> {
    let output = command.output().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    judge(command, output)
}

/// The same for a program that says little and is done soon: one that hangs is killed.
pub(crate) fn succeed_soon(command: &mut Command) -> Result<Output> {
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    if !ends_within(&child, SOON)? {
        child.kill()?;
        child.wait()?;
        return Err(format!("{command:?} has not ended after {} s, and was killed", SOON.tv_sec).into());
    }
    judge(command, child.wait_with_output()?)
}

/// The longest run takes some seconds, and a cold build half a minute.
const SOON: Timespec = Timespec { tv_sec: 300, tv_nsec: 0 };

/// Waits for the end of a child, but not longer than that: whether it has ended.
pub(crate) fn ends_within(child: &Child, limit: Timespec) -> Result<bool> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut end = [PollFd::new(&pidfd, PollFlags::IN)];
    Ok(retry_on_intr(|| poll(&mut end, Some(&limit)))? > 0)
}

fn judge(command: &Command, output: Output) -> Result<Output> {
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}\n{said}", output.status).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_told_by_the_last_line_that_says_something() {
        assert_eq!(last_line("\"cc\": exit status: 1\nfatal error: ev.h\n\n"), "fatal error: ev.h");
        assert_eq!(last_line("refused"), "refused");
        assert_eq!(last_line(""), "");
    }

    #[test]
    fn a_file_that_is_not_compiled_is_missing_and_not_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let unknown =
            Library { name: "nothing", header: "no/such.h", modules: &["nothing"], link: &[], package: "nothing-dev" };
        let missing = compile(folder.path(), "chain/libev.c", Some(unknown)).unwrap_err();
        assert_eq!(missing, "nothing is not installed, in Debian: nothing-dev");
        assert!(compile(folder.path(), "no/such.c", None).unwrap_err().starts_with("it is not compiled: "));
    }
}
