//! What policies call things and actions.

/// What signed requests to a function's URL do. It is no action of the API.
pub(super) const OF_URLS: &str = "InvokeFunctionUrl";

/// The path of a namespace.
pub(crate) fn namespace(name: &str) -> String {
    format!("namespace/{name}")
}

/// How the paths look that requests are about, `{}` being a name: what a policy's resources can match.
pub(super) const SHAPES: &[&str] = &[
    "*",
    "namespace/{}",
    "namespace/{}/function/{}",
    "layer/{}",
    "domain/{}",
];

/// The path of a function.
pub(crate) fn function(space: &str, name: &str) -> String {
    format!("namespace/{space}/function/{name}")
}

/// The path of a layer.
pub(crate) fn layer(name: &str) -> String {
    format!("layer/{name}")
}

/// The path of a custom domain, however it is spelt.
pub(crate) fn domain(name: &str) -> String {
    format!("domain/{}", name.to_ascii_lowercase())
}

/// An action's own name, and the coarser one that SCF's policies have for it.
///
/// Source: SCF's list of actions whose use can be granted.
pub(super) fn names(action: &str) -> Vec<&str> {
    let other = match action {
        "Invoke" => "InvokeFunction",
        "InvokeFunction" => "Invoke",
        "UpdateFunctionCode" | "UpdateFunctionConfiguration" => "UpdateFunction",
        "GetAccount" => "GetAccountSettings",
        "ListVersionByFunction" => "ListVersion",
        "CreateTrigger" | "UpdateTrigger" | "UpdateTriggerStatus" => "SetTrigger",
        _ => return vec![action],
    };
    vec![action, other]
}
