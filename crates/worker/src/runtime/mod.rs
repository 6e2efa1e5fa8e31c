//! How functions of each language run on this node: one file per language.
//!
//! A language implements [`LanguageRuntime`] and is registered in [`of`]. Its name, versions and package manager are in its
//! [`model::Description`]. Everything else in this crate asks these two how languages differ.

mod language_runtime;
mod node;
mod program;
mod python;

use model::Language;

use crate::found::Interpreter;

pub(crate) use self::language_runtime::{Compiler, Discovery, Installer, LanguageRuntime};

/// Returns how functions of a language run.
pub(crate) fn of(language: Language) -> &'static dyn LanguageRuntime {
    match language {
        Language::Python => &python::Python,
        Language::Node => &node::Node,
        Language::Custom => &program::CustomProgram,
    }
}

/// Returns how functions run that an interpreter serves.
pub(crate) fn served_by(interpreter: &Interpreter) -> &'static dyn LanguageRuntime {
    of(interpreter.runtime.language())
}
