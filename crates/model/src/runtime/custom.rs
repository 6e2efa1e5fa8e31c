//! Programs in any language, which fetch events over HTTP.

use super::description::{Description, Start};

pub(super) const CUSTOM: Description = Description {
    prefix: "CustomRuntime",
    example: "CustomRuntime",
    has_version: None,
    minors_compatible: false,
    extension: None,
    start: Start::Program { file: "bootstrap" },
    packages: None,
    bytecode_since: None,
    paths: |_, _| Vec::new(),
    documented: &[],
};
