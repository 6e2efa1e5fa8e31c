//! The size limits of all texts, lists and documents in requests. [`scf::bounds`] enforces them during decoding, before a
//! request has any effect. Fields without an entry have the default of their kind.
//!
//! Entries exist for limits that SCF publishes and for fields that may exceed the default. Sums and formats are checked where
//! the fields are used.

use model::Limits;
use scf::Code;
use scf::bounds::{Bounds, Defaults};

use super::error;

/// The code for fields without one of their own.
const USUAL: Code = Code::InvalidParameterValue;
/// Source: SCF's limits of a layer.
const LICENSE_CHARS: u64 = 2000;
const RUNTIMES: u64 = 15;
/// Source: SCF's limits of tags.
const TAGS: u64 = 50;
const TAG_KEY: u64 = 127;
const TAG_VALUE: u64 = 255;
/// Source: the tag service's limits of a request.
const RESOURCES: u64 = 50;
const TAGS_OF_REQUEST: u64 = 10;
const TAG_KEYS: u64 = 20;
const TAG_FILTERS: u64 = 6;
/// A six-segment resource name of a function.
const RESOURCE: u64 = 256;
/// Source: SCF's limit of a list's conditions.
const FILTERS: u64 = 10;
/// Source: COS's key limit, plus the slash that SCF puts before it.
const OBJECT_KEY: u64 = 1024 + 1;
/// A URL.
const URL: u64 = 2048;
/// A trigger description. Those of URLs, with lists of origins and headers, are the longest.
const TRIGGER_DESC: u64 = 16 << 10;
/// A route of a custom domain, with its path rewrites.
const ROUTE: u64 = 4 << 10;
/// Source: CAM's limit of a policy's text.
const POLICY: u64 = 6144;

/// Returns the limits of every field of every request.
pub fn bounds(limits: &Limits) -> Bounds {
    let defaults = Defaults {
        code: error::code_of,
        ..Defaults::default()
    };
    let whole = defaults.field;
    let bounds = events(Bounds::new(defaults), limits);
    let bounds = code(bounds, limits, whole);
    let bounds = functions(bounds, limits);
    let bounds = tags(bounds);
    let bounds = triggers_and_domains(bounds, limits);
    policies(bounds)
}

/// Events of invocations.
fn events(bounds: Bounds, limits: &Limits) -> Bounds {
    let (most, code) = (limits.sync_event_bytes, Code::RequestTooLarge);
    bounds
        .text("ClientContext", most, code)
        .text("Event", most, code)
        .text("RoutingKey", limits.routing_key_bytes.into(), USUAL)
}

/// Packages of functions and layers, and where they are. `fields` = bytes of the fields beside a package.
fn code(bounds: Bounds, limits: &Limits, fields: u64) -> Bounds {
    // In base64, with line breaks.
    let package = limits.package_bytes.div_ceil(3) * 4;
    let package = package + package / 32 + 64;
    let object = Code::InvalidCosObjectName;
    bounds
        .text("ZipFile", package, Code::InvalidZipFile)
        .text("Code.ZipFile", package, Code::InvalidZipFile)
        .text("Content.ZipFile", package, Code::InvalidZipFile)
        .whole("Code", package + fields, Code::InvalidCode)
        .whole("Content", package + fields, Code::InvalidCode)
        .text("CosObjectName", OBJECT_KEY, object)
        .text("Code.CosObjectName", OBJECT_KEY, object)
        .text("Content.CosObjectName", OBJECT_KEY, object)
}

/// Settings of functions and layers.
fn functions(bounds: Bounds, limits: &Limits) -> Bounds {
    let variables = u64::from(limits.environment_bytes);
    let layers = u64::from(limits.layers_per_function).max(1);
    let (description, excess) = (Code::InvalidDescription, Code::EnvironmentExceededLimit);
    bounds
        .characters("Description", limits.description_chars.into(), description)
        .characters("LicenseInfo", LICENSE_CHARS, USUAL)
        .list("CompatibleRuntimes", RUNTIMES, USUAL)
        // The shortest variable has two bytes.
        .list("Environment.Variables", variables / 2 + 1, excess)
        .text("Environment.Variables.Key", variables, excess)
        .text("Environment.Variables.Value", variables, excess)
        .whole("Environment", variables * 16 + 64, excess)
        .list("Layers", layers, Code::LimitExceededLayers)
        .text("DeadLetterConfig.Name", URL, Code::InvalidDeadLetterConfig)
        .list("Filters", FILTERS, Code::InvalidFilters)
}

/// Tags of functions, and the tag service's requests.
fn tags(bounds: Bounds) -> Bounds {
    bounds
        .list("Tags", TAGS, USUAL)
        .text("Tags.Key", TAG_KEY, USUAL)
        .text("Tags.Value", TAG_VALUE, USUAL)
        .whole("Tags", TAGS * (TAG_KEY + TAG_VALUE + 64), USUAL)
        .text("Tags.TagKey", TAG_KEY, USUAL)
        .text("Tags.TagValue", TAG_VALUE, USUAL)
        .text("TagKey", TAG_KEY, USUAL)
        .text("TagValue", TAG_VALUE, USUAL)
        .list("TagKeys", TAG_KEYS, USUAL)
        .text("TagKeys", TAG_KEY, USUAL)
        .list("TagFilters", TAG_FILTERS, USUAL)
        .text("TagFilters.TagKey", TAG_KEY, USUAL)
        .list("TagFilters.TagValue", TAGS_OF_REQUEST, USUAL)
        .text("TagFilters.TagValue", TAG_VALUE, USUAL)
        .whole(
            "TagFilters",
            TAG_FILTERS * TAGS_OF_REQUEST * (TAG_VALUE + TAG_KEY),
            USUAL,
        )
        .list("ReplaceTags", TAGS_OF_REQUEST, USUAL)
        .text("ReplaceTags.TagKey", TAG_KEY, USUAL)
        .text("ReplaceTags.TagValue", TAG_VALUE, USUAL)
        .list("DeleteTags", TAGS_OF_REQUEST, USUAL)
        .text("DeleteTags.TagKey", TAG_KEY, USUAL)
        .text("Resource", RESOURCE, Code::ResourceDescriptionError)
        .list("ResourceIds", RESOURCES, USUAL)
        .text("ResourceIds", RESOURCE, Code::ResourceIdInvalid)
        .list("ResourceList", RESOURCES, USUAL)
        .text("ResourceList", RESOURCE, Code::ResourceDescriptionError)
}

/// Triggers, scheduled actions and custom domains.
fn triggers_and_domains(bounds: Bounds, limits: &Limits) -> Bounds {
    let routes = u64::from(limits.routes_per_domain);
    let actions = u64::from(limits.scheduled_actions_per_version);
    bounds
        .text("TriggerDesc", TRIGGER_DESC, Code::InvalidTriggerDesc)
        .text(
            "CustomArgument",
            limits.timer_message_bytes.into(),
            Code::InvalidCustomArgument,
        )
        .list(
            "TriggerActions",
            actions,
            Code::LimitExceededProvisionTriggerAction,
        )
        .list("EndpointsConfig", routes, USUAL)
        .whole("EndpointsConfig", routes * ROUTE, USUAL)
}

/// Policies of keys and roles.
fn policies(bounds: Bounds) -> Bounds {
    bounds
        .list("Policy.statement", POLICY, USUAL)
        .list("Policy.statement.action", POLICY, USUAL)
        .text("Policy.statement.action", POLICY, USUAL)
        .list("Policy.statement.resource", POLICY, USUAL)
        .text("Policy.statement.resource", POLICY, USUAL)
        .whole("Policy", 4 * POLICY, USUAL)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::super::probe::{self, Kind, Probed};
    use super::*;

    /// Small limits, so that the tests can exceed the largest fields many times.
    fn limits() -> Limits {
        Limits {
            package_bytes: 3000,
            sync_event_bytes: 5000,
            ..Limits::default()
        }
    }

    /// Returns the error for a request with a value beyond a limit.
    fn refusal(probed: &Probed, at: &str, value: Value) -> String {
        let request = probe::with(&probed.sample, at, value);
        let refused = (probed.read)(&request, &bounds(&limits()));
        match refused {
            Err(error) => error.to_string(),
            Ok(()) => panic!("{}: {at} was taken", probed.action),
        }
    }

    fn expect(refusal: &str, code: Code, field: &str, given: u64, most: u64) {
        let start = format!("{}: {field}", code.as_str());
        assert!(refusal.starts_with(&start), "{refusal}: {start}");
        let end = format!("are not allowed; up to {most} are");
        assert!(
            refusal.contains(&format!(": {given} ")) && refusal.ends_with(&end),
            "{refusal}"
        );
    }

    #[test]
    fn every_request_field_has_a_bound() {
        let bounds = bounds(&limits());
        let (mut texts, mut lists, mut documents) = (0, 0, 0);
        for probed in probe::requests() {
            let taken = (probed.read)(&probed.sample, &bounds);
            taken.unwrap_or_else(|e| panic!("{}: {e}", probed.action));
            for (at, kind) in probe::fields(&probed.sample) {
                let name = probe::name(&at);
                match kind {
                    Kind::Text => {
                        texts += 1;
                        let bound = bounds.of_text(&name);
                        let most = bound.most;
                        assert!(most <= 16 << 10, "{name}: {most}");
                        let long = "x".repeat(most as usize + 1);
                        let refused = refusal(&probed, &at, long.into());
                        expect(&refused, bound.code, &at, most + 1, most);
                        let longest = json!("x".repeat(most as usize));
                        let request = probe::with(&probed.sample, &at, longest);
                        (probed.read)(&request, &bounds).expect("within its bound");
                    }
                    Kind::List(item) => {
                        lists += 1;
                        let bound = bounds.of_list(&name);
                        assert!(bound.most <= 4096, "{name}: {}", bound.most);
                        let long = vec![item; bound.most as usize + 5];
                        let refused = refusal(&probed, &at, long.into());
                        expect(&refused, bound.code, &at, bound.most + 5, bound.most);
                    }
                    Kind::Document => {
                        documents += 1;
                        beyond_in_each_way(&probed, &at, &bounds);
                    }
                }
            }
        }
        // Guards against a walk that finds nothing.
        assert!(
            texts > 300 && lists > 20 && documents > 15,
            "{texts} {lists} {documents}"
        );
    }

    fn beyond_in_each_way(probed: &Probed, at: &str, bounds: &Bounds) {
        let field = at.split(['.', '[']).next().unwrap_or(at);
        let names: Map<_, _> = (0..7000).map(|n| (n.to_string(), Value::Null)).collect();
        let deep = (0..20).fold(Value::Null, |inner, _| json!({"a": inner}));
        let wide = vec![vec![0; 90]; 90];
        for (what, value) in [
            ("a text", json!({"a": "x".repeat(30_000)})),
            ("a name", json!({"x".repeat(30_000): 1})),
            ("a list", json!({"a": vec![0; 7000]})),
            ("names", names.into()),
            ("levels", deep),
            ("all of it", json!(wide)),
            ("a text alone", json!("x".repeat(30_000))),
        ] {
            let refused = refusal(probed, at, value);
            assert!(refused.contains(&format!(": {field}")), "{what}: {refused}");
            assert!(
                refused.contains("are not allowed; up to"),
                "{what}: {refused}"
            );
        }
        let whole = bounds.of_whole(field, true).most;
        assert!(whole <= 32 << 10, "{field}: {whole}");
    }

    #[test]
    fn published_limits_keep_their_codes() {
        let create = |more: Value| {
            let mut request = json!({"FunctionName": "f", "Code": {}});
            let more = more.as_object().expect("an object").clone();
            request.as_object_mut().expect("an object").extend(more);
            let bounds = bounds(&Limits::default());
            let text = request.to_string();
            let read =
                scf::decode_json::<scf::types::CreateFunctionRequest>(text.as_bytes(), &bounds);
            read.map_err(|e| e.code)
        };
        let tag = json!({"Key": "k", "Value": "v"});
        for (more, code) in [
            (
                json!({"Description": "ö".repeat(1001)}),
                Code::InvalidDescription,
            ),
            (
                json!({"Environment": {"Variables": [{"Key": "A", "Value": "x".repeat(4097)}]}}),
                Code::EnvironmentExceededLimit,
            ),
            (json!({"Tags": vec![tag; 51]}), Code::InvalidParameterValue),
            (
                json!({"Layers": vec![json!({}); 6]}),
                Code::LimitExceededLayers,
            ),
            (
                json!({"FunctionName": "f".repeat(2000)}),
                Code::InvalidFunctionName,
            ),
            (
                json!({"VpcConfig": {"VpcId": "v".repeat(8 << 20)}}),
                Code::InvalidParameterValue,
            ),
        ] {
            assert_eq!(create(more).expect_err("beyond"), code);
        }
        assert!(create(json!({"Description": "ö".repeat(1000)})).is_ok());
    }
}
