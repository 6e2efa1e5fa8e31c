//! The properties of a language.

/// The properties of a language.
#[derive(Debug)]
pub struct Description {
    /// Name of the language.
    pub name: &'static str,
    /// Name of a runtime without its version.
    pub prefix: &'static str,
    /// Names of its runtimes, for messages.
    pub example: &'static str,
    /// Whether a version exists; `None` = it has no versions.
    pub has_version: Option<fn(major: u8, minor: u8) -> bool>,
    /// Whether minor versions can replace one another.
    pub minors_compatible: bool,
    /// The file with the handler.
    pub source: SourceFile,
    /// Installs the dependencies of a package.
    pub packages: Option<PackageManager>,
    /// Paths under which SCF documents an interpreter; the last one is that of the version.
    pub paths: fn(major: u8, minor: u8) -> Vec<String>,
    /// Versions that SCF offers.
    pub documented: &'static [(u8, u8)],
}

/// The file with a function's handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceFile {
    /// A handler is a function of a file, and names it without this extension.
    Extension(&'static str),
    /// A program at the root of the package.
    Program(&'static str),
}

/// A package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackageManager {
    /// Its name.
    pub name: &'static str,
    /// Name of the file that lists a package's dependencies.
    pub list: &'static str,
}
