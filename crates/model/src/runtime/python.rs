//! Python.

use super::description::{Description, PackageManager, Start};

pub(super) const PYTHON: Description = Description {
    prefix: "Python",
    example: "Python3.N, such as Python3.11",
    has_version: Some(|major, minor| major == 3 || (major, minor) == (2, 7)),
    minors_compatible: false,
    extension: Some("py"),
    start: Start::Copy { shim: "shim.py" },
    packages: Some(PackageManager::Pip),
    // Older ones write compiled files beside their sources only.
    bytecode_since: Some((3, 8)),
    paths: |major, minor| {
        vec![
            format!("/var/lang/python{major}"),
            format!("/var/lang/python{major}{minor}"),
        ]
    },
    documented: &[(3, 6), (3, 7), (3, 9), (3, 10)],
};
