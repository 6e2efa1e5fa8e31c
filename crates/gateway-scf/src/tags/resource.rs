//! Names of functions in the tag service. Pure, since `names.rs` parses them for authorization.

/// The service segment of functions.
pub(super) const SERVICE: &str = "scf";
/// The prefix of a function's path.
pub(super) const PREFIX: &str = "namespace";
/// The prefix of a function's id, as in `lam/lam-abcdefgh`.
pub(super) const ID_PREFIX: &str = "lam";
/// The prefix of a layer.
const LAYER_PREFIX: &str = "layer";

/// A parsed resource name: namespace, function, region and owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct FunctionPath<'a> {
    pub(in super::super) space: &'a str,
    pub(in super::super) name: &'a str,
    /// Empty if absent.
    pub(super) region: &'a str,
    /// In the form `uin/100000000001`; empty if absent.
    pub(super) owner: &'a str,
}

/// Parses `<namespace>/function/<function>`.
pub(in super::super) fn of_id(id: &str) -> Option<FunctionPath<'_>> {
    let (space, name) = id.split_once("/function/")?;
    let whole = |part: &str| !part.is_empty() && !part.contains('/');
    (whole(space) && whole(name)).then_some(FunctionPath {
        space,
        name,
        region: "",
        owner: "",
    })
}

/// Replaces a function's id in a six-segment resource name by its path, which `path_of` looks up. Returns `None` if the
/// name has no id, or one that no function has.
pub(super) fn with_path(
    text: &str,
    path_of: impl FnOnce(&str) -> Option<String>,
) -> Option<String> {
    let (head, id) = split_id(text)?;
    Some(format!("{head}{PREFIX}/{}", path_of(id)?))
}

/// Returns the function's id in a six-segment resource name, if it has one.
pub(super) fn function_id(text: &str) -> Option<&str> {
    split_id(text).map(|(_, id)| id)
}

/// Returns whether a six-segment resource name is a layer's.
pub(super) fn is_layer(text: &str) -> bool {
    let path = text.splitn(6, ':').nth(5).unwrap_or_default();
    path.split('/').next() == Some(LAYER_PREFIX)
}

fn split_id(text: &str) -> Option<(&str, &str)> {
    let path = text.splitn(6, ':').nth(5)?;
    let id = path.strip_prefix(ID_PREFIX)?.strip_prefix('/')?;
    Some((text.strip_suffix(path)?, id))
}

/// Parses a six-segment resource name.
pub(in super::super) fn of_resource(text: &str) -> Option<FunctionPath<'_>> {
    let mut parts = text.splitn(6, ':');
    let mut next = || parts.next();
    let (qcs, _, service, region, owner, path) =
        (next()?, next()?, next()?, next()?, next()?, next()?);
    if qcs != "qcs" || service != SERVICE {
        return None;
    }
    let id = path.strip_prefix(PREFIX)?.strip_prefix('/')?;
    of_id(id).map(|place| FunctionPath {
        region,
        owner,
        ..place
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_functions_are_replaced_by_their_paths() {
        let path_of = |id: &str| (id == "lam-abcdefgh").then(|| "default/function/f".to_owned());
        let by_id = "qcs::scf:ap-guangzhou:uin/1:lam/lam-abcdefgh";
        assert_eq!(
            with_path(by_id, path_of).as_deref(),
            Some("qcs::scf:ap-guangzhou:uin/1:namespace/default/function/f")
        );
        for other in [
            "",
            "qcs::scf:::lam/lam-zzzzzzzz",
            "qcs::scf:::lamb/lam-abcdefgh",
            "qcs::scf:::namespace/default/function/f",
        ] {
            assert_eq!(with_path(other, path_of), None, "{other}");
        }
        assert_eq!(function_id("qcs::scf:::lam/x"), Some("x"));
        assert!(is_layer("qcs::scf:::layer/shared") && !is_layer(by_id));
    }

    #[test]
    fn function_paths_are_parsed_from_ids_and_resource_names() {
        let place = |region, owner| FunctionPath {
            space: "default",
            name: "hello",
            region,
            owner,
        };
        assert_eq!(of_id("default/function/hello"), Some(place("", "")));
        let whole = "qcs::scf:ap-guangzhou:uin/1:namespace/default/function/hello";
        assert_eq!(of_resource(whole), Some(place("ap-guangzhou", "uin/1")));
        assert_eq!(
            of_resource("qcs:0:scf:::namespace/default/function/hello"),
            Some(place("", ""))
        );
        for wrong in [
            "",
            "hello",
            "a/function/",
            "/function/b",
            "a/b/function/c",
            "a/function/b/c",
        ] {
            assert_eq!(of_id(wrong), None, "{wrong}");
        }
        for wrong in [
            "",
            "default/function/hello",
            "qcs::cos:::namespace/default/function/hello",
            "qcs::scf:::default/function/hello",
            "qcs::scf:::namespace",
            "qcs::scf:::namespacedefault/function/hello",
            "qcs::scf::namespace/default/function/hello",
            "arn::scf:::namespace/default/function/hello",
        ] {
            assert_eq!(of_resource(wrong), None, "{wrong}");
        }
    }
}
