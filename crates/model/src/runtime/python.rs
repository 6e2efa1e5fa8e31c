//! Python.

use super::description::{Description, PackageManager, SourceFile};

pub(super) const PYTHON: Description = Description {
    name: "Python",
    prefix: "Python",
    example: "Python3.N, such as Python3.11",
    has_version: Some(|major, minor| major == 3 || (major, minor) == (2, 7)),
    minors_compatible: false,
    source: SourceFile::Extension("py"),
    packages: Some(PackageManager {
        name: "pip",
        list: "requirements.txt",
    }),
    paths: |major, minor| {
        vec![
            format!("/var/lang/python{major}"),
            format!("/var/lang/python{major}{minor}"),
        ]
    },
    documented: &[(3, 6), (3, 7), (3, 9), (3, 10)],
};
