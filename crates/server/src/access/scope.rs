//! What policies call things and actions.

/// What signed requests to a function's URL do. It is no action of the API.
pub(super) const INVOKE_URL: &str = "InvokeFunctionUrl";

/// The path of a namespace.
pub(crate) fn namespace(name: &str) -> String {
    format!("namespace/{name}")
}

/// How the paths look that requests are about, `{}` being a name: what a policy's resources can match.
pub(super) const PATH_SHAPES: &[&str] = &[
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

/// The service that has an action in policies: the tag service its own, though they are about functions; else that of the resource.
pub(super) fn service_of<'a>(action: &str, resource: &'a str) -> &'a str {
    let of_tags = scf::action::find(action).is_some_and(|found| found.service == scf::TAG);
    match resource {
        "scf" if of_tags => scf::TAG.name,
        other => other,
    }
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
