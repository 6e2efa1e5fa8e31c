//! Validation of policies against the services, actions and resources of this installation.
//!
//! A pattern that matches none of them has no effect. In a deny statement that is a silent hole, so such a pattern is
//! refused when a policy is written. Policies stored earlier stay valid.

use model::Policy;
use model::policy::{ResourcePattern, wildcard_match};

use crate::action::{INVOKE_URL, KnownActions, PASS_ROLE};
use crate::scope;

/// A validator for one account's policies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PolicyValidator<'a> {
    /// The actions of the installation.
    pub(crate) actions: &'a KnownActions,
    /// The region of the installation.
    pub(crate) region: &'a str,
    /// The account's Uin.
    pub(crate) uin: &'a str,
    /// The account's AppId.
    pub(crate) app_id: u64,
}

/// The services, by their names in policies.
const SERVICES: [&str; 3] = ["scf", "cos", "cam"];

/// A set of services, by their index in [`SERVICES`].
type Services = [bool; SERVICES.len()];

impl PolicyValidator<'_> {
    /// Checks that each pattern of a policy can match something.
    ///
    /// # Errors
    /// The pattern without a match, with the nearest match or the allowed forms.
    pub(crate) fn check(&self, policy: &Policy) -> Result<(), String> {
        policy
            .statements()
            .try_for_each(|(actions, resources)| self.check_statement(actions, resources))
    }

    fn check_statement(&self, actions: &[String], resources: &[String]) -> Result<(), String> {
        let (mut of_actions, mut of_resources) = (Services::default(), Services::default());
        for action in actions {
            add(&mut of_actions, self.services_of_action(action)?);
        }
        for resource in resources {
            add(&mut of_resources, self.services_of_resource(resource)?);
        }
        // Each pattern needs a counterpart of the same service in its statement.
        for action in actions {
            if !meet(self.services_of_action(action)?, of_resources) {
                return Err(format!(
                    "action {action:?} has no effect, since no resource of its statement is one of its service"
                ));
            }
        }
        for resource in resources {
            if !meet(self.services_of_resource(resource)?, of_actions) {
                return Err(format!(
                    "resource {resource:?} has no effect, since no action of its statement is one of its service"
                ));
            }
        }
        Ok(())
    }

    /// Returns the services in which an action pattern can match.
    fn services_of_action(&self, text: &str) -> Result<Services, String> {
        // Older policies write `name/scf:Invoke`.
        let pattern = text.strip_prefix("name/").unwrap_or(text);
        let Some((service, name)) = pattern.split_once(':') else {
            return Ok([true; SERVICES.len()]);
        };
        let has = |known: &str| {
            let mut own = self.actions_of(known).into_iter();
            own.any(|(of, action)| wildcard_match(service, of) && wildcard_match(name, action))
        };
        let services = SERVICES.map(has);
        if services != Services::default() {
            return Ok(services);
        }
        let written = |(service, name)| format!("{service}:{name}");
        let all = SERVICES
            .into_iter()
            .flat_map(|known| self.actions_of(known));
        let nearest = nearest(pattern, all.map(written));
        Err(format!(
            "action {text:?} matches no action, so its statement would have no effect; the nearest is {nearest:?}"
        ))
    }

    /// Returns the actions on a service's resources under all their names, each with the service of the action.
    fn actions_of(&self, service: &str) -> Vec<(&'static str, &'static str)> {
        match service {
            "scf" => {
                let all = self.actions.platform.iter().chain([&INVOKE_URL]);
                let names = all.flat_map(|action| {
                    let names = action.names.iter();
                    names.map(move |name| (action.service, *name))
                });
                names.collect()
            }
            "cos" => {
                let all = self.actions.objects.iter();
                all.map(|name| ("cos", *name)).collect()
            }
            "cam" => vec![(PASS_ROLE.service, PASS_ROLE.name())],
            _ => Vec::new(),
        }
    }

    /// Returns the services in which a resource pattern can match.
    fn services_of_resource(&self, text: &str) -> Result<Services, String> {
        let Some(pattern) = ResourcePattern::parse(text) else {
            return Ok([true; SERVICES.len()]);
        };
        let wrong = |what: String| {
            Err(format!(
                "resource {text:?} matches nothing that the account can have: {what}"
            ))
        };
        let named = SERVICES.map(|service| wildcard_match(pattern.service, service));
        if named == Services::default() {
            let nearest = nearest(pattern.service, SERVICES.map(str::to_owned));
            return wrong(format!(
                "its service is none of {}; the nearest is {nearest:?}",
                SERVICES.join(", ")
            ));
        }
        if !pattern.covers_owner(self.uin, self.app_id) {
            return wrong(format!(
                "its owner must be uin/{} or uid/{}, or left out",
                self.uin, self.app_id
            ));
        }
        let mut services = Services::default();
        let mut shapes = Vec::new();
        for (at, service) in SERVICES.into_iter().enumerate() {
            // Roles are in no region.
            let region = if service == "cam" { "" } else { self.region };
            if !named[at] || !pattern.covers_region(region) {
                continue;
            }
            let own = shapes_of(service, self.app_id);
            services[at] = own.iter().any(|shape| can_be(pattern.path, shape));
            shapes.extend(own);
        }
        if shapes.is_empty() {
            return wrong(format!("its region must be {}, or left out", self.region));
        }
        if services == Services::default() {
            let shown = shapes.join(", ").replace("{*}", "<key>");
            let shown = shown.replace("{}", "<name>");
            return wrong(format!(
                "its path must be {shown}, each part with or without *"
            ));
        }
        Ok(services)
    }
}

/// Returns the forms of a service's resource paths: `{}` is a name, `{*}` any text.
fn shapes_of(service: &str, app_id: u64) -> Vec<String> {
    match service {
        "scf" => scope::PATH_SHAPES
            .iter()
            .map(|&shape| shape.to_owned())
            .collect(),
        "cos" => vec![
            "*".to_owned(),
            format!("{{}}-{app_id}"),
            format!("{{}}-{app_id}/{{*}}"),
        ],
        "cam" => vec!["roleName/{}".to_owned()],
        _ => Vec::new(),
    }
}

/// Returns the known text nearest to a pattern's part before its first `*`.
fn nearest(pattern: &str, known: impl IntoIterator<Item = String>) -> String {
    let (stem, whole) = match pattern.split_once('*') {
        Some((stem, _)) => (stem, false),
        None => (pattern, true),
    };
    let stem = stem.to_lowercase();
    let distance = |text: &String| {
        let text = text.to_lowercase();
        let part = if whole {
            text
        } else {
            text.chars().take(stem.chars().count()).collect()
        };
        strsim::damerau_levenshtein(&stem, &part)
    };
    known.into_iter().min_by_key(distance).unwrap_or_default()
}

fn add(to: &mut Services, more: Services) {
    to.iter_mut().zip(more).for_each(|(to, more)| *to |= more);
}

fn meet(one: Services, other: Services) -> bool {
    one.into_iter().zip(other).any(|(one, other)| one && other)
}

/// A part of a path form.
#[derive(Clone, Copy)]
enum Part {
    Byte(u8),
    /// The first byte of a name.
    One,
    /// A further byte of a name, or none.
    More,
    /// Any bytes, or none.
    Rest,
}

/// Returns whether some text matches both a pattern, in which `*` is any text, and a path form.
fn can_be(pattern: &str, shape: &str) -> bool {
    let pattern = pattern.as_bytes();
    let shape = parts(shape);
    let width = shape.len() + 1;
    let mut seen = vec![false; (pattern.len() + 1) * width];
    let mut open = vec![(0, 0)];
    while let Some((at, part)) = open.pop() {
        let place = &mut seen[at * width + part];
        if std::mem::replace(place, true) {
            continue;
        }
        let (byte, part_now) = (pattern.get(at), shape.get(part));
        match (byte, part_now) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                open.push((at + 1, part));
                if part_now.is_some() {
                    open.push((at, part + 1));
                }
            }
            (byte, Some(Part::Rest)) => {
                open.push((at, part + 1));
                open.extend(byte.map(|_| (at + 1, part)));
            }
            (byte, Some(Part::More)) => {
                open.push((at, part + 1));
                open.extend(byte.filter(|byte| **byte != b'/').map(|_| (at + 1, part)));
            }
            (Some(byte), Some(Part::One)) if *byte != b'/' => open.push((at + 1, part + 1)),
            (Some(byte), Some(Part::Byte(wanted))) if byte == wanted => {
                open.push((at + 1, part + 1));
            }
            _ => {}
        }
    }
    false
}

fn parts(shape: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = shape;
    loop {
        if let Some(after) = rest.strip_prefix("{}") {
            parts.extend([Part::One, Part::More]);
            rest = after;
        } else if let Some(after) = rest.strip_prefix("{*}") {
            parts.push(Part::Rest);
            rest = after;
        } else if let Some((byte, after)) = rest.as_bytes().split_first() {
            parts.push(Part::Byte(*byte));
            // Path forms are ASCII.
            rest = std::str::from_utf8(after).unwrap_or_default();
        } else {
            return parts;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Action;

    fn known() -> KnownActions {
        let action = |service, names| Action { service, names };
        KnownActions {
            platform: vec![
                action("scf", &["CreateFunction"]),
                action("scf", &["DeleteFunction"]),
                action("scf", &["DeleteFunctionVersion"]),
                action("scf", &["DeleteLayerVersion"]),
                action("scf", &["GetFunction"]),
                action("scf", &["Invoke", "InvokeFunction"]),
                action("scf", &["InvokeFunction", "Invoke"]),
                action("scf", &["ListFunctions"]),
                action("scf", &["ListLayers"]),
                action("scf", &["UpdateFunctionCode", "UpdateFunction"]),
                action("tag", &["DescribeTags"]),
                action("tag", &["TagResources"]),
                action("tag", &["UnTagResources"]),
            ],
            objects: vec![
                "GetBucket",
                "GetObject",
                "PutBucket",
                "PutObject",
                "PutObjectACL",
                "PutObjectTagging",
            ],
        }
    }

    fn check(action: &str, resource: &str) -> Result<(), String> {
        check_all(&[action], &[resource])
    }

    fn check_all(actions: &[&str], resources: &[&str]) -> Result<(), String> {
        let here = PolicyValidator {
            actions: &known(),
            region: "ap-guangzhou",
            uin: "100000000001",
            app_id: 1_250_000_000,
        };
        let owned = |texts: &[&str]| -> Vec<_> { texts.iter().map(|&text| text.into()).collect() };
        here.check_statement(&owned(actions), &owned(resources))
    }

    #[test]
    fn policy_patterns_with_a_match_are_accepted() {
        for (action, resource) in [
            ("*", "*"),
            ("*", "qcs::*:::*"),
            ("scf:*", "*"),
            ("s*f:Invoke*", "*"),
            (
                "name/scf:InvokeFunction",
                "qcs::scf:ap-*:uin/1*1:namespace/*/function/h*o",
            ),
            (
                "scf:InvokeFunctionUrl",
                "qcs::scf:::namespace/default/function/hello",
            ),
            ("scf:UpdateFunction", "qcs::scf:::names*"),
            ("scf:List*", "qcs::scf:::namespace/default"),
            ("scf:ListLayers", "qcs::scf:::layer/*"),
            (
                "scf:*Function",
                "qcs::scf:ap-guangzhou:uin/100000000001:*/function/secret-*",
            ),
            (
                "cos:GetObject",
                "qcs::cos::uid/1250000000:photos-1250000000/in/*",
            ),
            ("name/cos:*", "qcs::cos:ap-guangzhou::photos-*"),
            ("cos:GetBucket", "qcs::cos:::photos-1250000000/"),
            ("cam:PassRole", "qcs::cam::uin/100000000001:roleName/admin"),
            ("cam:*", "qcs::cam:*::roleName/*"),
            // Tag actions apply to functions.
            ("tag:*", "*"),
            ("tag:TagResources", "qcs::scf:::namespace/*"),
            ("name/tag:Describe*", "qcs::scf:::*"),
        ] {
            assert_eq!(check(action, resource), Ok(()), "{action} on {resource}");
        }
    }

    #[test]
    fn policy_patterns_without_a_match_are_refused_with_a_suggestion() {
        for (action, resource, part) in [
            (
                "scf:DeleteFuncton",
                "*",
                "nearest is \"scf:DeleteFunction\"",
            ),
            (
                "scf:deletefunction",
                "*",
                "nearest is \"scf:DeleteFunction\"",
            ),
            ("scf:Delte*", "*", "nearest is \"scf:Delete"),
            ("name/scf:Invok", "*", "nearest is \"scf:Invoke\""),
            ("sfc:Invoke", "*", "nearest is \"scf:Invoke\""),
            ("scf:*Functions*Extra", "*", "matches no action"),
            ("cos:PutObjects", "*", "nearest is \"cos:PutObject\""),
            ("cam:PassRoles", "*", "nearest is \"cam:PassRole\""),
            ("scf:TagResources", "*", "nearest is \"tag:TagResources\""),
            (
                "tag:TagResources",
                "qcs::cos:::*",
                "no resource of its statement",
            ),
            ("scf:*", "qcs::sfc:::*", "nearest is \"scf\""),
            ("scf:*", "qcs::scf:ap-beijing::*", "ap-guangzhou"),
            ("scf:*", "qcs::scf:ap-guangzhu::*", "ap-guangzhou"),
            ("scf:*", "qcs::scf::uin/100000000002:*", "uin/100000000001"),
            ("scf:*", "qcs::scf::uid/125000000:*", "uid/1250000000"),
            (
                "scf:*",
                "qcs::scf:::namespaces/default/*",
                "namespace/<name>",
            ),
            (
                "scf:*",
                "qcs::scf:::namespace/default/functions/hello",
                "function/<name>",
            ),
            (
                "scf:*",
                "qcs::scf:::namespace/default/function/",
                "function/<name>",
            ),
            ("scf:*", "qcs::scf:::function/hello", "namespace/<name>"),
            ("scf:*", "qcs::scf:::Layer/x", "layer/<name>"),
            ("cos:*", "qcs::cos:::photos-125/*", "<name>-1250000000"),
            ("cos:*", "qcs::cos:::photos", "<name>-1250000000"),
            ("cam:PassRole", "qcs::cam:::role/admin", "roleName/<name>"),
            ("scf:*", "qcs::cos:::*", "no resource of its statement"),
            (
                "cos:GetObject",
                "qcs::scf:::*",
                "no resource of its statement",
            ),
        ] {
            let refused = check(action, resource).expect_err(action);
            assert!(refused.contains(part), "{action} on {resource}: {refused}");
        }
        let both = check_all(&["scf:*"], &["qcs::scf:::*", "qcs::cos:::*"]);
        let refused = both.expect_err("refused");
        assert!(refused.contains("no action of its statement"), "{refused}");
    }

    #[test]
    fn pattern_intersects_shape_if_some_text_matches_both() {
        for (pattern, shape, expected) in [
            ("*", "a/{}", true),
            ("a/*", "a/{}", true),
            ("a/", "a/{}", false),
            ("a/b/c", "a/{}", false),
            ("*/c", "a/{}", true),
            ("a/b*c/d", "a/{}/d", true),
            ("a/b/*", "a/{}", false),
            ("a/*b", "a/{}/d", false),
            ("*b*d*", "a/{}/d", true),
            ("x*", "{}-1/{*}", true),
            ("x-1/y/*/z", "{}-1/{*}", true),
            ("x-2/y", "{}-1/{*}", false),
            ("", "*", false),
        ] {
            assert_eq!(can_be(pattern, shape), expected, "{pattern} {shape}");
        }
        assert!(!can_be(&"*a".repeat(1000), "roleName/{}b"));
    }

    /// Returns all strings over an alphabet up to a length.
    fn texts(letters: &[&str], longest: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut last = all.clone();
        for _ in 0..longest {
            let more = |text: &String| {
                letters
                    .iter()
                    .map(|added| format!("{text}{added}"))
                    .collect()
            };
            last = last.iter().flat_map::<Vec<_>, _>(more).collect();
            all.extend(last.iter().cloned());
        }
        all
    }

    #[test]
    fn pattern_intersection_agrees_with_exhaustive_search() {
        let names: Vec<_> = texts(&["a", "b"], 4)
            .into_iter()
            .filter(|name| !name.is_empty())
            .collect();
        let rests = texts(&["a", "b", "/"], 4);
        let of_names = |shape: &str| names.iter().map(|name| shape.replace("{}", name)).collect();
        let shapes: [(&str, Vec<String>); 5] = [
            ("*", vec!["*".to_owned()]),
            ("a/{}", of_names("a/{}")),
            ("{}/b", of_names("{}/b")),
            ("a{}b", of_names("a{}b")),
            (
                "b{*}",
                rests.iter().map(|rest| format!("b{rest}")).collect(),
            ),
        ];
        for pattern in texts(&["a", "b", "/", "*"], 4) {
            for (shape, written) in &shapes {
                let expected = written.iter().any(|text| wildcard_match(&pattern, text));
                assert_eq!(can_be(&pattern, shape), expected, "{pattern} {shape}");
            }
        }
    }
}
