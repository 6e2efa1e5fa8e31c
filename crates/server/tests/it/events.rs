//! Asynchronous events: accepted, kept, run in order, tried again, never lost.

use serde_json::{Value, json};
use testkit::{Client, Options, Server, eventually};

use crate::{VIRGA, server};

/// Remembers what it got, and gives it back to a call without a number.
pub(crate) const REMEMBERS: &str = r#"
got = []
def main_handler(event, context):
    if "n" in event:
        got.append(event["n"])
        print("got", event["n"])
    return got
"#;

pub(crate) const FAILS: &str = r#"
def main_handler(event, context):
    raise ValueError("on purpose")
"#;

/// Sends an event; gives its request id.
pub(crate) fn send(client: &Client, name: &str, event: &Value) -> String {
    let request = json!({"FunctionName": name, "InvocationType": "Event", "ClientContext": event.to_string()});
    let result = client.ok("Invoke", &request)["Result"].take();
    let id = result["FunctionRequestId"].as_str().expect("an id");
    assert_eq!(id.len(), 36);
    id.to_owned()
}

pub(crate) fn stop(client: &Client, name: &str) {
    reserve(client, name, 0);
}

pub(crate) fn reserve(client: &Client, name: &str, mb: u32) {
    let request = json!({"FunctionName": name, "ReservedConcurrencyMem": mb});
    client.ok("PutReservedConcurrencyConfig", &request);
}

pub(crate) fn go_on(client: &Client, name: &str) {
    let request = json!({"FunctionName": name});
    client.ok("DeleteReservedConcurrencyConfig", &request);
}

/// Requests that ended with this status.
pub(crate) fn ended(client: &Client, status: u16) -> f64 {
    let line = format!("virga_invocations_total{{status=\"{status}\"}}");
    client.metric(&line).unwrap_or(0.0)
}

/// Counters change a moment after their effect is visible.
pub(crate) fn comes_to(client: &Client, metric: &str, value: f64) {
    eventually(&format!("{metric} is {value}"), || {
        client.metric(metric) == Some(value)
    });
}

pub(crate) fn all_have_ended(client: &Client) {
    eventually("no event waits or runs", || client.queued() == Some(0.0));
}

/// A server whose waits between attempts are short.
pub(crate) fn quick(more: &[&str]) -> Server {
    let mut flags = vec![
        "--event-retry-ms",
        "50",
        "--event-throttled-ms",
        "100",
        "--event-backoff-ms",
        "20",
        "--wait",
        "1",
    ];
    flags.extend(more);
    Server::flags(VIRGA, &flags)
}

#[test]
fn an_event_is_answered_with_its_id_alone_and_runs() {
    let server = server();
    let client = server.client();
    client.create("fun", REMEMBERS, json!({}));
    let request = json!({"FunctionName": "fun", "InvocationType": "Event", "ClientContext": "{\"n\": 1}", "LogType": "Tail"});
    let result = client.ok("Invoke", &request)["Result"].take();
    assert_eq!(
        (&result["Log"], &result["RetMsg"]),
        (&json!(""), &json!(""))
    );
    let id = result["FunctionRequestId"].as_str().expect("an id");
    eventually("it has run", || {
        let request = json!({"FunctionName": "fun", "FunctionRequestId": id});
        let logs = client.ok("GetFunctionLogs", &request);
        logs["Data"][0]["Log"]
            .as_str()
            .unwrap_or_default()
            .contains("got 1")
    });
    eventually("nothing is left", || client.queued() == Some(0.0));
    comes_to(&client, "virga_events_accepted_total", 1.0);
    comes_to(&client, "virga_events_delivered_total", 1.0);
}

#[test]
fn unacceptable_event_is_refused_at_once() {
    let server = server();
    let client = server.client();
    client.create("fun", REMEMBERS, json!({}));
    let code = |name: &str, event: String, more: Value| {
        let mut request =
            json!({"FunctionName": name, "InvocationType": "Event", "ClientContext": event});
        if let (Value::Object(request), Value::Object(more)) = (&mut request, more) {
            request.extend(more);
        }
        client.code("Invoke", &request)
    };
    let event = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    assert_eq!(code("fun", event(128 << 10), json!({})), "");
    assert_eq!(
        code("fun", event((128 << 10) + 1), json!({})),
        "InvalidParameter.RequestTooLarge"
    );
    assert_eq!(
        code("fun", "{".into(), json!({})),
        "InvalidParameterValue.ClientContext"
    );
    assert_eq!(
        code("none", "{}".into(), json!({})),
        "ResourceNotFound.Function"
    );
    assert_eq!(
        code("fun", "{}".into(), json!({"Namespace": "none"})),
        "ResourceNotFound.Namespace"
    );
    assert_eq!(
        code("fun", "{}".into(), json!({"Qualifier": "7"})),
        "ResourceNotFound.Qualifier"
    );
}

#[test]
fn function_queue_keeps_its_order_with_one_instance() {
    let server = server();
    let client = server.client();
    client.create("fun", REMEMBERS, json!({"MemorySize": 128}));
    reserve(&client, "fun", 128);
    for n in 0..100 {
        send(&client, "fun", &json!({ "n": n }));
    }
    eventually("all have run", || ended(&client, 200) >= 100.0);
    let got = client.answer("fun", &json!({}));
    assert_eq!(got, json!((0..100).collect::<Vec<_>>()));
}

#[test]
fn failing_event_is_retried_twice_and_delays_no_other_function() {
    let server = quick(&[]);
    server.expect("an event failed permanently");
    let client = server.client();
    client.create("fails", FAILS, json!({}));
    client.create("works", REMEMBERS, json!({}));
    for n in 0..20 {
        send(&client, "fails", &json!({}));
        send(&client, "works", &json!({ "n": n }));
    }
    eventually("all that can has run", || ended(&client, 200) == 20.0);
    eventually("the others have failed permanently", || {
        ended(&client, 430) == 60.0
    });
    eventually("nothing is left", || client.queued() == Some(0.0));
    comes_to(&client, "virga_events_retried_total", 40.0);
    comes_to(&client, "virga_events_failed_total", 20.0);
}

#[test]
fn throttled_function_keeps_its_events_through_a_kill_and_delays_no_other() {
    let mut server = quick(&[]);
    let client = server.client();
    client.create("stopped", REMEMBERS, json!({"MemorySize": 128}));
    client.create("works", REMEMBERS, json!({}));
    stop(&client, "stopped");
    for n in 0..300 {
        send(&client, "stopped", &json!({ "n": n }));
    }
    for n in 0..20 {
        send(&client, "works", &json!({ "n": n }));
    }
    eventually("the other's have run", || ended(&client, 200) == 20.0);
    eventually("and that is recorded", || {
        client.metric("virga_events_waiting") == Some(300.0)
    });
    server.kill();
    server.restart();
    let client = server.client();
    assert_eq!(client.metric("virga_events_waiting"), Some(300.0));
    reserve(&client, "stopped", 128);
    eventually("they have run", || ended(&client, 200) == 300.0);
    let got = client.answer("stopped", &json!({}));
    assert_eq!(got, json!((0..300).collect::<Vec<_>>()));
}

#[test]
fn metrics_count_waiting_and_running_events_separately() {
    let server = server();
    server.expect("some requests did not complete within the drain timeout");
    server.expect("failed to record the completion of some events in time");
    let client = server.client();
    let source = "import time\ndef main_handler(event, context):\n    time.sleep(600)\n";
    client.create("fun", source, json!({"MemorySize": 128, "Timeout": 900}));
    reserve(&client, "fun", 256);
    for _ in 0..5 {
        send(&client, "fun", &json!({}));
    }
    comes_to(&client, "virga_events_running", 2.0);
    comes_to(&client, "virga_events_waiting", 3.0);
    assert_eq!(client.queued(), Some(5.0));
}

#[test]
fn sigterm_drains_running_events_and_requeues_the_others() {
    let mut server = quick(&[]);
    let client = server.client();
    let source = "import time\ndef main_handler(event, context):\n    time.sleep(event['s'])\n";
    client.create("fun", source, json!({"MemorySize": 128, "Timeout": 30}));
    reserve(&client, "fun", 128);
    for s in [5, 0, 0, 0] {
        send(&client, "fun", &json!({ "s": s }));
    }
    let busy = || client.metric("virga_instances{state=\"busy\"}") == Some(1.0);
    eventually("the first runs", busy);
    assert!(server.terminate().success());
    server.restart();
    let client = server.client();
    eventually("the others have run", || ended(&client, 200) == 3.0);
    all_have_ended(&client);
}

#[test]
fn events_over_the_store_budget_are_refused_and_none_is_dropped() {
    let server = quick(&["--event-store-mb", "2"]);
    let client = server.client();
    client.create("fun", REMEMBERS, json!({}));
    stop(&client, "fun");
    let event = json!({"n": 1, "more": "x".repeat(100_000)}).to_string();
    let request = json!({"FunctionName": "fun", "InvocationType": "Event", "ClientContext": event});
    let mut accepted = 0;
    let refused = loop {
        match client.call("Invoke", &request) {
            Ok(_) => accepted += 1,
            Err(refused) => break refused,
        }
        assert!(accepted < 30, "it is never full");
    };
    assert_eq!(refused.code, "RequestLimitExceeded");
    assert!(refused.message.contains("event_store_mb"), "{refused:?}");
    // An account may hold as much as it leaves free: half of the store, where it is alone.
    assert_eq!(accepted, 10);
    go_on(&client, "fun");
    eventually("all have run", || {
        ended(&client, 200) == f64::from(accepted)
    });
    send(&client, "fun", &json!({"n": 2}));
}

#[test]
fn event_of_a_deleted_function_fails_permanently_at_once() {
    let server = Server::with(
        VIRGA,
        Options {
            flags: ["--event-throttled-ms", "50"].map(String::from).to_vec(),
            ..Options::default()
        },
    );
    server.expect("an event failed permanently");
    let client = server.client();
    client.create("fun", REMEMBERS, json!({}));
    stop(&client, "fun");
    send(&client, "fun", &json!({"n": 1}));
    client.ok("DeleteFunction", &json!({"FunctionName": "fun"}));
    eventually("it has failed permanently", || {
        client.metric("virga_events_failed_total") == Some(1.0)
    });
    assert_eq!(client.queued(), Some(0.0));
}
