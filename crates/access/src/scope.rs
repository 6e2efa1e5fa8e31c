//! Names of resources in policies.

/// Returns the path of a namespace.
pub fn namespace(name: &str) -> String {
    format!("namespace/{name}")
}

/// The forms of resource paths, with `{}` for a name, that a policy's patterns can match.
pub(crate) const PATH_SHAPES: &[&str] = &[
    "*",
    "namespace/{}",
    "namespace/{}/function/{}",
    "layer/{}",
    "domain/{}",
];

/// Returns the path of a function.
pub fn function(space: &str, name: &str) -> String {
    format!("namespace/{space}/function/{name}")
}

/// Returns the path of a layer.
pub fn layer(name: &str) -> String {
    format!("layer/{name}")
}

/// Returns the path of a custom domain, in lower case.
pub fn domain(name: &str) -> String {
    format!("domain/{}", name.to_ascii_lowercase())
}
