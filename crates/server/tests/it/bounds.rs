//! How much a request may hold.

use serde_json::{Map, Value, json};
use testkit::{ApiError, Client, Server};

use crate::{VIRGA, server};

/// The published fields of every action. Source: the official Python SDK and `tccli`.
const PUBLISHED: &str = include_str!("../../../scf/tests/api-2018-04-16.json");

const HELLO: &str = "def main_handler(e, c):\n    return 'hello'\n";

/// A value of a published type, with only what it needs; `[X]` is a list, a name an object.
fn small(kind: &str) -> Value {
    match kind {
        "str" => json!("a"),
        "int" => json!(1),
        "float" => json!(0.5),
        "bool" => json!(true),
        _ if kind.starts_with('[') => json!([]),
        _ => json!({}),
    }
}

/// A value above every limit of a field.
fn large(kind: &str, published: &Value) -> Value {
    let text = "x".repeat(50_000);
    if let Some(item) = kind
        .strip_prefix('[')
        .and_then(|kind| kind.strip_suffix(']'))
    {
        return vec![needed(item, published); 5000].into();
    }
    match kind {
        "str" => text.into(),
        _ => json!({"Beyond": text}),
    }
}

/// A list's item, with all its texts.
fn needed(kind: &str, published: &Value) -> Value {
    match published["types"][kind].as_object() {
        None => small(kind),
        Some(fields) => fields
            .iter()
            .filter_map(|(name, kind)| Some((name.clone(), small(kind.as_str()?))))
            .collect::<Map<_, _>>()
            .into(),
    }
}

#[test]
fn every_published_text_and_list_is_refused_above_its_limit() {
    let server = server();
    let client = server.client();
    let published: Value = serde_json::from_str(PUBLISHED).expect("the published fields");
    let mut sent = 0;
    for (action, of) in published["actions"].as_object().expect("actions") {
        let fields = of["request"].as_object().expect("fields");
        let required = of["required"].as_array().cloned().unwrap_or_default();
        let usual: Map<_, _> = fields
            .iter()
            .filter(|(name, _)| required.contains(&json!(name)))
            .map(|(name, kind)| (name.clone(), small(kind.as_str().expect("a type"))))
            .collect();
        for (name, kind) in fields {
            let kind = kind.as_str().expect("a type");
            // A number is one of 64 bits. Events and code may be large; they have limits of their own.
            let large_enough = ["ClientContext", "Event", "ZipFile"].contains(&name.as_str());
            if matches!(kind, "int" | "float" | "bool") || large_enough {
                continue;
            }
            // An object has bounds for what it may hold; what it may not hold is ignored.
            let is_object = published["types"].get(kind).is_some();
            let typed = [
                "Code",
                "Content",
                "Environment",
                "RoutingConfig",
                "Filter",
                "SearchContext",
            ];
            let typed = typed.contains(&name.as_str()) || name.ends_with("Interval");
            let typed =
                typed || ["CertConfig", "WafConfig", "AsyncTriggerConfig"].contains(&name.as_str());
            if is_object && typed {
                continue;
            }
            let mut request = usual.clone();
            request.insert(name.clone(), large(kind, &published));
            let refused = refused(&client, action, &request.into());
            let named = refused.message.starts_with(name.as_str())
                && refused.message.contains(" are not allowed; up to ");
            assert!(named, "{action} {name}: {refused:?}");
            sent += 1;
        }
    }
    assert!(sent > 150, "{sent}");
}

fn refused(client: &Client, action: &str, request: &Value) -> ApiError {
    let answer = client.call(action, request);
    answer.expect_err(action)
}

#[test]
fn a_document_that_is_only_shown_again_is_bounded() {
    let server = server();
    let client = server.client();
    client.create(
        "hello",
        HELLO,
        json!({"VpcConfig": {"VpcId": "vpc-1", "SubnetId": "subnet-1"}}),
    );
    for field in [
        "VpcConfig",
        "CfsConfig",
        "IntranetConfig",
        "PublicNetConfig",
    ] {
        for document in [
            json!({"VpcId": "v".repeat(8 << 20)}),
            json!({"v".repeat(8 << 20): 1}),
            json!({"VpcId": vec![0; 4 << 20]}),
            json!(vec![json!([[], [], []]); 1 << 20]),
            (0..100).fold(json!(0), |inner, _| json!([inner])),
        ] {
            let request = json!({"FunctionName": "hello", field: document});
            let refused = refused(&client, "UpdateFunctionConfiguration", &request);
            assert_eq!(refused.code, "InvalidParameterValue", "{}", refused.message);
            let named = refused.message.starts_with(field) && refused.message.contains("; up to ");
            assert!(named, "{}", refused.message);
        }
    }
    let shown = client.ok("GetFunction", &json!({"FunctionName": "hello"}));
    assert_eq!(shown["VpcConfig"]["VpcId"], "vpc-1");
}

#[test]
fn a_list_that_costs_more_than_its_text_is_never_built() {
    let server = server();
    let client = server.client();
    // Three bytes each on the wire, and a hundred in memory.
    let endpoints = vec![json!({}); 4 << 20];
    let request =
        json!({"Domain": "a.example.com", "Protocol": "HTTP", "EndpointsConfig": endpoints});
    let before = peak_kb(server.pid());
    let refused = refused(&client, "CreateCustomDomain", &request);
    let expected = format!(
        "EndpointsConfig: {} items are not allowed; up to 50 are",
        4 << 20
    );
    assert_eq!(refused.message, expected);
    let grown = peak_kb(server.pid()) - before;
    assert!(grown < 200 << 10, "{grown} KB");
}

/// The most memory that a process has had, KB.
fn peak_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = line.and_then(|line| line.split_whitespace().next());
    kb.and_then(|kb| kb.parse().ok()).expect("a number")
}

#[test]
fn values_at_their_limit_are_accepted() {
    let server = server();
    let client = server.client();
    let tags: Vec<_> = (0..50)
        .map(|n| json!({"Key": format!("{n:0127}"), "Value": "v".repeat(255)}))
        .collect();
    let description = "\u{e4}".repeat(1000);
    let variables = json!([{"Key": "A", "Value": "x".repeat(4095)}]);
    client.create(
        "hello",
        HELLO,
        json!({"Tags": tags, "Description": description, "Environment": {"Variables": variables}}),
    );
    let shown = client.ok("GetFunction", &json!({"FunctionName": "hello"}));
    assert_eq!(shown["Tags"].as_array().map(Vec::len), Some(50));
    assert_eq!(shown["Description"], description);
    assert_eq!(shown["Environment"]["Variables"], variables);
}

#[test]
fn an_account_s_records_have_a_quota_that_others_do_not_share() {
    const QUOTA: u64 = 150_000;
    let limits = format!("catalog_bytes={QUOTA},versions_per_function=1000");
    let mut server = Server::flags(VIRGA, &["--limits", &limits]);
    let root = server.client();
    let account = root.operate("CreateAccount", &json!({"Name": "other"}));
    let other = root.with_new_key(&account.expect("an account")["Key"]);
    // As large as each document may be.
    let document =
        json!({"VpcId": "v".repeat(1000), "SubnetId": "s".repeat(1000), "More": "m".repeat(1000)});
    let settings =
        json!({"VpcConfig": document, "CfsConfig": document, "IntranetConfig": document});
    root.create("hello", HELLO, settings);
    let publish = json!({"FunctionName": "hello"});
    let mut published = 0;
    let refused = loop {
        match root.call("PublishVersion", &publish) {
            Ok(_) => published += 1,
            Err(refused) => break refused,
        }
        assert!(published < 100, "there is no end");
    };
    assert_eq!(refused.code, "LimitExceeded.Quota", "{}", refused.message);
    let allowed = format!("up to {QUOTA} are allowed");
    for part in [allowed.as_str(), "catalog_bytes", "delete versions"] {
        assert!(refused.message.contains(part), "{}", refused.message);
    }
    assert!((10..20).contains(&published), "{published}");
    // Nothing else comes that is as large, by whatever action.
    let copy = json!({"FunctionName": "hello", "NewFunctionName": "copy"});
    assert_eq!(root.code("CopyFunction", &copy), "LimitExceeded.Quota");
    // Existing functions go on, and another account has a quota of its own.
    assert_eq!(root.answer("hello", &json!({})), "hello");
    other.create("hello", HELLO, json!({"VpcConfig": document}));
    server.kill();
    server.restart();
    let root = server.client();
    assert_eq!(root.code("PublishVersion", &publish), "LimitExceeded.Quota");
    root.ok(
        "DeleteFunctionVersion",
        &json!({"FunctionName": "hello", "Qualifier": "1"}),
    );
    assert_eq!(root.code("PublishVersion", &publish), "");
    root.ok("DeleteFunction", &json!({"FunctionName": "hello"}));
    root.create("hello", HELLO, json!({}));
}
