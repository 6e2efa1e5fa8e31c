//! Every field of every request is classified: either it references a resource, and then its request must report it, or it
//! does not, and then this table has the reason. An unclassified field fails the test.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::probe::{self, Kind};
use super::*;

/// The published fields of each service. Source: the official Python SDK and `tccli`.
const PUBLISHED: [&str; 2] = [
    include_str!("../../../scf/tests/api-2018-04-16.json"),
    include_str!("../../../scf/tests/tag-2018-08-13.json"),
];

/// The class of a field.
#[derive(Clone, Copy, Debug)]
enum Class {
    /// It references a resource; the value is how a resource named `marker` is written.
    Names(&'static str),
    /// It references a resource in requests of these actions only.
    NamesIn(&'static [&'static str], &'static str),
    /// It references nothing that a policy could protect.
    No(&'static str),
}

use Class::{Names as Is, NamesIn as In, No};

const PART: &str = "a part of the function that another field names, or of its history";
const WORD: &str = "an enumeration, a number or a time";
const TEXT: &str = "text that is stored and returned; it has no effect";
const CODE: &str = "code, or an event: its effects have the permissions of the function's role";
const NOTHING: &str = "rejected or ignored: virga does not have this feature";
const SEARCH: &str = "a search among the resources that the caller may see";
const PATH: &str = "a path of an HTTP request";
const SIX_PARTS: &str = "qcs::scf:ap-guangzhou:uin/100000000001:namespace/marker/function/marker";
const BUCKET: &str = "marker-1.cos.ap-guangzhou.myqcloud.com";

/// Fields by their paths, without indexes, in requests to SCF and the tag service.
const FIELDS: &[(&str, Class)] = &[
    ("AsyncRunEnable", No(WORD)),
    ("AsyncTriggerConfig.RetryConfig.ErrorCode", No(WORD)),
    ("AutoCreateClsTopic", No(NOTHING)),
    ("AutoDeployClsTopicIndex", No(NOTHING)),
    ("Category", No(WORD)),
    ("CertConfig.CertificateId", No(TEXT)),
    ("CfsConfig", No(TEXT)),
    ("ClientContext", No(CODE)),
    ("ClsLogsetId", No(TEXT)),
    ("ClsTopicId", No(TEXT)),
    ("Code.CosBucketName", Is("marker")),
    (
        "Code.CosBucketRegion",
        No("the installation's own, or it is refused"),
    ),
    ("Code.CosObjectName", Is("marker")),
    ("Code.DemoId", No(NOTHING)),
    ("Code.GitBranch", No(NOTHING)),
    ("Code.GitCommitId", No(NOTHING)),
    ("Code.GitDirectory", No(NOTHING)),
    ("Code.GitPassword", No(NOTHING)),
    ("Code.GitPasswordSecret", No(NOTHING)),
    ("Code.GitUrl", No(NOTHING)),
    ("Code.GitUserName", No(NOTHING)),
    ("Code.GitUserNameSecret", No(NOTHING)),
    ("Code.ImageConfig", No(NOTHING)),
    ("Code.TempCosObjectName", No(NOTHING)),
    ("Code.ZipFile", No(CODE)),
    ("CodeSource", No(NOTHING)),
    ("CompatibleRuntime", No(WORD)),
    ("CompatibleRuntimes", No(WORD)),
    ("Content.CosBucketName", Is("marker")),
    (
        "Content.CosBucketRegion",
        No("the installation's own, or it is refused"),
    ),
    ("Content.CosObjectName", Is("marker")),
    ("Content.DemoId", No(NOTHING)),
    ("Content.GitBranch", No(NOTHING)),
    ("Content.GitCommitId", No(NOTHING)),
    ("Content.GitDirectory", No(NOTHING)),
    ("Content.GitPassword", No(NOTHING)),
    ("Content.GitPasswordSecret", No(NOTHING)),
    ("Content.GitUrl", No(NOTHING)),
    ("Content.GitUserName", No(NOTHING)),
    ("Content.GitUserNameSecret", No(NOTHING)),
    ("Content.ImageConfig", No(NOTHING)),
    ("Content.TempCosObjectName", No(NOTHING)),
    ("Content.ZipFile", No(CODE)),
    ("CosBucketName", Is("marker")),
    (
        "CosBucketRegion",
        No("the installation's own, or it is refused"),
    ),
    ("CosObjectName", Is("marker")),
    ("CustomArgument", No(CODE)),
    ("DeadLetterConfig", No("its fields reference resources")),
    ("DeadLetterConfig.FilterType", No(TEXT)),
    ("DeadLetterConfig.Name", Is("marker")),
    ("DeadLetterConfig.Type", No(WORD)),
    ("DeleteTags.TagKey", No(TEXT)),
    ("Description", No(TEXT)),
    ("DnsCache", No(TEXT)),
    ("Domain", Is("marker.example.com")),
    ("Enable", No(WORD)),
    ("EndTime", No(WORD)),
    ("EndTimeInterval.End", No(WORD)),
    ("EndTimeInterval.Start", No(WORD)),
    ("EndpointsConfig.FunctionName", Is("marker")),
    ("EndpointsConfig.Namespace", Is("marker")),
    ("EndpointsConfig.PathMatch", No(PATH)),
    ("EndpointsConfig.PathRewrite.Path", No(PATH)),
    ("EndpointsConfig.PathRewrite.Rewrite", No(PATH)),
    ("EndpointsConfig.PathRewrite.Type", No(WORD)),
    ("EndpointsConfig.Qualifier", No(PART)),
    ("EnvId", No(NOTHING)),
    ("Environment.Variables.Key", No(CODE)),
    ("Environment.Variables.Value", No(CODE)),
    ("Event", No(CODE)),
    ("Filter.RetCode", No(WORD)),
    ("Filters.Name", No(WORD)),
    ("Filters.Values", No(SEARCH)),
    ("ForceDelete", No(WORD)),
    ("FunctionName", Is("marker")),
    ("FunctionRequestId", No(PART)),
    ("FunctionVersion", No(PART)),
    ("Handler", No(CODE)),
    ("InstallDependency", No(WORD)),
    ("InstanceConcurrencyConfig", No(WORD)),
    ("IntranetConfig", No(TEXT)),
    ("InvocationType", No(WORD)),
    (
        "InvokeRequestId",
        No(
            "an event of the function that another field names, or whose function is checked after the lookup",
        ),
    ),
    ("InvokeType", No(WORD)),
    ("L5Enable", No(TEXT)),
    ("LayerName", Is("marker")),
    ("Layers", No("its fields reference resources")),
    ("Layers.LayerName", Is("marker")),
    ("LicenseInfo", No(TEXT)),
    ("Limit", No(WORD)),
    ("LogType", No(WORD)),
    (
        "Name",
        No("an alias of the function that another field names"),
    ),
    ("Namespace", Is("marker")),
    ("NewFunctionName", Is("marker")),
    ("Offset", No(WORD)),
    ("Order", No(WORD)),
    ("OrderBy", No(WORD)),
    ("Orderby", No(WORD)),
    ("PaginationToken", No(SEARCH)),
    ("Protocol", No(WORD)),
    ("ProtocolParams", No(WORD)),
    ("ProtocolType", No(WORD)),
    ("ProvisionedType", No(WORD)),
    ("PublicNetConfig", No(WORD)),
    ("Publish", No(WORD)),
    ("Qualifier", No(PART)),
    ("ReplaceTags.Category", No(NOTHING)),
    ("ReplaceTags.TagKey", No(TEXT)),
    ("ReplaceTags.TagValue", No(TEXT)),
    ("Resource", Is(SIX_PARTS)),
    ("ResourceEnv", No(NOTHING)),
    ("ResourceId", No(SEARCH)),
    ("ResourceIds", Is("marker/function/marker")),
    ("ResourceList", Is(SIX_PARTS)),
    ("ResourcePrefix", No(WORD)),
    (
        "ResourceRegion",
        No("the installation's own, or it is refused"),
    ),
    ("Role", Is("marker")),
    ("RoutingConfig.AdditionalVersionWeights.Version", No(PART)),
    ("RoutingConfig.AddtionVersionMatchs.Expression", No(WORD)),
    ("RoutingConfig.AddtionVersionMatchs.Key", No(WORD)),
    ("RoutingConfig.AddtionVersionMatchs.Method", No(WORD)),
    ("RoutingConfig.AddtionVersionMatchs.Version", No(PART)),
    ("RoutingKey", No(CODE)),
    ("Runtime", No(WORD)),
    ("SearchContext.Keyword", No(NOTHING)),
    ("SearchContext.Offset", No(NOTHING)),
    ("SearchContext.Type", No(NOTHING)),
    ("SearchKey", No(SEARCH)),
    ("SearchKey.Key", No(WORD)),
    ("SearchKey.Value", No(SEARCH)),
    ("ServiceType", No(WORD)),
    ("ShowCode", No(WORD)),
    ("StartTime", No(WORD)),
    ("StartTimeInterval.End", No(WORD)),
    ("StartTimeInterval.Start", No(WORD)),
    ("Status", No(WORD)),
    ("TagFilters.TagKey", No(SEARCH)),
    ("TagFilters.TagValue", No(SEARCH)),
    ("TagKey", No(TEXT)),
    ("TagKeys", No(TEXT)),
    ("TagValue", No(TEXT)),
    ("Tags.Category", No(NOTHING)),
    ("Tags.Key", No(TEXT)),
    ("Tags.TagKey", No(TEXT)),
    ("Tags.TagValue", No(TEXT)),
    ("Tags.Value", No(TEXT)),
    ("TargetNamespace", Is("marker")),
    (
        "TargetRegion",
        No("the installation's own, or it is refused"),
    ),
    ("TraceEnable", No(TEXT)),
    ("TriggerActions.ProvisionedType", No(WORD)),
    ("TriggerActions.TriggerCronConfig", No(WORD)),
    ("TriggerActions.TriggerName", No(PART)),
    (
        "TriggerDesc",
        No("a schedule, object events and filters, or settings of the function's own URL or API"),
    ),
    // Deleting a trigger only concerns its function; it starts no notifications.
    (
        "TriggerName",
        In(
            &["CreateTrigger", "UpdateTrigger", "UpdateTriggerStatus"],
            BUCKET,
        ),
    ),
    ("Type", No(WORD)),
    ("VpcConfig", No(TEXT)),
    ("WafConfig.WafInstanceId", No(TEXT)),
    ("WafConfig.WafOpen", No(WORD)),
    ("ZipFile", No(CODE)),
];

/// Documents whose published fields all have the class of the document.
const WHOLE: &[&str] = &[
    "CfsConfig",
    "Code.ImageConfig",
    "Content.ImageConfig",
    "InstanceConcurrencyConfig",
    "IntranetConfig",
    "ProtocolParams",
    "PublicNetConfig",
    "ResourceEnv",
    "VpcConfig",
];

/// Fields in requests to the operator's API. Keys with a policy and functions have no access to it; root keys only access their
/// own account.
const OPERATORS: &[(&str, &str)] = &[
    (
        "Account",
        "Gateway::target_account admits the account's root keys and the operator's",
    ),
    (
        "Name",
        "of the caller's own account, or of an account that the operator creates",
    ),
    ("SecretId", "of the caller's own account"),
    ("RequestId", "an event of the caller's own account"),
    ("FunctionName", "of the caller's own account"),
    ("Namespace", "of the caller's own account"),
    ("LayerName", "of the caller's own account"),
    ("Runtime", WORD),
    ("ZipFile", "a package in the request"),
    ("Description", TEXT),
    ("Policy", "the policy of a key or role of the account"),
    ("State", WORD),
    ("StartTime", WORD),
    ("EndTime", WORD),
];

/// Decodes a request and returns the resources it references.
type ReadNames = fn(&Value) -> Vec<String>;

fn named_by_action() -> BTreeMap<&'static str, ReadNames> {
    fn of<A: scf::Action>(request: &Value) -> Vec<String>
    where
        A::Request: Names,
    {
        let request: A::Request = serde_json::from_value(request.clone()).expect("a request");
        request.names().iter().map(shown).collect()
    }
    macro_rules! listed {
        ($($action:ident,)*) => {
            [$((<scf::action::$action as scf::Action>::NAME, of::<scf::action::$action> as ReadNames),)*]
        };
    }
    scf::each_action!(listed).into()
}

fn shown(one: &ResourceRef<'_>) -> String {
    match *one {
        ResourceRef::Account => "Account".to_owned(),
        ResourceRef::Namespace(name) => format!("Namespace {name}"),
        ResourceRef::Function { space, name } => format!("Function {space} {name}"),
        ResourceRef::Target { space, name } => format!("Target {space} {name}"),
        ResourceRef::Layer(name) => format!("Layer {name}"),
        ResourceRef::UsedLayer(name) => format!("Given {name}"),
        ResourceRef::Domain(name) => format!("Domain {name}"),
        ResourceRef::Role(name) => format!("Role {name}"),
        ResourceRef::Object { bucket, key } => format!("Object {bucket} {key}"),
        ResourceRef::Bucket(host) => format!("Bucket {host}"),
    }
}

/// Returns the paths of all texts and documents of each action's request, including fields of published documents.
fn walked() -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for published in PUBLISHED {
        let published: Value = serde_json::from_str(published).expect("the published fields");
        for (action, of) in published["actions"].as_object().expect("actions") {
            let fields = all.entry(action.clone()).or_default();
            let request = of["request"].as_object().expect("fields");
            for (name, kind) in request {
                let kind = kind.as_str().expect("a type");
                inside(&published["types"], name.clone(), kind, fields);
            }
        }
    }
    for probed in probe::requests() {
        if let Some(fields) = all.get_mut(probed.action) {
            let own = probe::fields(&probed.sample).into_iter();
            let own = own.filter(|(_, kind)| !matches!(kind, Kind::List(_)));
            fields.extend(own.map(|(at, _)| probe::name(&at)));
        }
    }
    all
}

fn inside(types: &Value, at: String, kind: &str, found: &mut BTreeSet<String>) {
    let kind = kind.trim_matches(['[', ']']);
    match types[kind].as_object() {
        Some(fields) => {
            for (name, kind) in fields {
                let kind = kind.as_str().expect("a type");
                inside(types, format!("{at}.{name}"), kind, found);
            }
        }
        None if kind == "str" => drop(found.insert(at)),
        None => {}
    }
}

fn class(at: &str) -> Class {
    let whole = WHOLE
        .iter()
        .find(|whole| at.starts_with(&format!("{whole}.")));
    let at = whole.copied().unwrap_or(at);
    let found = FIELDS.iter().find(|(field, _)| *field == at);
    let (_, class) = found.unwrap_or_else(|| {
        panic!("{at} is not classified: does it reference a resource that a policy protects? Add it to FIELDS, and to names.rs")
    });
    *class
}

#[test]
fn every_resource_field_is_classified_and_reported() {
    let named_by_action = named_by_action();
    let mut named = 0;
    for (action, fields) in walked() {
        let probed = probe::requests()
            .into_iter()
            .find(|one| one.action == action);
        let sample = probed.expect("an action").sample;
        for at in fields {
            let (marker, why) = match class(&at) {
                Is(marker) => (Some(marker), "it references a resource"),
                In(actions, marker) if actions.contains(&action.as_str()) => {
                    (Some(marker), "it references a resource here")
                }
                In(..) => (None, "it references a resource in other requests only"),
                No(why) => (None, why),
            };
            let mut request = sample.clone();
            // These fields decide how others are interpreted.
            if at.starts_with("DeadLetterConfig") {
                request = probe::with(&request, "DeadLetterConfig.Type", json!("function"));
            }
            if at.starts_with("TriggerName") {
                request = probe::with(&request, "Type", json!("cos"));
            }
            if action == "UpdateFunctionCode" && at.starts_with("Cos") {
                request = probe::with(&request, "Code", json!({}));
            }
            let place = place(&sample, &at);
            let request = probe::with(&request, &place, json!(marker.unwrap_or("marker")));
            let found = named_by_action[action.as_str()](&request);
            let yielded = found.iter().any(|one| one.contains("marker"));
            assert_eq!(
                yielded,
                marker.is_some(),
                "{action} {at} ({why}): {found:?}"
            );
            named += u32::from(yielded);
        }
    }
    assert!(named > 90, "{named}");
}

/// Adds indexes to a path where the sample has lists. Documents that are lists are those of layers.
fn place(sample: &Value, at: &str) -> String {
    let mut value = sample;
    let mut place = String::new();
    for part in at.split('.') {
        if !place.is_empty() {
            place.push('.');
        }
        place.push_str(part);
        value = &value[part];
        while value.is_array() {
            place.push_str("[0]");
            value = &value[0];
        }
    }
    place
}

#[test]
fn every_operator_field_is_classified() {
    for probed in super::super::operator::probed() {
        for (at, _) in probe::fields(&probed.sample) {
            let name = probe::name(&at);
            let classed = OPERATORS.iter().any(|(field, _)| *field == name);
            assert!(
                classed,
                "{} {name} is not classified: which account owns the resource it references?",
                probed.action
            );
        }
    }
}

#[test]
fn classified_fields_exist() {
    let walked = walked();
    let all: BTreeSet<_> = walked.values().flatten().map(String::as_str).collect();
    for (field, class) in FIELDS {
        assert!(all.contains(field), "{field}: {class:?}");
    }
    for probed in super::super::operator::probed() {
        assert!(probed.sample.is_object(), "{}", probed.action);
    }
}

/// Checks which resources requests of actions report.
fn check_named<'a>(rows: impl IntoIterator<Item = (&'a str, Value, &'a str)>) {
    let named_by_action = named_by_action();
    for (action, request, expected) in rows {
        assert_eq!(
            named_by_action[action](&request).join(", "),
            expected,
            "{action}"
        );
    }
}

#[test]
fn requests_report_the_functions_they_reference() {
    check_named([
        ("Invoke", json!({"FunctionName": "f"}), "Function default f"),
        (
            "Invoke",
            json!({"FunctionName": "f", "Namespace": "n"}),
            "Function n f",
        ),
        ("ListFunctions", json!({}), "Namespace default"),
        ("GetFunctionLogs", json!({"Namespace": "n"}), "Namespace n"),
        (
            "GetFunctionLogs",
            json!({"FunctionName": "f"}),
            "Function default f",
        ),
        ("DeleteNamespace", json!({"Namespace": "n"}), "Namespace n"),
        ("ListNamespaces", json!({}), "Account"),
        (
            "GetLayerVersion",
            json!({"LayerName": "l", "LayerVersion": 1}),
            "Layer l",
        ),
        (
            "CopyFunction",
            json!({"FunctionName": "f", "NewFunctionName": "g", "TargetNamespace": "n"}),
            "Function default f, Function n g",
        ),
        (
            "CopyFunction",
            json!({"FunctionName": "f", "NewFunctionName": "g", "Namespace": "m", "TargetNamespace": ""}),
            "Function m f, Function m g",
        ),
        (
            "UpdateFunctionConfiguration",
            json!({"FunctionName": "f", "Namespace": "n", "Role": "r", "Layers": [{"LayerName": ""}, {"LayerName": "l"}],
                   "DeadLetterConfig": {"Type": "function", "Name": "g"}}),
            "Function n f, Role r, Given l, Target n g",
        ),
        (
            "UpdateFunctionConfiguration",
            json!({"FunctionName": "f", "Role": "", "DeadLetterConfig": {"Type": "function", "Name": "n/g"}}),
            "Function default f, Target n g",
        ),
        (
            "UpdateFunctionConfiguration",
            json!({"FunctionName": "f", "DeadLetterConfig": {"Type": "queue", "Name": "http://host"}}),
            "Function default f",
        ),
    ]);
}

#[test]
fn packages_and_domains_report_the_resources_they_reference() {
    check_named([
        (
            "UpdateFunctionCode",
            json!({"FunctionName": "f", "CosBucketName": "b", "Code": {"CosObjectName": "/k"}}),
            "Function default f, Object b /k",
        ),
        (
            "PublishLayerVersion",
            json!({"LayerName": "l", "CompatibleRuntimes": [], "Content": {"CosBucketName": "b", "CosObjectName": "k"}}),
            "Layer l, Object b k",
        ),
        (
            "CreateCustomDomain",
            json!({"Domain": "d.example.com", "Protocol": "HTTP",
                   "EndpointsConfig": [{"FunctionName": "f"}, {"Namespace": "n", "FunctionName": "g"}]}),
            "Domain d.example.com, Target default f, Target n g",
        ),
    ]);
}

#[test]
fn tags_quotas_and_triggers_report_the_resources_they_reference() {
    let bucket = format!("Function default f, Bucket {BUCKET}");
    check_named([
        (
            "TagResources",
            json!({"Tags": [], "ResourceList": ["qcs::scf:::namespace/n/function/f", "qcs::scf:::namespace/m/function/g"]}),
            "Function n f, Function m g",
        ),
        (
            "ModifyResourceTags",
            json!({"Resource": "qcs::cos:::n/function/f"}),
            "Account",
        ),
        ("GetResources", json!({}), "Account"),
        (
            "DetachResourcesTag",
            json!({"ServiceType": "scf", "TagKey": "k", "ResourceIds": ["n/function/f", "g"]}),
            "Function n f, Account",
        ),
        (
            "PutTotalConcurrencyConfig",
            json!({"TotalConcurrencyMem": 1, "Namespace": "n"}),
            "Account, Namespace n",
        ),
        (
            "CreateTrigger",
            json!({"FunctionName": "f", "TriggerName": BUCKET, "Type": "cos"}),
            bucket.as_str(),
        ),
        (
            "CreateTrigger",
            json!({"FunctionName": "f", "TriggerName": "tick", "Type": "timer"}),
            "Function default f",
        ),
    ]);
}
