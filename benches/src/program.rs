//! The programs that take part: what they are built from, whether that is here, and how they are started.

use std::cell::OnceCell;
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
    pub(crate) link: &'static [&'static str],
    /// Where Debian has it.
    pub(crate) package: &'static str,
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
}

/// Builds programs on demand, each once.
pub(crate) struct Workshop {
    folder: PathBuf,
    ours: PathBuf,
    rust: OnceCell<PathBuf>,
    c: HashMap<&'static str, std::result::Result<PathBuf, String>>,
}

/// The folder of this package.
pub(crate) const BENCHES: &str = env!("CARGO_MANIFEST_DIR");

impl Workshop {
    pub(crate) fn open() -> Result<Self> {
        let ours = std::env::current_exe()?;
        // Beside the folder of the profile, so that both profiles share what is built.
        let folder = ours.ancestors().nth(2).ok_or("no target folder above this program")?.join("peers");
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder, ours, rust: OnceCell::new(), c: HashMap::new() })
    }

    /// The command that runs a contestant with these arguments, or what is missing for it.
    ///
    /// # Errors
    /// What the compiler says, if everything is there.
    pub(crate) fn command(
        &mut self,
        contestant: &Contestant,
        arguments: &[&str],
    ) -> Result<std::result::Result<Command, String>> {
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
            Origin::C(source, library) => match self.compiled(source, library)? {
                Ok(program) => Command::new(program),
                Err(missing) => return Ok(Err(missing)),
            },
            Origin::ColdBuild(package) => match self.cold_build(package) {
                Ok(command) => command,
                Err(error) => {
                    let said = error.to_string();
                    return Ok(Err(format!("its crates cannot be fetched: {}", said.lines().last().unwrap_or(&said))));
                }
            },
        };
        // In C there is a program for each workload; a cold build has a command.
        let skipped = usize::from(matches!(contestant.origin, Origin::C(..) | Origin::ColdBuild(_)));
        command.args(&arguments[skipped..]).args(contestant.extra);
        Ok(Ok(command))
    }

    fn rust_peers(&self) -> Result<&Path> {
        if let Some(program) = self.rust.get() {
            return Ok(program);
        }
        let target = self.folder.join("rust");
        let mut build = cargo("build", &Path::new(BENCHES).join("rust-peers/Cargo.toml"));
        build.args(["--release", "--target-dir"]).arg(&target);
        succeed(&mut build)?;
        Ok(self.rust.get_or_init(|| target.join("release/rust-peers")))
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

    /// Compiles a file once; gives the program, or what is missing.
    fn compiled(
        &mut self,
        source: &'static str,
        library: Option<Library>,
    ) -> Result<std::result::Result<PathBuf, String>> {
        if let Some(known) = self.c.get(source) {
            return Ok(known.clone());
        }
        let compiled = self.compile(source, library)?;
        Ok(self.c.entry(source).or_insert(compiled).clone())
    }

    fn compile(&self, source: &str, library: Option<Library>) -> Result<std::result::Result<PathBuf, String>> {
        if Command::new("cc").arg("--version").output().is_err() {
            return Ok(Err("needs a C compiler, in Debian: gcc libc6-dev".to_owned()));
        }
        if let Some(Library { name, header, package, .. }) = library
            && !has_header(header)?
        {
            return Ok(Err(format!("{name} is not installed, in Debian: {package}")));
        }
        let program = self.folder.join(source.replace(['/', '.'], "_"));
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-Wall", "-Werror", "-Wno-unused-function", "-D_GNU_SOURCE", "-pthread", "-o"]);
        cc.arg(&program).arg(Path::new(BENCHES).join("c-peers").join(source));
        cc.args(library.map_or(&[][..], |library| library.link));
        succeed(&mut cc)?;
        Ok(Ok(program))
    }
}

/// The cargo that runs this, for a package that has a lock file of its own.
pub(crate) fn cargo(command: &str, manifest: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([command, "--locked", "--manifest-path"]).arg(manifest);
    cargo
}

/// Whether the C compiler finds a header.
fn has_header(header: &str) -> Result<bool> {
    let mut cc = Command::new("cc");
    cc.args(["-E", "-include", header, "-x", "c", "/dev/null"]).stdin(Stdio::null());
    Ok(cc.output()?.status.success())
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
