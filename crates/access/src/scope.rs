//! Names of resources and actions in policies.

/// The action of a signed request to a function's URL, which is no action of the API.
pub(super) const INVOKE_URL: &str = "InvokeFunctionUrl";

/// Returns the path of a namespace.
pub fn namespace(name: &str) -> String {
    format!("namespace/{name}")
}

/// The forms of resource paths, with `{}` for a name, that a policy's patterns can match.
pub(super) const PATH_SHAPES: &[&str] = &[
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

/// Returns the service of an action in policies: `tag` for tag actions, though their resources are functions; else the
/// resource's service.
pub(super) fn service_of<'a>(action: &str, resource: &'a str) -> &'a str {
    let of_tags = scf::action::find(action).is_some_and(|found| found.service == scf::TAG);
    match resource {
        "scf" if of_tags => scf::TAG.name,
        other => other,
    }
}

/// Returns an action's own name, and its coarser alias in SCF's policies.
///
/// Source: SCF's list of actions that support authorisation.
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
