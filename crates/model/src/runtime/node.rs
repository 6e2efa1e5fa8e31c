//! Node.js.

use super::description::{Description, PackageManager, Start};

pub(super) const NODE: Description = Description {
    prefix: "Nodejs",
    example: "NodejsN.N, such as Nodejs18.15",
    has_version: Some(|_, _| true),
    minors_compatible: true,
    extension: Some("js"),
    start: Start::Interpreter { shim: "shim.js" },
    packages: Some(PackageManager::Npm),
    bytecode_since: None,
    paths: |major, _| vec!["/var/lang/node".into(), format!("/var/lang/node{major}")],
    documented: &[(10, 0), (12, 0), (14, 0), (16, 0), (18, 0)],
};
