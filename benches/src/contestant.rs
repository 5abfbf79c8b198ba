//! The programs that are compared: their names, their origins, and the options of each.

/// A program, with its name in a table.
#[derive(Clone, Debug)]
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) origin: Origin,
    /// The options that it gets in addition to the arguments of the case.
    pub(crate) extra: &'static [&'static str],
}

/// The origin of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// This program itself.
    Ours,
    /// A peer in the package `rust-peers`.
    Rust(&'static str),
    /// A C file of `c-peers`, and the library that it is linked with.
    C(&'static str, Option<Library>),
    /// This program itself, which builds a package of `hello`.
    ColdBuild(&'static str),
}

/// A C library, which may be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Library {
    pub(crate) name: &'static str,
    pub(crate) headers: &'static [&'static str],
    /// Its names in pkg-config.
    pub(crate) modules: &'static [&'static str],
    /// The linker flags, if pkg-config does not know the library.
    pub(crate) link: &'static [&'static str],
    /// Its packages in Debian.
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

    /// Returns the same program in another form.
    pub(crate) const fn form(mut self, name: &'static str, extra: &'static [&'static str]) -> Self {
        (self.name, self.extra) = (name, extra);
        self
    }

    /// Returns its name without the form. It is chosen by this name.
    pub(crate) fn program(&self) -> &'static str {
        self.name.split(',').next().unwrap_or(self.name)
    }
}
