//! Builds the programs that take part, if the libraries that they need are installed, and makes the
//! commands that run them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use workloads::Result;

use crate::absence::Absence;
use crate::certificate::Certificate;
use crate::contestant::{Contestant, Library, Origin};
use crate::process::succeed;

/// Builds programs on demand, each once.
pub(crate) struct Workshop {
    folder: PathBuf,
    ours: PathBuf,
    rust: Option<Built<PathBuf>>,
    c: HashMap<&'static str, Built<PathBuf>>,
    /// The certificate of the TLS servers.
    certificate: Certificate,
}

/// A built program, or the reason why there is none.
type Built<T> = std::result::Result<T, Absence>;

/// The folder of this package.
pub(crate) const BENCHES: &str = env!("CARGO_MANIFEST_DIR");

impl Workshop {
    /// Returns a workshop that has built nothing yet. Servers of TLS get `certificate`.
    pub(crate) fn open(certificate: Certificate) -> Result<Self> {
        let ours = std::env::current_exe()?;
        // Next to the folder of the profile, so that both profiles share the programs.
        let folder = ours
            .ancestors()
            .nth(2)
            .ok_or("no target folder above this program")?
            .join("peers");
        std::fs::create_dir_all(&folder)?;
        Ok(Self {
            folder,
            ours,
            rust: None,
            c: HashMap::new(),
            certificate,
        })
    }

    /// Returns the command that runs a contestant with these arguments, or the reason why there is
    /// none.
    pub(crate) fn command(
        &mut self,
        contestant: &Contestant,
        arguments: &[&str],
    ) -> Built<Command> {
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
        // The name of the workload is left out: in C there is one program for each workload, and a
        // cold build has its own command.
        let skipped = usize::from(matches!(
            contestant.origin,
            Origin::C(..) | Origin::ColdBuild(_)
        ));
        command.args(&arguments[skipped..]).args(contestant.extra);
        if arguments[0] == "tls" {
            command.arg("--certificate").arg(self.certificate.path());
        }
        Ok(command)
    }

    /// Builds the peers in Rust once. They are one program.
    fn rust_peers(&mut self) -> Built<PathBuf> {
        let target = self.folder.join("rust");
        let build = || {
            let mut build = cargo("build", &Path::new(BENCHES).join("rust-peers/Cargo.toml"));
            build.args(["--release", "--target-dir"]).arg(&target);
            succeed(&mut build)
                .map_err(|error| Absence::failed("the peers in Rust do not build", &error))?;
            Ok(target.join("release/rust-peers"))
        };
        self.rust.get_or_insert_with(build).clone()
    }

    /// Fetches the crates that a package of `hello` needs, since fetching is not part of the build.
    /// Returns the command that builds the package.
    fn cold_build(&self, package: &str) -> Built<Command> {
        let manifest = Path::new(BENCHES)
            .join("hello")
            .join(package)
            .join("Cargo.toml");
        succeed(&mut cargo("fetch", &manifest))
            .map_err(|error| Absence::failed("its crates could not be fetched", &error))?;
        let mut command = Command::new(&self.ours);
        command.arg("cold-build").arg("--manifest").arg(manifest);
        command
            .arg("--target")
            .arg(self.folder.join("cold").join(package));
        Ok(command)
    }

    /// Compiles a C file once.
    fn compiled(&mut self, source: &'static str, library: Option<Library>) -> Built<PathBuf> {
        let Self { folder, c, .. } = self;
        c.entry(source)
            .or_insert_with(|| compile(folder, source, library))
            .clone()
    }
}

fn compile(folder: &Path, source: &str, library: Option<Library>) -> Built<PathBuf> {
    if Command::new("cc").arg("--version").output().is_err() {
        return Err(Absence::Missing(
            "needs a C compiler (Debian packages: gcc libc6-dev)".to_owned(),
        ));
    }
    if let Some(library @ Library { name, package, .. }) = library
        && !has_headers(library)
    {
        return Err(Absence::Missing(format!(
            "{name} is not installed (in Debian: {package})"
        )));
    }
    let program = folder.join(source.replace(['/', '.'], "_"));
    let mut cc = Command::new("cc");
    cc.args([
        "-O2",
        "-Wall",
        "-Werror",
        "-Wno-unused-function",
        "-D_GNU_SOURCE",
        "-pthread",
        "-o",
    ])
    .arg(&program);
    cc.args(library.map(compile_flags).unwrap_or_default());
    cc.arg(Path::new(BENCHES).join("c-peers").join(source));
    cc.args(library.map(link_flags).unwrap_or_default());
    succeed(&mut cc).map_err(|error| Absence::failed("does not compile", &error))?;
    Ok(program)
}

/// Returns a command of the cargo that runs this program, for a package with its own lock file.
pub(crate) fn cargo(command: &str, manifest: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([command, "--locked", "--manifest-path"])
        .arg(manifest);
    cargo
}

/// Returns `true` if the C compiler finds the headers of a library.
fn has_headers(library: Library) -> bool {
    let mut cc = Command::new("cc");
    cc.args(compile_flags(library)).args(includes(library));
    cc.args(["-E", "-x", "c", "/dev/null"]);
    succeed(&mut cc).is_ok()
}

/// Returns the flags by which the compiler includes the headers.
pub(crate) fn includes(library: Library) -> impl Iterator<Item = &'static str> {
    (library.headers.iter()).flat_map(|&header| ["-include", header])
}

/// Returns the flags by which the compiler finds the headers of a library.
pub(crate) fn compile_flags(library: Library) -> Vec<String> {
    pkg_config(library, "--cflags").unwrap_or_default()
}

fn link_flags(library: Library) -> Vec<String> {
    pkg_config(library, "--libs")
        .unwrap_or_else(|| library.link.iter().copied().map(str::to_owned).collect())
}

/// Returns the flags that pkg-config knows, or `None`: not every library installs a file for it.
fn pkg_config(library: Library, option: &str) -> Option<Vec<String>> {
    let output = succeed(Command::new("pkg-config").arg(option).args(library.modules)).ok()?;
    Some(
        String::from_utf8(output.stdout)
            .ok()?
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that does not compile has failed, if everything that it needs is installed.
    #[test]
    fn a_program_without_its_library_is_missing_and_one_not_compiled_failed() {
        let folder = tempfile::tempdir().unwrap();
        let unknown = Library {
            name: "nothing",
            headers: &["no/such.h"],
            modules: &["nothing"],
            link: &[],
            package: "nothing-dev",
        };
        let missing = compile(folder.path(), "chain/libev.c", Some(unknown)).unwrap_err();
        assert_eq!(
            missing,
            Absence::Missing("nothing is not installed (in Debian: nothing-dev)".to_owned())
        );
        let failed = compile(folder.path(), "no/such.c", None).unwrap_err();
        assert!(
            matches!(&failed, Absence::Failed(why) if why.starts_with("does not compile: ")),
            "{failed:?}"
        );
    }
}
