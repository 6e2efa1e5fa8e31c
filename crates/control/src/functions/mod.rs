//! Functions: creation, code, settings, copies and deletion.

mod code;
mod configuration;
mod copy;
mod create;
mod delete;
mod settings;

pub use code::CodeChange;
pub use configuration::{Reconfigured, check_runtime_unchanged};
pub use copy::{CopySettings, CopySource};
pub use create::NewFunction;
pub use settings::{check_install, environment, timeout};
