//! The properties of a language.

/// The properties of a language.
#[derive(Debug)]
pub struct Description {
    /// Name of a runtime without its version.
    pub prefix: &'static str,
    /// Names of its runtimes, for messages.
    pub example: &'static str,
    /// Whether a version exists; `None` = it has no versions.
    pub has_version: Option<fn(major: u8, minor: u8) -> bool>,
    /// Whether minor versions can replace one another.
    pub minors_compatible: bool,
    /// Extension of a handler's file, if a handler is one function of a file.
    pub extension: Option<&'static str>,
    /// How an instance starts.
    pub start: Start,
    /// Installs the dependencies of a package.
    pub packages: Option<PackageManager>,
    /// First version whose bytecode can be compiled ahead and stored.
    pub bytecode_since: Option<(u8, u8)>,
    /// Paths under which SCF documents an interpreter; the last one is that of the version.
    pub paths: fn(major: u8, minor: u8) -> Vec<String>,
    /// Versions that SCF offers.
    pub documented: &'static [(u8, u8)],
}

/// How an instance starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// As a copy of a warm interpreter, or as a new interpreter. Both run the shim.
    Copy {
        /// File of the shim.
        shim: &'static str,
    },
    /// As a new interpreter that runs the shim.
    Interpreter {
        /// File of the shim.
        shim: &'static str,
    },
    /// As a program at the root of the package.
    Program {
        /// File of the program.
        file: &'static str,
    },
}

/// A package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackageManager {
    /// pip.
    Pip,
    /// npm.
    Npm,
}

impl PackageManager {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pip => "pip",
            Self::Npm => "npm",
        }
    }

    /// Returns the name of the file that lists a package's dependencies.
    pub fn list(self) -> &'static str {
        match self {
            Self::Pip => "requirements.txt",
            Self::Npm => "package.json",
        }
    }
}
