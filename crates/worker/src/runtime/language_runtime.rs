//! What the worker asks about a language.

use std::path::{Path, PathBuf};

use sandbox::Program;

use crate::PackageError;
use crate::found::Interpreter;
use crate::install_settings::InstallSettings;
use crate::launch_mode::LaunchMode;

/// How functions of a language are built and started on this node.
pub(crate) trait LanguageRuntime: Sync {
    /// Returns how an instance starts that is no copy of a warm interpreter. `shims` is the directory of
    /// [`Self::files`] as it sees it. `memory_bytes` is its memory limit if it has no control group.
    fn launch(
        &self,
        interpreter: &Interpreter,
        shims: &Path,
        memory_bytes: Option<u64>,
    ) -> LaunchMode;

    /// Returns the files that its processes read, by their paths below the directory of the shims.
    fn files(&self) -> &'static [(&'static str, &'static [u8])] {
        &[]
    }

    /// Returns how to find its interpreters on this host. `None` = it needs none.
    fn discovery(&self) -> Option<&'static dyn Discovery> {
        None
    }

    /// Returns how its functions run as copies of a warm interpreter, if they can.
    fn warm_interpreter(&self) -> Option<&'static dyn WarmInterpreter> {
        None
    }

    /// Returns how its package manager is run, if it has one.
    fn installer(&self) -> Option<&'static dyn Installer> {
        None
    }

    /// Returns how its sources are compiled ahead of the first start, if an interpreter's version allows it.
    fn compiler(&self, _interpreter: &Interpreter) -> Option<Compiler> {
        None
    }
}

/// Finds the interpreters of a language on this host.
pub(crate) trait Discovery: Sync {
    /// Lists the programs in the usual locations that may be interpreters.
    fn candidates(&self) -> Vec<PathBuf>;

    /// Returns the name of the package by which a host has one.
    fn host_package(&self) -> &'static str;

    /// Runs a program to determine its version.
    ///
    /// # Errors
    /// Why it is no interpreter of the language.
    fn examine(&self, program: &Path) -> Result<Interpreter, String>;
}

/// A zygote that is an interpreter, whose children are copies of it.
pub(crate) trait WarmInterpreter: Sync {
    /// Returns the program of the zygote. `shims` is the directory of the files as it sees it.
    fn program(&self, interpreter: &Interpreter, shims: &Path) -> Program;

    /// Prepares the files for the first zygote of an interpreter, in the background. `shims` is their directory on this host.
    /// Must be called within a tokio runtime.
    fn prepare(&self, interpreter: &Interpreter, shims: &Path);

    /// Returns the prefixes of the interpreter's own environment variables that it reads only at its start.
    fn start_variables(&self) -> &'static [&'static str];
}

/// Runs a package manager.
pub(crate) trait Installer: Sync {
    /// Returns the command that installs the dependencies of the package at `code` into that directory. It may write to
    /// `tmp`.
    ///
    /// # Errors
    /// [`PackageError::Refused`] if the host lacks the package manager.
    fn program(
        &self,
        code: &Path,
        tmp: &Path,
        interpreter: &Interpreter,
        settings: &InstallSettings,
    ) -> Result<Program, PackageError>;

    /// Returns what to do about a failure with this output, if that is known.
    fn advice(&self, _output: &str) -> Option<&'static str> {
        None
    }
}

/// Compiles sources ahead of the first start.
#[derive(Debug)]
pub(crate) struct Compiler {
    /// Extension of a source file.
    pub(crate) source: &'static str,
    /// Extension of a compiled file.
    pub(crate) compiled: &'static str,
    /// The end of the name of a file that is compiled for this version.
    pub(crate) tag: String,
    /// Name of the directory of compiled files, beside their sources.
    pub(crate) directory: &'static str,
    /// Returns the command that compiles the sources below a directory into another one.
    pub(crate) program: fn(&Interpreter, code: &Path, compiled: &Path) -> Program,
}
