//! Programs in any language, which bring what they need with them.

use std::path::Path;

use model::SourceFile;

use super::language_runtime::LanguageRuntime;
use crate::found::Interpreter;
use crate::launch_mode::LaunchMode;

/// A program at the root of the package.
pub(super) struct CustomProgram;

impl LanguageRuntime for CustomProgram {
    fn launch(&self, interpreter: &Interpreter, _: &Path, _: Option<u64>) -> LaunchMode {
        let language = interpreter.runtime.language();
        let (SourceFile::Program(file) | SourceFile::Extension(file)) =
            language.description().source;
        LaunchMode::Program { file: file.into() }
    }
}
