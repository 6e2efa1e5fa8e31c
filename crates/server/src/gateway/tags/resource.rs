//! Names of functions in the tag service. Pure, since `names.rs` parses them for authorization.

/// The service segment of functions.
pub(super) const SERVICE: &str = "scf";
/// The prefix of a function's id.
pub(super) const PREFIX: &str = "namespace";

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
