//! Changes of one function that come at the same time.

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};
use testkit::package;

use crate::server;

#[test]
fn concurrent_changes_are_atomic_or_refused() {
    let server = server();
    let client = server.client();
    client.create("torn", "def main_handler(e, c):\n    return 0\n", json!({}));
    let callers = 8;
    let rounds = 6;
    let mut conflicts = 0;
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
        let (won, lost): (Vec<_>, Vec<_>) = answers.partition(|(_, code)| code.is_empty());
        let codes: BTreeSet<_> = lost.iter().map(|(_, code)| code.as_str()).collect();
        let conflict = BTreeSet::from(["FailedOperation.OperationConflict"]);
        assert!(codes.is_subset(&conflict), "{codes:?}");
        conflicts += lost.len();
        let shown = client.ok("GetFunction", &json!({"FunctionName": "torn"}));
        let number = shown["Description"]
            .as_str()
            .and_then(|text| text.parse().ok());
        let number: i64 = number.unwrap_or_else(|| panic!("{shown}"));
        assert!(
            won.iter().any(|(one, _)| *one == number),
            "{number} lost, and is there"
        );
        assert_eq!(shown["Timeout"], 1 + number, "{shown}");
        assert_eq!(
            shown["Environment"]["Variables"][0]["Value"],
            number.to_string(),
            "{shown}"
        );
    }
    assert!(
        conflicts > 0,
        "no two came at the same time, so nothing was tried"
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
        assert!(code || settings, "one of two wins");
        let after = client.answer("pair", &json!({}));
        let changed = |won: bool, value: &Value, new: Value| !won || *value == new;
        assert!(changed(code, &after[0], json!(number)), "{before} {after}");
        assert!(
            changed(settings, &after[1], json!(number.to_string())),
            "{before} {after}"
        );
    }
}
