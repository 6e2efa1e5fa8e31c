//! The size limits of all texts, lists and documents in requests. [`scf::bounds`] enforces them during decoding, before a
//! request has any effect. Fields without an entry have the default of their kind.
//!
//! Entries exist for limits that SCF publishes and for fields that may exceed the default. Sums and formats are checked where
//! the fields are used.

use model::Limits;
use scf::bounds::{Bounds, Defaults};

use super::error;

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
    let bounds = events(Table(Bounds::new(defaults)), limits);
    let bounds = code(bounds, limits, whole);
    let bounds = functions(bounds, limits);
    let bounds = tags(bounds);
    let bounds = triggers_and_domains(bounds, limits);
    policies(bounds).0
}

/// Bounds whose codes follow from the fields.
struct Table(Bounds);

impl Table {
    fn text(self, path: &'static str, most: u64) -> Self {
        Self(self.0.text(path, most, error::long_text(path)))
    }

    fn characters(self, path: &'static str, most: u64) -> Self {
        Self(self.0.characters(path, most, error::long_text(path)))
    }

    fn list(self, path: &'static str, most: u64) -> Self {
        Self(self.0.list(path, most, error::long_list(path)))
    }

    fn whole(self, path: &'static str, most: u64) -> Self {
        Self(self.0.whole(path, most, error::large_field(path)))
    }
}

/// Events of invocations.
fn events(bounds: Table, limits: &Limits) -> Table {
    let most = limits.sync_event_bytes;
    bounds
        .text("ClientContext", most)
        .text("Event", most)
        .text("RoutingKey", limits.routing_key_bytes.into())
}

/// Packages of functions and layers, and where they are. `fields` = bytes of the fields beside a package.
fn code(bounds: Table, limits: &Limits, fields: u64) -> Table {
    // In base64, with line breaks.
    let package = limits.package_bytes.div_ceil(3) * 4;
    let package = package + package / 32 + 64;
    bounds
        .text("ZipFile", package)
        .text("Code.ZipFile", package)
        .text("Content.ZipFile", package)
        .whole("Code", package + fields)
        .whole("Content", package + fields)
        .text("CosObjectName", OBJECT_KEY)
        .text("Code.CosObjectName", OBJECT_KEY)
        .text("Content.CosObjectName", OBJECT_KEY)
}

/// Settings of functions and layers.
fn functions(bounds: Table, limits: &Limits) -> Table {
    let variables = u64::from(limits.environment_bytes);
    let layers = u64::from(limits.layers_per_function).max(1);
    bounds
        .characters("Description", limits.description_chars.into())
        .characters("LicenseInfo", LICENSE_CHARS)
        .list("CompatibleRuntimes", RUNTIMES)
        // The shortest variable has two bytes.
        .list("Environment.Variables", variables / 2 + 1)
        .text("Environment.Variables.Key", variables)
        .text("Environment.Variables.Value", variables)
        .whole("Environment", variables * 16 + 64)
        .list("Layers", layers)
        .text("DeadLetterConfig.Name", URL)
        .list("Filters", FILTERS)
}

/// Tags of functions, and the tag service's requests.
fn tags(bounds: Table) -> Table {
    bounds
        .list("Tags", TAGS)
        .text("Tags.Key", TAG_KEY)
        .text("Tags.Value", TAG_VALUE)
        .whole("Tags", TAGS * (TAG_KEY + TAG_VALUE + 64))
        .text("Tags.TagKey", TAG_KEY)
        .text("Tags.TagValue", TAG_VALUE)
        .text("TagKey", TAG_KEY)
        .text("TagValue", TAG_VALUE)
        .list("TagKeys", TAG_KEYS)
        .text("TagKeys", TAG_KEY)
        .list("TagFilters", TAG_FILTERS)
        .text("TagFilters.TagKey", TAG_KEY)
        .list("TagFilters.TagValue", TAGS_OF_REQUEST)
        .text("TagFilters.TagValue", TAG_VALUE)
        .whole(
            "TagFilters",
            TAG_FILTERS * TAGS_OF_REQUEST * (TAG_VALUE + TAG_KEY),
        )
        .list("ReplaceTags", TAGS_OF_REQUEST)
        .text("ReplaceTags.TagKey", TAG_KEY)
        .text("ReplaceTags.TagValue", TAG_VALUE)
        .list("DeleteTags", TAGS_OF_REQUEST)
        .text("DeleteTags.TagKey", TAG_KEY)
        .text("Resource", RESOURCE)
        .list("ResourceIds", RESOURCES)
        .text("ResourceIds", RESOURCE)
        .list("ResourceList", RESOURCES)
        .text("ResourceList", RESOURCE)
}

/// Triggers, scheduled actions and custom domains.
fn triggers_and_domains(bounds: Table, limits: &Limits) -> Table {
    let routes = u64::from(limits.routes_per_domain);
    let actions = u64::from(limits.scheduled_actions_per_version);
    bounds
        .text("TriggerDesc", TRIGGER_DESC)
        .text("CustomArgument", limits.timer_message_bytes.into())
        .list("TriggerActions", actions)
        .list("EndpointsConfig", routes)
        .whole("EndpointsConfig", routes * ROUTE)
}

/// Policies of keys and roles.
fn policies(bounds: Table) -> Table {
    bounds
        .list("Policy.statement", POLICY)
        .list("Policy.statement.action", POLICY)
        .text("Policy.statement.action", POLICY)
        .list("Policy.statement.resource", POLICY)
        .text("Policy.statement.resource", POLICY)
        .whole("Policy", 4 * POLICY)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::super::probe::{self, Kind, Probed};
    use scf::Code;

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
