//! How a process in a sandbox launches a function's code.

use serde::{Deserialize, Serialize};

/// How the function's code is launched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LaunchMode {
    /// A handler in a copy of a warm interpreter.
    Copy,
    /// A handler in an interpreter that the process executes, so that it starts with the function's environment.
    Interpreter {
        /// The command: interpreter, options, shim.
        command: Vec<String>,
    },
    /// A program that fetches events over HTTP.
    Program {
        /// Its file at the root of the code.
        file: String,
    },
    /// A program that serves HTTP itself.
    Server,
}

/// Program of a web function.
const SERVER: &str = "scf_bootstrap";

impl LaunchMode {
    /// Returns the name of the program at the root of the code, if the launch mode has one.
    pub(crate) fn program_file(&self) -> Option<&str> {
        match self {
            Self::Copy | Self::Interpreter { .. } => None,
            Self::Program { file } => Some(file),
            Self::Server => Some(SERVER),
        }
    }
}
