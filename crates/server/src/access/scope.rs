//! What a request is about, in the words of policies.

use scf::{Bounds, Call, Error};
use serde::Deserialize;

/// The fields by which requests name things. Each action has some of them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Named {
    function_name: Option<String>,
    namespace: Option<String>,
    layer_name: Option<String>,
    new_function_name: Option<String>,
    target_namespace: Option<String>,
}

/// Actions that are about the namespace `default` when they name none.
const OF_A_NAMESPACE: &[&str] = &["ListFunctions", "GetFunctionLogs"];

/// What signed requests to a function's URL do. It is no action of the API.
pub(super) const OF_URLS: &str = "InvokeFunctionUrl";

/// The paths of what a request is about; `*` when that is nothing in particular.
///
/// # Errors
/// A field that cannot be read.
pub(super) fn paths(action: &str, call: &Call<'_>, bounds: &Bounds) -> Result<Vec<String>, Error> {
    call.peek(bounds).map(|named| of(action, &named))
}

/// How the paths look that requests are about, `{}` being a name: what a policy's resources can match.
pub(super) const SHAPES: &[&str] = &["*", "namespace/{}", "namespace/{}/function/{}", "layer/{}"];

/// The path of a function.
pub(super) fn function(space: &str, name: &str) -> String {
    format!("namespace/{space}/function/{name}")
}

fn of(action: &str, named: &Named) -> Vec<String> {
    let given = |field: &'_ Option<String>| field.clone().filter(|text| !text.is_empty());
    let space = given(&named.namespace);
    let home = space.clone().unwrap_or_else(|| "default".into());
    let mut paths = Vec::new();
    if let Some(name) = given(&named.function_name) {
        paths.push(function(&home, &name));
        if let Some(copy) = given(&named.new_function_name) {
            let target = given(&named.target_namespace).unwrap_or(home);
            paths.push(function(&target, &copy));
        }
    } else if space.is_some() || OF_A_NAMESPACE.contains(&action) {
        paths.push(format!("namespace/{home}"));
    }
    if let Some(name) = given(&named.layer_name) {
        paths.push(format!("layer/{name}"));
    }
    if paths.is_empty() {
        paths.push("*".into());
    }
    paths
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_about_what_it_names() {
        let rows = [
            (
                "Invoke",
                r#"{"FunctionName":"f"}"#,
                "namespace/default/function/f",
            ),
            (
                "Invoke",
                r#"{"FunctionName":"f","Namespace":"n"}"#,
                "namespace/n/function/f",
            ),
            ("ListFunctions", "{}", "namespace/default"),
            ("ListFunctions", r#"{"Namespace":"n"}"#, "namespace/n"),
            ("DeleteNamespace", r#"{"Namespace":"n"}"#, "namespace/n"),
            ("ListNamespaces", "{}", "*"),
            ("GetLayerVersion", r#"{"LayerName":"l"}"#, "layer/l"),
            (
                "CopyFunction",
                r#"{"FunctionName":"f","NewFunctionName":"g","TargetNamespace":"n"}"#,
                "namespace/default/function/f namespace/n/function/g",
            ),
            (
                "CopyFunction",
                r#"{"FunctionName":"f","NewFunctionName":"g","Namespace":"m"}"#,
                "namespace/m/function/f namespace/m/function/g",
            ),
        ];
        for (action, request, expected) in rows {
            let named: Named = serde_json::from_str(request).expect("a request");
            assert_eq!(of(action, &named).join(" "), expected, "{action} {request}");
        }
    }
}
