//! The programs that take part: what they are built from, whether that is here, and by which command they run.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::process::Command;

use workloads::Result;

use crate::process::succeed;

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

/// What was built, or why that was not.
type Built<T> = std::result::Result<T, Absence>;

/// Why a contestant takes no part, in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// What it needs of the system is not installed.
    Missing(String),
    /// That is there, but it cannot be built, or fails.
    Failed(String),
}

impl Absence {
    /// How a program or its build has failed; all of what that said, if it is more, goes to standard error.
    pub(crate) fn failed(how: &str, error: &impl ToString) -> Self {
        Self::Failed(format!("{how}: {}", in_a_line(error)))
    }
}

impl Display for Absence {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let (Self::Missing(why) | Self::Failed(why)) = self;
        out.write_str(why)
    }
}

/// Looks for those who have failed among the absent of each table.
///
/// # Errors
/// Who has failed, and where.
pub(crate) fn nobody_failed<'a>(
    tables: impl IntoIterator<Item = (&'static str, &'a [(&'static str, Absence)])>,
) -> Result {
    let mut failed = Vec::new();
    for (title, absent) in tables {
        let failures = absent.iter().filter(|(_, why)| matches!(why, Absence::Failed(_)));
        failed.extend(failures.map(|(name, why)| format!("{title}, {name}: {why}")));
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n").into()) }
}

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

    /// The command that runs a contestant with these arguments, or why there is none.
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
            Origin::ColdBuild(package) => self.cold_build(package)?,
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
            succeed(&mut build).map_err(|error| Absence::failed("the peers in Rust are not built", &error))?;
            Ok(target.join("release/rust-peers"))
        };
        self.rust.get_or_insert_with(build).clone()
    }

    /// Fetches what a package of `hello` needs, which is not part of building it.
    fn cold_build(&self, package: &str) -> Built<Command> {
        let manifest = Path::new(BENCHES).join("hello").join(package).join("Cargo.toml");
        succeed(&mut cargo("fetch", &manifest))
            .map_err(|error| Absence::failed("its crates cannot be fetched", &error))?;
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
        return Err(Absence::Missing("needs a C compiler, in Debian: gcc libc6-dev".to_owned()));
    }
    if let Some(library @ Library { name, package, .. }) = library
        && !has_header(library)
    {
        return Err(Absence::Missing(format!("{name} is not installed, in Debian: {package}")));
    }
    let program = folder.join(source.replace(['/', '.'], "_"));
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-Wall", "-Werror", "-Wno-unused-function", "-D_GNU_SOURCE", "-pthread", "-o"]).arg(&program);
    cc.args(library.map(Library::to_compile).unwrap_or_default());
    cc.arg(Path::new(BENCHES).join("c-peers").join(source));
    cc.args(library.map(Library::to_link).unwrap_or_default());
    succeed(&mut cc).map_err(|error| Absence::failed("it is not compiled", &error))?;
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

/// What went wrong, short enough for a table: the last line, which is what tools end with. If there are more, all of them go to
/// standard error.
fn in_a_line(error: &impl ToString) -> String {
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
    fn who_has_no_library_is_missing_and_who_is_not_compiled_though_it_is_there_has_failed() {
        let folder = tempfile::tempdir().unwrap();
        let unknown =
            Library { name: "nothing", header: "no/such.h", modules: &["nothing"], link: &[], package: "nothing-dev" };
        let missing = compile(folder.path(), "chain/libev.c", Some(unknown)).unwrap_err();
        assert_eq!(missing, Absence::Missing("nothing is not installed, in Debian: nothing-dev".to_owned()));
        let failed = compile(folder.path(), "no/such.c", None).unwrap_err();
        assert!(matches!(&failed, Absence::Failed(why) if why.starts_with("it is not compiled: ")), "{failed:?}");
    }

    #[test]
    fn who_is_missing_is_no_failure_and_everyone_who_failed_is_told() {
        let missing = [("libev", Absence::Missing("it is not installed".to_owned()))];
        let failed = [missing[0].clone(), ("reactor", Absence::Failed("it failed: no memory".to_owned()))];
        assert!(nobody_failed([("a chain", &missing[..]), ("an echo", &[])]).is_ok());
        let told = nobody_failed([("a chain", &failed[..]), ("an echo", &failed[1..])]).unwrap_err().to_string();
        assert_eq!(told, "a chain, reactor: it failed: no memory\nan echo, reactor: it failed: no memory");
    }
}
