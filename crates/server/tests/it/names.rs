//! What a request names inside, and what a list shows: a policy covers it as it covers what a request is about.

use serde_json::{Value, json};
use testkit::{Client, Server};

use crate::server;

const HELLO: &str =
    "def main_handler(e, c):\n    print('said by', c['function_name'])\n    return 'hello'\n";

const FUNCTIONS: &str = "qcs::scf:::namespace/default/function/";
const BUCKET: &str = "photos-1250000000.cos.ap-guangzhou.myqcloud.com";

/// A key of the caller's account with a policy.
fn bound(root: &Client, statements: Value) -> Client {
    let policy = json!({"version": "2.0", "statement": statements});
    let key = root.operate("CreateKey", &json!({"Policy": policy}));
    root.with_new_key(&key.expect("a key"))
}

/// A user who may do everything, except with resources named `secret`.
fn denied(root: &Client) -> Client {
    let secret = [
        "namespace/default/function/secret-*",
        "layer/secret-*",
        "namespace/secret*",
    ];
    let secret = secret.map(|path| format!("qcs::scf:::{path}"));
    bound(
        root,
        json!([
            {"effect": "allow", "action": ["scf:*"], "resource": ["*"]},
            {"effect": "deny", "action": ["scf:*"], "resource": secret},
        ]),
    )
}

fn layer(client: &Client, name: &str) {
    let content = json!({"ZipFile": testkit::package(&[("of_layer.py", "x = 1\n")])});
    let request =
        json!({"LayerName": name, "CompatibleRuntimes": ["Python3.6"], "Content": content});
    client.ok("PublishLayerVersion", &request);
}

fn domain(name: &str, functions: &[&str]) -> Value {
    let to = |name: &&str| json!({"FunctionName": name, "PathMatch": format!("/{name}")});
    let endpoints: Vec<_> = functions.iter().map(to).collect();
    json!({"Domain": name, "Protocol": "HTTP", "EndpointsConfig": endpoints})
}

/// An account with an open function and a secret one, and a user who may not know of the latter.
fn world() -> (Server, Client, Client) {
    let server = server();
    let root = server.client();
    for name in ["open", "secret-1"] {
        root.create(name, HELLO, json!({}));
    }
    for name in ["shared", "secret-layer"] {
        layer(&root, name);
    }
    let key = denied(&root);
    (server, root, key)
}

#[test]
fn denied_resources_are_reached_by_no_field_of_a_request() {
    let (_server, root, key) = world();
    root.ok("CreateCustomDomain", &domain("open.example.com", &["open"]));
    root.ok(
        "CreateCustomDomain",
        &domain("both.example.com", &["open", "secret-1"]),
    );
    root.create(
        "settings",
        HELLO,
        json!({
            "Layers": [{"LayerName": "secret-layer", "LayerVersion": 1}],
        }),
    );
    root.create(
        "dead-letters",
        HELLO,
        json!({
            "DeadLetterConfig": {"Type": "function", "Name": "secret-1"},
        }),
    );
    let zip = json!({"ZipFile": testkit::package(&[("index.py", HELLO)])});
    let create = |more: Value| {
        let mut request = json!({"FunctionName": "new-1", "Runtime": "Python3.6", "Code": zip});
        let more = more.as_object().expect("an object").clone();
        request.as_object_mut().expect("an object").extend(more);
        request
    };
    let update = |more: Value| {
        let mut request = json!({"FunctionName": "open"});
        let more = more.as_object().expect("an object").clone();
        request.as_object_mut().expect("an object").extend(more);
        request
    };
    let secret_layer = json!({"Layers": [{"LayerName": "secret-layer", "LayerVersion": 1}]});
    let dead_letters = |name: &str| json!({"DeadLetterConfig": {"Type": "function", "Name": name}});
    for (action, request) in [
        ("Invoke", json!({"FunctionName": "secret-1"})),
        (
            "CreateCustomDomain",
            domain("new.example.com", &["secret-1"]),
        ),
        (
            "CreateCustomDomain",
            domain("new.example.com", &["open", "secret-1"]),
        ),
        (
            "CreateCustomDomain",
            domain("new.example.com", &["secret-none"]),
        ),
        (
            "UpdateCustomDomain",
            domain("open.example.com", &["secret-1"]),
        ),
        // It leads to a secret already.
        ("UpdateCustomDomain", domain("both.example.com", &["open"])),
        (
            "UpdateCustomDomain",
            json!({"Domain": "both.example.com", "Protocol": "HTTP"}),
        ),
        ("DeleteCustomDomain", json!({"Domain": "both.example.com"})),
        ("DeleteCustomDomain", json!({"Domain": "BOTH.example.com"})),
        ("CreateFunction", create(dead_letters("secret-1"))),
        ("CreateFunction", create(dead_letters("default/secret-1"))),
        ("CreateFunction", create(secret_layer.clone())),
        (
            "UpdateFunctionConfiguration",
            update(dead_letters("secret-1")),
        ),
        (
            "UpdateFunctionConfiguration",
            update(dead_letters("secret-space/any")),
        ),
        ("UpdateFunctionConfiguration", update(secret_layer)),
        (
            "CopyFunction",
            json!({"FunctionName": "secret-1", "NewFunctionName": "copy"}),
        ),
        (
            "CopyFunction",
            json!({"FunctionName": "open", "NewFunctionName": "secret-2"}),
        ),
        // A copy has it, too.
        (
            "CopyFunction",
            json!({"FunctionName": "settings", "NewFunctionName": "copy"}),
        ),
        (
            "CopyFunction",
            json!({"FunctionName": "dead-letters", "NewFunctionName": "copy"}),
        ),
        ("GetFunctionLogs", json!({"FunctionName": "secret-1"})),
        ("GetFunctionLogs", json!({"Namespace": "secret"})),
        (
            "PutTotalConcurrencyConfig",
            json!({"TotalConcurrencyMem": 64_000, "Namespace": "secret"}),
        ),
    ] {
        let code = key.code(action, &request);
        assert_eq!(code, "UnauthorizedOperation", "{action} {request}");
    }
    // Everything else is allowed.
    for (action, request) in [
        ("CreateCustomDomain", domain("new.example.com", &["open"])),
        ("UpdateCustomDomain", domain("open.example.com", &["open"])),
        ("DeleteCustomDomain", json!({"Domain": "open.example.com"})),
        ("UpdateFunctionConfiguration", update(dead_letters("open"))),
        (
            "UpdateFunctionConfiguration",
            update(json!({"Layers": [{"LayerName": "shared", "LayerVersion": 1}]})),
        ),
    ] {
        assert_eq!(key.code(action, &request), "", "{action} {request}");
    }
}

#[test]
fn refusal_names_only_resources_of_the_request() {
    let (_server, root, key) = world();
    root.ok(
        "CreateCustomDomain",
        &domain("both.example.com", &["open", "secret-1"]),
    );
    for action in ["UpdateCustomDomain", "DeleteCustomDomain"] {
        let request = json!({"Domain": "both.example.com", "Protocol": "HTTP"});
        let refused = key.call(action, &request).expect_err("refused");
        assert!(!refused.message.contains("secret-1"), "{}", refused.message);
        assert!(
            refused.message.contains("domain/both.example.com"),
            "{}",
            refused.message
        );
    }
    let events = json!({"event": "cos:ObjectCreated:*", "filter": {"Prefix": "", "Suffix": ""}});
    let trigger = |function: &str| json!({"FunctionName": function, "TriggerName": BUCKET, "Type": "cos", "TriggerDesc": events.to_string()});
    root.ok("CreateTrigger", &trigger("secret-1"));
    let listing = bound(
        &root,
        json!([
            {"effect": "allow", "action": ["scf:*", "cos:GetBucket"], "resource": ["*"]},
            {"effect": "deny", "action": ["scf:*"], "resource": [format!("{FUNCTIONS}secret-*")]},
        ]),
    );
    let refused = listing
        .call("CreateTrigger", &trigger("open"))
        .expect_err("taken");
    assert_eq!(refused.code, "ResourceInUse.Cos");
    assert!(
        refused.message.contains("another function"),
        "{}",
        refused.message
    );
    assert!(!refused.message.contains("secret-1"), "{}", refused.message);
    let refused = root
        .call("CreateTrigger", &trigger("open"))
        .expect_err("taken");
    assert!(refused.message.contains("secret-1"), "{}", refused.message);
}

#[test]
fn lists_are_filtered_by_the_policy_of_the_caller() {
    let (_server, root, key) = world();
    for name in ["secret", "team"] {
        root.ok("CreateNamespace", &json!({"Namespace": name}));
    }
    root.ok(
        "CreateCustomDomain",
        &domain("both.example.com", &["open", "secret-1"]),
    );
    root.ok(
        "CreateCustomDomain",
        &domain("hidden.example.com", &["secret-1"]),
    );
    let names = |list: &Value, of: &str, field: &str| -> Vec<String> {
        let items = list[of].as_array().expect("a list");
        let name = |item: &Value| item[field].as_str().expect("a name").to_owned();
        items.iter().map(name).collect()
    };
    for (who, functions, layers, spaces, domains) in [(&key, 1, 1, 2, 1), (&root, 2, 2, 3, 2)] {
        for request in [
            json!({}),
            json!({"SearchKey": ""}),
            json!({"Filters": [{"Name": "Status", "Values": ["Active"]}]}),
        ] {
            let listed = who.ok("ListFunctions", &request);
            assert_eq!(listed["TotalCount"], functions, "{listed}");
            assert_eq!(
                names(&listed, "Functions", "FunctionName").len(),
                functions,
                "{listed}"
            );
        }
        let found = who.ok("ListFunctions", &json!({"SearchKey": "secret"}));
        assert_eq!(found["TotalCount"], functions - 1);
        let listed = who.ok("ListLayers", &json!({}));
        assert_eq!(listed["TotalCount"], layers, "{listed}");
        let listed = who.ok("ListNamespaces", &json!({}));
        assert_eq!(listed["TotalCount"], spaces, "{listed}");
        let listed = who.ok("ListCustomDomains", &json!({}));
        assert_eq!(listed["Total"], domains, "{listed}");
        let filter = json!({"Filters": [{"Name": "FunctionName", "Values": ["secret-1"]}]});
        assert_eq!(
            who.ok("ListCustomDomains", &filter)["Total"],
            2 * (domains - 1)
        );
        let shown = who.ok("GetCustomDomain", &json!({"Domain": "both.example.com"}));
        let routes = names(&shown, "EndpointsConfig", "FunctionName");
        assert_eq!(routes.len(), functions, "{shown}");
        let account = who.ok("GetAccount", &json!({}));
        let usage = &account["AccountUsage"]["Namespace"];
        assert_eq!(usage.as_array().map(Vec::len), Some(spaces), "{account}");
        assert_eq!(
            usage[0]["Functions"].as_array().map(Vec::len),
            Some(functions)
        );
    }
    let hidden = json!({"Domain": "hidden.example.com"});
    assert_eq!(
        key.code("GetCustomDomain", &hidden),
        "FailedOperation.Domain.UnExist"
    );
    let all = [
        "ListFunctions",
        "ListLayers",
        "ListNamespaces",
        "ListCustomDomains",
        "GetAccount",
    ];
    for action in all {
        let listed = key.ok(action, &json!({})).to_string();
        assert!(!listed.contains("secret"), "{action}: {listed}");
    }
}

#[test]
fn logs_and_events_of_denied_functions_are_hidden() {
    let (_server, root, key) = world();
    for name in ["open", "secret-1"] {
        assert_eq!(root.answer(name, &json!({})), "hello");
    }
    let logs = |who: &Client, request: &Value| who.ok("GetFunctionLogs", request);
    let seen = logs(&root, &json!({}));
    assert_eq!(seen["TotalCount"], 2, "{seen}");
    let rows = seen["Data"].as_array().expect("rows");
    let of_secret = rows.iter().find(|row| row["FunctionName"] == "secret-1");
    let id = &of_secret.expect("a row")["RequestId"];
    let seen = logs(&key, &json!({}));
    assert_eq!(seen["TotalCount"], 1, "{seen}");
    assert!(!seen.to_string().contains("secret-1"), "{seen}");
    let by_id = logs(&key, &json!({"FunctionRequestId": id}));
    assert_eq!(by_id["TotalCount"], 0, "{by_id}");
    // Also once the function is gone.
    root.ok("DeleteFunction", &json!({"FunctionName": "secret-1"}));
    assert_eq!(logs(&root, &json!({}))["TotalCount"], 2);
    assert_eq!(logs(&key, &json!({}))["TotalCount"], 1);

    root.create("secret-1", HELLO, json!({}));
    let queued = json!({"FunctionName": "secret-1", "InvocationType": "Event"});
    let event = root.ok("Invoke", &queued)["Result"]["FunctionRequestId"].clone();
    let status = json!({"InvokeRequestId": event});
    assert_eq!(root.code("GetAsyncEventStatus", &status), "");
    assert_eq!(
        key.code("GetAsyncEventStatus", &status),
        "ResourceNotFound.AsyncEvent"
    );
    let other = json!({"FunctionName": "open", "InvokeRequestId": event});
    assert_eq!(
        key.code("TerminateAsyncEvent", &other),
        "ResourceNotFound.AsyncEvent"
    );
}

#[test]
fn unknown_fields_grant_no_permission() {
    let (_server, root, _) = world();
    root.ok("CreateCustomDomain", &domain("mine.example.com", &["open"]));
    let key = bound(
        &root,
        json!([{"effect": "allow", "action": ["scf:*"], "resource": [format!("{FUNCTIONS}open"), "qcs::scf:::namespace/team"]}]),
    );
    assert_eq!(key.answer("open", &json!({})), "hello");
    for (action, mut request) in [
        ("ListNamespaces", json!({})),
        ("ListLayers", json!({})),
        ("ListCustomDomains", json!({})),
        ("GetAccount", json!({})),
        ("GetCustomDomain", json!({"Domain": "mine.example.com"})),
        ("DeleteCustomDomain", json!({"Domain": "mine.example.com"})),
        (
            "PutTotalConcurrencyConfig",
            json!({"TotalConcurrencyMem": 64_000}),
        ),
        ("ListFunctions", json!({})),
        ("CreateNamespace", json!({"Namespace": "more"})),
    ] {
        assert_eq!(
            key.code(action, &request),
            "UnauthorizedOperation",
            "{action}"
        );
        request["FunctionName"] = "open".into();
        assert_eq!(
            key.code(action, &request),
            "UnauthorizedOperation",
            "{action} with a function"
        );
        if request.get("Namespace").is_none() {
            request["Namespace"] = "team".into();
            let code = key.code(action, &request);
            // The namespace's functions are its own to list; there is no such namespace.
            let expected = match action {
                "ListFunctions" => "ResourceNotFound.Namespace",
                _ => "UnauthorizedOperation",
            };
            assert_eq!(code, expected, "{action} with a namespace");
        }
    }
}

#[test]
fn list_of_a_namespace_shows_the_allowed_functions() {
    let (_server, root, _) = world();
    root.create("other", HELLO, json!({}));
    let key = bound(
        &root,
        json!([
            {"effect": "allow", "action": ["scf:ListFunctions", "scf:GetFunctionLogs"], "resource": ["qcs::scf:::namespace/default"]},
            {"effect": "allow", "action": ["scf:Invoke", "scf:GetFunctionLogs"], "resource": [format!("{FUNCTIONS}open")]},
        ]),
    );
    for name in ["open", "other"] {
        assert_eq!(root.answer(name, &json!({})), "hello");
    }
    let listed = key.ok("ListFunctions", &json!({}));
    assert_eq!(listed["TotalCount"], 1, "{listed}");
    assert_eq!(listed["Functions"][0]["FunctionName"], "open");
    let logs = key.ok("GetFunctionLogs", &json!({}));
    assert_eq!(logs["TotalCount"], 1, "{logs}");
    assert_eq!(logs["Data"][0]["FunctionName"], "open");
}

#[test]
fn bucket_trigger_needs_permission_to_list_the_bucket() {
    let (_server, root, key) = world();
    let trigger = |prefix: &str| {
        let events =
            json!({"event": "cos:ObjectCreated:*", "filter": {"Prefix": prefix, "Suffix": ""}});
        json!({"FunctionName": "open", "TriggerName": BUCKET, "Type": "cos", "TriggerDesc": events.to_string()})
    };
    let refused = key
        .call("CreateTrigger", &trigger("a/"))
        .expect_err("refused");
    assert_eq!(refused.code, "UnauthorizedOperation");
    assert!(
        refused.message.contains("cos:GetBucket"),
        "{}",
        refused.message
    );
    for action in ["cos:GetBucket", "name/cos:Get*", "cos:*"] {
        let resource = "qcs::cos:::photos-1250000000/*";
        let statements = json!([
            {"effect": "allow", "action": ["scf:*"], "resource": ["*"]},
            {"effect": "allow", "action": [action], "resource": [resource]},
        ]);
        let request = trigger(action);
        assert_eq!(
            bound(&root, statements).code("CreateTrigger", &request),
            "",
            "{action}"
        );
    }
    let timer = json!({"FunctionName": "open", "TriggerName": "tick", "Type": "timer", "TriggerDesc": "0 0 0 1 1 * *"});
    assert_eq!(key.code("CreateTrigger", &timer), "");
}
