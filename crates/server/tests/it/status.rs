//! Where asynchronous events are, taking them away, and functions that always run so.

use serde_json::{Value, json};
use testkit::{Client, eventually};

use crate::events::{FAILS, REMEMBERS, comes_to, ended, go_on, quick, reserve, send, stop};

const WAITS: &str = r#"
import signal, time
def stop(*_):
    print("asked to end", flush=True)
    raise SystemExit(0)
signal.signal(signal.SIGTERM, stop)
def main_handler(event, context):
    time.sleep(event["s"])
"#;

fn status(client: &Client, id: &str) -> String {
    let answer = client.ok("GetAsyncEventStatus", &json!({"InvokeRequestId": id}));
    answer["Result"]["Status"]
        .as_str()
        .expect("text")
        .to_owned()
}

fn listed(client: &Client, more: Value) -> (i64, Vec<String>) {
    let mut request = json!({"FunctionName": "fun"});
    if let (Value::Object(request), Value::Object(more)) = (&mut request, more) {
        request.extend(more);
    }
    let answer = client.ok("ListAsyncEvents", &request);
    let events = answer["EventList"].as_array().expect("a list");
    let ids = events
        .iter()
        .map(|event| event["InvokeRequestId"].as_str().expect("text").to_owned());
    (
        answer["TotalCount"].as_i64().expect("a number"),
        ids.collect(),
    )
}

#[test]
fn the_status_of_events_is_listed_and_survives() {
    let mut server = quick(&[]);
    let client = server.client();
    client.create("fun", REMEMBERS, json!({}));
    let first = send(&client, "fun", &json!({"n": 1}));
    eventually("it has run", || status(&client, &first) == "FINISHED");
    stop(&client, "fun");
    let second = send(&client, "fun", &json!({"n": 2}));
    assert_eq!(status(&client, &second), "RUNNING");
    server.kill();
    server.restart();
    let client = server.client();
    assert_eq!(
        listed(&client, json!({})),
        (2, vec![second.clone(), first.clone()])
    );
    assert_eq!(
        listed(&client, json!({"Order": "ASC", "Limit": 1})),
        (2, vec![first.clone()])
    );
    assert_eq!(
        listed(&client, json!({"Status": ["RUNNING"]})),
        (1, vec![second.clone()])
    );
    assert_eq!(
        listed(&client, json!({"Status": ["FINISHED", "FAILED"]})),
        (1, vec![first.clone()])
    );
    assert_eq!(listed(&client, json!({"InvokeType": ["TIMER"]})).0, 0);
    assert_eq!(listed(&client, json!({"InvokeType": ["API"]})).0, 2);
    assert_eq!(listed(&client, json!({"Qualifier": "7"})).0, 0);
    assert_eq!(listed(&client, json!({"InvokeRequestId": first})).0, 1);
    let before = json!({"StartTimeInterval": {"Start": "2000-01-01 00:00:00", "End": "2001-01-01 00:00:00"}});
    assert_eq!(listed(&client, before).0, 0);
    let since = json!({"EndTimeInterval": {"Start": "2000-01-01 00:00:00"}});
    assert_eq!(listed(&client, since).0, 1, "the other has not ended");
    let one = client.ok(
        "ListAsyncEvents",
        &json!({"FunctionName": "fun", "Order": "ASC"}),
    );
    let one = &one["EventList"][0];
    assert_eq!(
        (&one["InvokeType"], &one["Qualifier"]),
        (&json!("API"), &json!("$DEFAULT"))
    );
    let time = one["EndTime"].as_str().expect("text");
    assert_eq!(time.len(), "2026-01-01 00:00:00.000000".len(), "{time}");
}

#[test]
fn each_attempt_has_its_log_and_the_last_is_the_status() {
    let server = quick(&[]);
    server.expect("an event failed permanently");
    let client = server.client();
    client.create("fun", FAILS, json!({}));
    let id = send(&client, "fun", &json!({}));
    eventually("it has failed permanently", || {
        status(&client, &id) == "FAILED"
    });
    let logs = client.ok(
        "GetFunctionLogs",
        &json!({"FunctionName": "fun", "FunctionRequestId": id, "Order": "asc"}),
    );
    let numbers: Vec<_> = logs["Data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|log| log["RetryNum"].as_i64())
        .collect();
    assert_eq!(numbers, [Some(0), Some(1), Some(2)]);
    let request = json!({"FunctionName": "fun", "FunctionRequestId": id});
    let answer = client.ok("GetRequestStatus", &request);
    let shown = &answer["Data"][0];
    assert_eq!(
        (&answer["TotalCount"], &shown["RetCode"], &shown["RetryNum"]),
        (&json!(1), &json!(-1), &json!(2))
    );
    let answer = client.ok("GetAsyncEventStatus", &json!({"InvokeRequestId": id}));
    assert_eq!(answer["Result"]["StatusCode"], 430);
    stop(&client, "fun");
    let id = send(&client, "fun", &json!({}));
    let request = json!({"FunctionName": "fun", "FunctionRequestId": id});
    let answer = client.ok("GetRequestStatus", &request);
    assert_eq!(answer["Data"][0]["RetCode"], 1);
}

#[test]
fn events_are_cancelled_before_and_while_they_run() {
    let server = quick(&[]);
    let client = server.client();
    client.create("fun", WAITS, json!({"Timeout": 60}));
    let end = |id: &str, gracefully: bool| {
        let request =
            json!({"FunctionName": "fun", "InvokeRequestId": id, "GraceShutdown": gracefully});
        client.code("TerminateAsyncEvent", &request)
    };
    let busy = || client.metric("virga_instances{state=\"busy\"}") == Some(1.0);
    let log = |id: &str| {
        let request = json!({"FunctionName": "fun", "FunctionRequestId": id});
        let logs = client.ok("GetFunctionLogs", &request);
        logs["Data"][0]["Log"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    // One that runs.
    let id = send(&client, "fun", &json!({"s": 50}));
    eventually("it runs", busy);
    assert_eq!(end(&id, false), "");
    eventually("it is ended", || status(&client, &id) == "ABORTED");
    assert_eq!(end(&id, false), "FailedOperation.AsyncEventStatus");
    // One that is asked to end, and logs it.
    let id = send(&client, "fun", &json!({"s": 50}));
    eventually("it runs", busy);
    assert_eq!(end(&id, true), "");
    eventually("it is ended", || status(&client, &id) == "ABORTED");
    assert!(log(&id).contains("asked to end"), "{}", log(&id));
    // One that waits.
    stop(&client, "fun");
    let id = send(&client, "fun", &json!({"s": 0}));
    assert_eq!(end(&id, false), "");
    eventually("it is cancelled", || status(&client, &id) == "ABORTED");
    go_on(&client, "fun");
    let id = send(&client, "fun", &json!({"s": 0}));
    eventually("others go on", || status(&client, &id) == "FINISHED");
    comes_to(&client, "virga_events_aborted_total", 3.0);
    assert_eq!(end(&"0".repeat(36), false), "InvalidParameterValue");
    let unknown = "00000000-0000-0000-0000-000000000000";
    assert_eq!(end(unknown, false), "ResourceNotFound.AsyncEvent");
}

#[test]
fn cancelled_event_does_not_move_to_another_instance() {
    let server = quick(&[]);
    let client = server.client();
    // The instance receives the next event, but does not call the handler.
    let source = "import json, time\ndef main_handler(event, context):\n    if event.get('arm'):\n        json.loads = lambda *_: time.sleep(60)\n    return 'ran'\n";
    client.create("fun", source, json!({"Timeout": 60}));
    assert_eq!(client.answer("fun", &json!({"arm": true})), "ran");
    let id = send(&client, "fun", &json!({}));
    eventually("it runs", || {
        client.metric("virga_instances{state=\"busy\"}") == Some(1.0)
    });
    let request = json!({"FunctionName": "fun", "InvokeRequestId": id});
    client.ok("TerminateAsyncEvent", &request);
    eventually("it is ended", || status(&client, &id) == "ABORTED");
    let request = json!({"FunctionName": "fun", "FunctionRequestId": id});
    let logs = client.ok("GetFunctionLogs", &request);
    assert!(!logs.to_string().contains("RetMsg:"), "{logs}");
}

#[test]
fn a_function_that_always_runs_asynchronously_answers_with_an_id_and_runs_once() {
    let server = quick(&[]);
    server.expect("an event failed permanently");
    let client = server.client();
    let source = "import time\nstarted = time.time()\ndef main_handler(event, context):\n    print('since', started)\n    return 1 / event['n']\n";
    client.create(
        "fun",
        source,
        json!({"AsyncRunEnable": "TRUE", "Timeout": 86_400}),
    );
    let shown = client.ok("GetFunction", &json!({"FunctionName": "fun"}));
    assert_eq!(
        (&shown["AsyncRunEnable"], &shown["Timeout"]),
        (&json!("TRUE"), &json!(86_400))
    );
    let mut logs = Vec::new();
    for n in [1, 0, 1] {
        let request = json!({"FunctionName": "fun", "ClientContext": json!({"n": n}).to_string()});
        let result = client.ok("Invoke", &request)["Result"].take();
        assert_eq!(result["RetMsg"], "");
        let id = result["FunctionRequestId"]
            .as_str()
            .expect("an id")
            .to_owned();
        let end = if n == 0 { "FAILED" } else { "FINISHED" };
        eventually("it ends", || status(&client, &id) == end);
        let request = json!({"FunctionName": "fun", "FunctionRequestId": id});
        let log = client.ok("GetFunctionLogs", &request)["Data"][0]["Log"].take();
        let since = log.as_str().and_then(|log| {
            log.lines()
                .find(|line| line.starts_with("since"))
                .map(str::to_owned)
        });
        logs.push(since.expect("a line"));
    }
    assert_eq!(ended(&client, 430), 1.0, "it was not tried again");
    assert_eq!(logs[0], logs[1]);
    assert_ne!(
        logs[1], logs[2],
        "the instance of a failed run is not used again"
    );
    let more = json!({"FunctionName": "two", "Runtime": "Python3.6", "Timeout": 901, "Code": {"ZipFile": ""}});
    assert_eq!(
        client.code("CreateFunction", &more),
        "LimitExceeded.Timeout"
    );
}

#[test]
fn retry_settings_of_events_are_applied() {
    let server = quick(&["--limits", "msg_ttl_min_s=1"]);
    server.expect("an event failed permanently");
    let client = server.client();
    client.create("fun", FAILS, json!({}));
    let get = || {
        client.ok(
            "GetFunctionEventInvokeConfig",
            &json!({"FunctionName": "fun"}),
        )
    };
    let set = |config: Value| {
        let request = json!({"FunctionName": "fun", "AsyncTriggerConfig": config});
        client.code("UpdateFunctionEventInvokeConfig", &request)
    };
    // Waits are in whole seconds, and shorter here.
    let rules = |number: u32| {
        json!([
            {"ErrorCode": ["default"], "RetryNum": number, "RetryInterval": 1},
            {"ErrorCode": ["432"], "RetryNum": -1, "RetryInterval": 1},
        ])
    };
    let usual = json!({"MsgTTL": 21_600, "RetryConfig": rules(2)});
    assert_eq!(get()["AsyncTriggerConfig"], usual);
    assert_eq!(set(usual), "", "the shown settings can be sent back");
    assert_eq!(set(json!({"RetryConfig": [{"RetryNum": 1}]})), "");
    let id = send(&client, "fun", &json!({}));
    eventually("it has failed permanently", || {
        status(&client, &id) == "FAILED"
    });
    assert_eq!(ended(&client, 430), 2.0);
    // One that waits longer than its limit fails permanently, too.
    stop(&client, "fun");
    assert_eq!(set(json!({"MsgTTL": 1})), "");
    let now = json!({"MsgTTL": 1, "RetryConfig": rules(1)});
    assert_eq!(get()["AsyncTriggerConfig"], now);
    let id = send(&client, "fun", &json!({}));
    eventually("it is too old", || status(&client, &id) == "FAILED");
    for (config, code) in [
        (json!({"MsgTTL": 0}), "LimitExceeded.MsgTTL"),
        (json!({"MsgTTL": 21_601}), "LimitExceeded.MsgTTL"),
        (
            json!({"RetryConfig": [{"RetryNum": 3}]}),
            "LimitExceeded.RetryNum",
        ),
        (json!({}), "InvalidParameterValue.AsyncTriggerConfig"),
        (
            json!({"RetryConfig": [{"RetryNum": 1}, {"RetryNum": 1}]}),
            "InvalidParameterValue.AsyncTriggerConfig",
        ),
        (
            json!({"RetryConfig": [{"RetryNum": 1, "RetryInterval": 30}]}),
            "InvalidParameterValue.AsyncTriggerConfig",
        ),
        (
            json!({"RetryConfig": [{"RetryNum": 1, "ErrorCode": ["430"]}]}),
            "InvalidParameterValue.AsyncTriggerConfig",
        ),
    ] {
        assert_eq!(set(config.clone()), code, "{config}");
    }
}

#[test]
fn a_wall_clock_that_went_back_neither_loses_nor_stalls_events() {
    let mut server = quick(&[]);
    let client = server.client();
    client.create("fun", REMEMBERS, json!({}));
    stop(&client, "fun");
    send(&client, "fun", &json!({"n": 1}));
    server.kill();
    // As if all of that had happened ten years later, before someone set the clock.
    let ahead: i64 = 10 * 365 * 86_400 * 1_000_000;
    let store = rusqlite::Connection::open(server.data().join("events.sqlite")).expect("a store");
    for change in [
        "UPDATE event SET due = due + ?1, accepted = accepted + ?1",
        "UPDATE replica SET time = time + ?1",
    ] {
        store.execute(change, [ahead]).expect("changed");
    }
    drop(store);
    server.restart();
    let client = server.client();
    reserve(&client, "fun", 128);
    send(&client, "fun", &json!({"n": 2}));
    eventually("both have run", || ended(&client, 200) == 2.0);
    assert_eq!(client.answer("fun", &json!({})), json!([1, 2]));
}
