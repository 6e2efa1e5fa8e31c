//! Node.js.

use super::description::{Description, PackageManager, SourceFile};

pub(super) const NODE: Description = Description {
    name: "Node.js",
    prefix: "Nodejs",
    example: "NodejsN.N, such as Nodejs18.15",
    has_version: Some(|_, _| true),
    minors_compatible: true,
    source: SourceFile::Extension("js"),
    packages: Some(PackageManager {
        name: "npm",
        list: "package.json",
    }),
    paths: |major, _| vec!["/var/lang/node".into(), format!("/var/lang/node{major}")],
    documented: &[(10, 0), (12, 0), (14, 0), (16, 0), (18, 0)],
};
