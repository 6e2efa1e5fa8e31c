//! Changes of one function that come at the same time.

use std::thread;

use serde_json::json;
use testkit::package;

use crate::server;

#[test]
fn concurrent_changes_are_atomic_and_none_is_refused() {
    let server = server();
    let client = server.client();
    client.create("torn", "def main_handler(e, c):\n    return 0\n", json!({}));
    let callers = 8;
    let rounds = 6;
    for round in 0..rounds {
        let changes: Vec<_> = (0..callers)
            .map(|caller| {
                let client = client.clone();
                thread::spawn(move || {
                    let number = round * callers + caller;
                    let request = json!({
                        "FunctionName": "torn",
                        "Description": number.to_string(),
                        "Timeout": 1 + number,
                        "Environment": {"Variables": [{"Key": "NUMBER", "Value": number.to_string()}]},
                    });
                    (number, client.code("UpdateFunctionConfiguration", &request))
                })
            })
            .collect();
        let answers = changes.into_iter().map(|one| one.join().expect("a client"));
        for (number, code) in answers {
            assert_eq!(code, "", "{number} is refused");
        }
        let shown = client.ok("GetFunction", &json!({"FunctionName": "torn"}));
        let number = shown["Description"]
            .as_str()
            .and_then(|text| text.parse().ok());
        let number: i64 = number.unwrap_or_else(|| panic!("{shown}"));
        assert_eq!(shown["Timeout"], 1 + number, "{shown}");
        assert_eq!(
            shown["Environment"]["Variables"][0]["Value"],
            number.to_string(),
            "{shown}"
        );
    }
}

#[test]
fn concurrent_changes_of_different_parts_are_all_there() {
    let server = server();
    let client = server.client();
    client.create(
        "parts",
        "def main_handler(e, c):
    return 0\n",
        json!({}),
    );
    let on = json!({"FunctionName": "parts"});
    client.ok("PublishVersion", &on);
    let parts = 8;
    let mut changes = Vec::new();
    for part in 0..parts {
        for action in [
            "CreateAlias",
            "PublishVersion",
            "UpdateFunctionConfiguration",
        ] {
            let (client, mut request) = (client.clone(), on.clone());
            match action {
                "CreateAlias" => {
                    request["Name"] = json!(format!("alias{part}"));
                    request["FunctionVersion"] = json!("1");
                }
                "UpdateFunctionConfiguration" => request["Timeout"] = json!(part + 1),
                _ => {}
            }
            changes.push(thread::spawn(move || client.code(action, &request)));
        }
    }
    for change in changes {
        assert_eq!(change.join().expect("a client"), "");
    }
    let aliases = client.ok("ListAliases", &on);
    // $DEFAULT is one of them.
    assert_eq!(aliases["TotalCount"], 1 + parts, "{aliases}");
    let versions = client.ok("ListVersionByFunction", &on);
    // $LATEST is one of them.
    assert_eq!(
        versions["FunctionVersion"].as_array().map(Vec::len),
        Some(2 + parts),
        "{versions}"
    );
}

#[test]
fn code_and_settings_that_change_at_the_same_time_are_published_together() {
    let server = server();
    let client = server.client();
    let says = |number: i64| {
        let source = format!(
            "import os\ndef main_handler(e, c):\n    return [{number}, os.environ.get('NUMBER')]\n"
        );
        package(&[("index.py", &source)])
    };
    client.ok(
        "CreateFunction",
        &json!({"FunctionName": "pair", "Runtime": "Python3.9", "Code": {"ZipFile": says(0)}}),
    );
    for number in 1..6 {
        let (of_code, of_settings) = (client.clone(), client.clone());
        let code = json!({"FunctionName": "pair", "ZipFile": says(number)});
        let settings = json!({"FunctionName": "pair", "Environment": {"Variables": [{"Key": "NUMBER", "Value": number.to_string()}]}});
        let code = thread::spawn(move || of_code.code("UpdateFunctionCode", &code).is_empty());
        let settings = thread::spawn(move || {
            of_settings
                .code("UpdateFunctionConfiguration", &settings)
                .is_empty()
        });
        let before = client.answer("pair", &json!({}));
        let (code, settings) = (
            code.join().expect("a client"),
            settings.join().expect("a client"),
        );
        assert!(code && settings, "none is refused");
        let after = client.answer("pair", &json!({}));
        assert_eq!(after, json!([number, number.to_string()]), "{before}");
    }
}

#[test]
fn concurrent_copies_over_a_function_are_not_refused() {
    let server = server();
    let client = server.client();
    for name in ["source", "target"] {
        client.create(name, "def main_handler(e, c):\n    return 0\n", json!({}));
    }
    let mut changes = Vec::new();
    for caller in 0..8 {
        let copy = json!({
            "FunctionName": "source",
            "NewFunctionName": "target",
            "Override": true,
            "Description": format!("copy {caller}"),
        });
        let settings = json!({"FunctionName": "target", "Timeout": 1 + caller});
        for (action, request) in [
            ("CopyFunction", copy),
            ("UpdateFunctionConfiguration", settings),
        ] {
            let client = client.clone();
            changes.push(thread::spawn(move || {
                let mut codes = (0..4).map(|_| client.code(action, &request));
                codes.find(|code| !code.is_empty())
            }));
        }
    }
    for change in changes {
        assert_eq!(change.join().expect("a client"), None, "none is refused");
    }
    let shown = client.ok("GetFunction", &json!({"FunctionName": "target"}));
    let description = shown["Description"].as_str().unwrap_or_default();
    assert!(description.starts_with("copy "), "{shown}");
}
