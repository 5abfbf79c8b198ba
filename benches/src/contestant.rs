//! The programs that are compared: their names, what they are built from, and what is particular to
//! each.

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

impl Contestant {
    pub(crate) const fn ours(extra: &'static [&'static str]) -> Self {
        Self {
            name: "reactor",
            origin: Origin::Ours,
            extra,
        }
    }

    pub(crate) const fn rust(name: &'static str) -> Self {
        Self {
            name,
            origin: Origin::Rust(name),
            extra: &[],
        }
    }

    pub(crate) const fn c(
        name: &'static str,
        source: &'static str,
        library: Option<Library>,
    ) -> Self {
        Self {
            name,
            origin: Origin::C(source, library),
            extra: &[],
        }
    }

    pub(crate) const fn cold_build(name: &'static str) -> Self {
        Self {
            name,
            origin: Origin::ColdBuild(name),
            extra: &[],
        }
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
