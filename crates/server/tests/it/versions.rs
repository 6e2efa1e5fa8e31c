//! Versions stay what they were; aliases decide which of them serves.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};
use testkit::{Client, Server, package};

use crate::{VIRGA, server};

/// A handler that answers with a word, its version and its instance.
fn says(word: &str) -> String {
    format!(
        "import os\nid = os.urandom(8).hex()\ndef main_handler(e, c):\n    return ['{word}', c['function_version'], id, os.environ.get('COLOUR')]\n"
    )
}

/// The request of an action on the one function.
fn on(more: &Value) -> Value {
    let mut request = more.clone();
    request["FunctionName"] = "fn".into();
    request
}

fn with(client: &Client, action: &str, more: Value) -> Value {
    client.ok(action, &on(&more))
}

fn refused(client: &Client, action: &str, more: Value) -> String {
    client.code(action, &on(&more))
}

fn new_code(client: &Client, word: &str, mut fields: Value) {
    fields["ZipFile"] = package(&[("index.py", &says(word))]).into();
    with(client, "UpdateFunctionCode", fields);
}

/// Word, version, instance and variable of an answer.
fn ask(client: &Client, more: Value) -> (String, String, String, Option<String>) {
    let result = with(client, "Invoke", more)["Result"].clone();
    let text = result["RetMsg"].as_str().expect("text");
    serde_json::from_str(text).unwrap_or_else(|_| panic!("{result}"))
}

fn word(client: &Client, qualifier: &str) -> String {
    ask(client, json!({"Qualifier": qualifier})).0
}

#[test]
fn published_version_is_immutable_with_instances_of_its_own() {
    let mut server = server();
    let client = server.client();
    let variables =
        |value: &str| json!({"Environment": {"Variables": [{"Key": "COLOUR", "Value": value}]}});
    client.create("fn", &says("one"), variables("grey"));
    let first = with(
        &client,
        "PublishVersion",
        json!({"Description": "the first"}),
    );
    let expected = json!({"FunctionVersion": "1", "Description": "the first", "MemorySize": 128, "Timeout": 3});
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&first[name], value, "{name}");
    }
    new_code(&client, "two", json!({}));
    with(&client, "UpdateFunctionConfiguration", variables("blue"));
    new_code(&client, "three", json!({"Publish": "TRUE"}));
    new_code(&client, "four", json!({}));

    let one = ask(&client, json!({"Qualifier": "1"}));
    let two = ask(&client, json!({"Qualifier": "2"}));
    let latest = ask(&client, json!({}));
    assert_eq!(
        (one.0.as_str(), one.1.as_str(), one.3.as_deref()),
        ("one", "1", Some("grey"))
    );
    assert_eq!(
        (two.0.as_str(), two.1.as_str(), two.3.as_deref()),
        ("three", "2", Some("blue"))
    );
    assert_eq!((latest.0.as_str(), latest.1.as_str()), ("four", "$LATEST"));
    // Each has an instance of its own, which goes on serving it.
    assert_eq!(ask(&client, json!({"Qualifier": "1"})).2, one.2);
    assert_eq!(ask(&client, json!({"Qualifier": "$LATEST"})).2, latest.2);

    let shown = with(
        &client,
        "GetFunction",
        json!({"Qualifier": "1", "ShowCode": "TRUE"}),
    );
    assert_eq!(shown["FunctionVersion"], "1");
    assert_eq!(shown["Description"], "the first");
    assert_eq!(shown["Environment"]["Variables"][0]["Value"], "grey");
    assert!(shown["CodeInfo"].as_str().expect("text").contains("'one'"));
    let listed = with(&client, "ListVersionByFunction", json!({"Order": "ASC"}));
    assert_eq!(listed["FunctionVersion"], json!(["$LATEST", "1", "2"]));
    assert_eq!(listed["TotalCount"], 3);

    assert_eq!(
        refused(&client, "Invoke", json!({"Qualifier": "3"})),
        "ResourceNotFound.Qualifier"
    );
    with(&client, "DeleteFunctionVersion", json!({"Qualifier": "2"}));
    assert_eq!(
        refused(&client, "Invoke", json!({"Qualifier": "2"})),
        "ResourceNotFound.Qualifier"
    );
    assert_eq!(
        refused(&client, "DeleteFunctionVersion", json!({"Qualifier": "2"})),
        "ResourceNotFound.FunctionVersion"
    );
    server.kill();
    server.restart();
    let client = server.client();
    assert_eq!(word(&client, "1"), "one");
    // The number of a deleted version is not given again.
    assert_eq!(
        with(&client, "PublishVersion", json!({}))["FunctionVersion"],
        "3"
    );
}

#[test]
fn a_published_version_serves_while_the_next_code_is_made_ready_or_fails() {
    let server = server();
    let client = server.client();
    client.create("fn", &says("one"), json!({}));
    with(&client, "PublishVersion", json!({}));
    let package = package(&[
        ("index.py", &says("two")),
        ("requirements.txt", "no-such-package-anywhere==0\n"),
    ]);
    let update = json!({"ZipFile": package, "InstallDependency": "TRUE", "Publish": "TRUE"});
    with(&client, "UpdateFunctionCode", update);
    assert_eq!(word(&client, "1"), "one");
    testkit::eventually("the installation fails", || {
        with(&client, "GetFunction", json!({}))["Status"] == "UpdateFailed"
    });
    assert_eq!(word(&client, "$LATEST"), "one");
    // Code that was not made ready was not published either.
    let listed = with(&client, "ListVersionByFunction", json!({}));
    assert_eq!(listed["FunctionVersion"], json!(["1", "$LATEST"]));
}

#[test]
fn alias_routes_requests_by_weight_and_by_rule() {
    let server = server();
    let client = server.client();
    client.create("fn", &says("one"), json!({}));
    new_code(&client, "one", json!({"Publish": "TRUE"}));
    new_code(&client, "two", json!({"Publish": "TRUE"}));
    let routing =
        |weight: f64| json!({"AdditionalVersionWeights": [{"Version": "2", "Weight": weight}]});
    with(
        &client,
        "CreateAlias",
        json!({"Name": "live", "FunctionVersion": "1", "RoutingConfig": routing(0.3)}),
    );
    let (calls, second) = (3000, AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..calls / 4 {
                    if word(&client, "live") == "two" {
                        second.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (mean, deviation) = (
        0.3 * f64::from(calls),
        (0.3 * 0.7 * f64::from(calls)).sqrt(),
    );
    let off = (second.load(Ordering::Relaxed) as f64 - mean) / deviation;
    assert!(off.abs() < 4.9, "{second:?} of {calls}");

    let rules = json!({"AddtionVersionMatchs": [
        {"Version": "2", "Key": "invoke.headers.User", "Method": "exact", "Expression": "Bob"},
        {"Version": "2", "Key": "invoke.headers.Age", "Method": "range", "Expression": "[18,65)"},
    ]});
    with(
        &client,
        "UpdateAlias",
        json!({"Name": "live", "FunctionVersion": "1", "RoutingConfig": rules}),
    );
    let rows = [
        (r#"{"User":"Bob"}"#, "two"),
        (r#"{"User":"Alice"}"#, "one"),
        (r#"{"Age":18}"#, "two"),
        (r#"{"Age":"64"}"#, "two"),
        (r#"{"Age":65}"#, "one"),
        ("", "one"),
    ];
    for (key, expected) in rows {
        let (word, ..) = ask(&client, json!({"Qualifier": "live", "RoutingKey": key}));
        assert_eq!(word, expected, "{key}");
    }
    let shown = with(&client, "GetAlias", json!({"Name": "live"}));
    assert_eq!(
        shown["RoutingConfig"]["AddtionVersionMatchs"],
        rules["AddtionVersionMatchs"]
    );
    assert_eq!(
        shown["RoutingConfig"]["AdditionalVersionWeights"],
        json!([])
    );
}

#[test]
fn an_alias_keeps_the_versions_that_it_uses() {
    let server = server();
    let client = server.client();
    client.create("fn", &says("one"), json!({}));
    with(&client, "PublishVersion", json!({}));
    with(&client, "PublishVersion", json!({}));
    let create = |name: &str, version: &str| json!({"Name": name, "FunctionVersion": version});
    with(&client, "CreateAlias", create("live", "1"));
    let rows = [
        ("CreateAlias", create("live", "1"), "ResourceInUse.Alias"),
        (
            "CreateAlias",
            create("$DEFAULT", "1"),
            "ResourceInUse.Alias",
        ),
        (
            "CreateAlias",
            create("1st", "1"),
            "InvalidParameterValue.Alias",
        ),
        (
            "CreateAlias",
            create("other", "9"),
            "ResourceNotFound.FunctionVersion",
        ),
        (
            "CreateAlias",
            json!({"Name": "other", "FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": [{"Version": "2", "Weight": 1.5}]}}),
            "InvalidParameterValue.AdditionalVersionWeights",
        ),
        (
            "CreateAlias",
            json!({"Name": "other", "FunctionVersion": "1", "RoutingConfig": {"AddtionVersionMatchs": [{"Version": "2", "Key": "User", "Method": "exact", "Expression": "x"}]}}),
            "InvalidParameterValue.RoutingConfig",
        ),
        ("UpdateAlias", create("none", "1"), "ResourceNotFound.Alias"),
        (
            "GetAlias",
            json!({"Name": "none"}),
            "ResourceNotFound.Alias",
        ),
        (
            "DeleteAlias",
            json!({"Name": "none"}),
            "ResourceNotFound.Alias",
        ),
        (
            "DeleteAlias",
            json!({"Name": "$DEFAULT"}),
            "FailedOperation.DeleteAlias",
        ),
        (
            "DeleteFunctionVersion",
            json!({"Qualifier": "1"}),
            "UnsupportedOperation.AliasBind",
        ),
        (
            "DeleteFunctionVersion",
            json!({"Qualifier": "$LATEST"}),
            "InvalidParameterValue.Qualifier",
        ),
        (
            "DeleteFunction",
            json!({"Qualifier": "1"}),
            "UnsupportedOperation.AliasBind",
        ),
        (
            "Invoke",
            json!({"Qualifier": "none"}),
            "ResourceNotFound.Qualifier",
        ),
    ];
    for (action, request, code) in rows {
        assert_eq!(
            refused(&client, action, request.clone()),
            code,
            "{action} {request}"
        );
    }
    // The default alias is there from the start, and can be pointed to another version.
    let names = |version: &str| {
        let listed = with(&client, "ListAliases", json!({"FunctionVersion": version}));
        let aliases = listed["Aliases"].as_array().expect("a list").clone();
        aliases
            .iter()
            .map(|alias| alias["Name"].as_str().expect("text").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(""), ["$DEFAULT", "live"]);
    new_code(&client, "two", json!({}));
    assert_eq!(ask(&client, json!({})).0, "two");
    with(&client, "UpdateAlias", create("$DEFAULT", "2"));
    assert_eq!(ask(&client, json!({})).0, "one");
    assert_eq!(word(&client, "$LATEST"), "two");
    assert_eq!(names("2"), ["$DEFAULT"]);
    // By force a version goes with the aliases that are its own.
    with(
        &client,
        "DeleteFunctionVersion",
        json!({"Qualifier": "1", "ForceDelete": "TRUE"}),
    );
    assert_eq!(
        refused(&client, "GetAlias", json!({"Name": "live"})),
        "ResourceNotFound.Alias"
    );
    with(
        &client,
        "DeleteFunctionVersion",
        json!({"Qualifier": "2", "ForceDelete": "TRUE"}),
    );
    assert_eq!(ask(&client, json!({})).0, "two");
}

#[test]
fn traffic_moves_with_an_alias_and_no_call_fails() {
    let server = Server::flags(VIRGA, &["--keep-alive", "60"]);
    let client = server.client();
    client.create("fn", &says("one"), json!({}));
    new_code(&client, "one", json!({"Publish": "TRUE"}));
    new_code(&client, "two", json!({"Publish": "TRUE"}));
    with(
        &client,
        "CreateAlias",
        json!({"Name": "live", "FunctionVersion": "1"}),
    );
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut words = std::collections::BTreeSet::new();
                    while !done.load(Ordering::Relaxed) {
                        // Panics where a call fails.
                        words.insert(word(&client, "live"));
                    }
                    words
                })
            })
            .collect();
        for round in 0..20 {
            let version = if round % 2 == 0 { "2" } else { "1" };
            with(
                &client,
                "UpdateAlias",
                json!({"Name": "live", "FunctionVersion": version}),
            );
            // What comes after the change was answered is served by the version that it names.
            let expected = if round % 2 == 0 { "two" } else { "one" };
            assert_eq!(word(&client, "live"), expected);
            new_code(&client, "three", json!({}));
        }
        done.store(true, Ordering::Relaxed);
        for caller in callers {
            let words = caller.join().expect("no call failed");
            assert!(
                words.iter().all(|word| word == "one" || word == "two"),
                "{words:?}"
            );
        }
    });
}
