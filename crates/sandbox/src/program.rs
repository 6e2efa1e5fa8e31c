//! Programs that a process of the sandbox becomes.

use std::ffi::CString;
use std::io;

use serde::{Deserialize, Serialize};

use crate::sys;

/// A program to execute: its arguments, the first of which is the path, and its whole environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Program {
    /// Path and arguments.
    pub args: Vec<String>,
    /// Variables, `NAME=value`.
    pub env: Vec<String>,
}

pub(crate) fn become_program(program: &Program) -> crate::Error {
    let strings = |list: &[String]| {
        list.iter()
            .map(|text| CString::new(text.as_bytes()))
            .collect()
    };
    let (args, env): (
        std::result::Result<Vec<_>, _>,
        std::result::Result<Vec<_>, _>,
    ) = (strings(&program.args), strings(&program.env));
    let failure = match (args, env) {
        (Ok(args), Ok(env)) if !args.is_empty() => sys::exec(&args[0], &args, &env),
        _ => io::Error::new(io::ErrorKind::InvalidInput, "a NUL in, or no, arguments"),
    };
    crate::Error::new(
        format!(
            "execute {}",
            program.args.first().map_or("nothing", String::as_str)
        ),
        failure,
    )
}
