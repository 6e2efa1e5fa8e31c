//! Triggers belong to their function and come and go with it.

use std::thread;

use serde_json::{Value, json};
use testkit::{Client, Server};

use crate::{VIRGA, server};

/// Answers with its instance.
const INSTANCE: &str =
    "import os\nid = os.urandom(8).hex()\ndef main_handler(e, c):\n    return id\n";

/// The request of an action on a timer of the one function.
fn on(name: &str, more: &Value) -> Value {
    let mut request = more.clone();
    request["FunctionName"] = "fn".into();
    request["TriggerName"] = name.into();
    request["Type"] = "timer".into();
    request
}

fn daily(client: &Client, name: &str) {
    client.ok(
        "CreateTrigger",
        &on(name, &json!({"TriggerDesc": "0 0 3 * * * *"})),
    );
}

fn names(client: &Client, function: &str) -> Vec<String> {
    let request =
        json!({"FunctionName": function, "OrderBy": "add_time", "Order": "ASC", "Limit": 100});
    let listed = client.ok("ListTriggers", &request);
    let triggers = listed["Triggers"].as_array().expect("a list");
    let name = |trigger: &Value| trigger["TriggerName"].as_str().expect("a name").to_owned();
    triggers.iter().map(name).collect()
}

#[test]
fn a_change_of_triggers_leaves_what_runs_alone_and_survives_a_kill() {
    let mut server = server();
    let client = server.client();
    client.create("fn", INSTANCE, json!({}));
    let before = client.answer("fn", &json!({}));
    daily(&client, "one");
    let moved = json!({"TriggerDesc": "0 0 4 * * * *", "Enable": "CLOSE"});
    client.ok("UpdateTrigger", &on("one", &moved));
    daily(&client, "two");
    client.ok("DeleteTrigger", &on("two", &json!({})));
    assert_eq!(
        client.answer("fn", &json!({})),
        before,
        "the instance goes on serving"
    );

    server.kill();
    server.restart();
    let client = server.client();
    let shown = client.ok("GetFunction", &json!({"FunctionName": "fn"}))["Triggers"].take();
    let one = &shown[0];
    assert_eq!(shown.as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&one["TriggerDesc"], &one["Enable"]),
        (&json!("{\"cron\":\"0 0 4 * * * *\"}"), &json!(0))
    );
}

#[test]
fn a_function_takes_its_triggers_with_it_and_a_copy_has_none() {
    let server = server();
    let client = server.client();
    client.create("fn", INSTANCE, json!({}));
    daily(&client, "kept");
    client.ok(
        "CopyFunction",
        &json!({"FunctionName": "fn", "NewFunctionName": "copy"}),
    );
    assert_eq!(names(&client, "copy"), Vec::<String>::new());
    client.ok("DeleteFunction", &json!({"FunctionName": "fn"}));
    client.create("fn", INSTANCE, json!({}));
    assert_eq!(names(&client, "fn"), Vec::<String>::new());
    // What is written over keeps its own.
    daily(&client, "own");
    client.ok(
        "CopyFunction",
        &json!({"FunctionName": "copy", "NewFunctionName": "fn", "Override": true}),
    );
    assert_eq!(names(&client, "fn"), ["own"]);
}

#[test]
fn triggers_that_are_made_at_the_same_time_are_all_there_and_never_more_than_allowed() {
    let server = Server::flags(VIRGA, &["--limits", "triggers_per_type=20"]);
    let client = server.client();
    client.create("fn", INSTANCE, json!({}));
    let create = |number: u32| {
        let client = client.clone();
        let request = on(
            &format!("t{number:02}"),
            &json!({"TriggerDesc": "0 0 3 * * *  *"}),
        );
        thread::spawn(move || client.code("CreateTrigger", &request))
    };
    let threads: Vec<_> = (0..24).map(create).collect();
    let codes: Vec<_> = threads
        .into_iter()
        .map(|one| one.join().expect("an answer"))
        .collect();
    let refused = codes
        .iter()
        .filter(|code| *code == "LimitExceeded.Trigger")
        .count();
    assert_eq!(refused, 4, "{codes:?}");
    assert_eq!(names(&client, "fn").len(), 20);
    assert_eq!(
        codes.iter().filter(|code| code.is_empty()).count(),
        20,
        "{codes:?}"
    );
}
