//! Programs in any language, which fetch events over HTTP.

use super::description::{Description, SourceFile};

pub(super) const CUSTOM: Description = Description {
    name: "programs",
    prefix: "CustomRuntime",
    example: "CustomRuntime",
    has_version: None,
    minors_compatible: false,
    source: SourceFile::Program("bootstrap"),
    packages: None,
    paths: |_, _| Vec::new(),
    documented: &[],
};
