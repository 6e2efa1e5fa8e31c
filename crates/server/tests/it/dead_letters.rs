//! Events that failed permanently: their delivery to a dead-letter target, and their replay.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use serde_json::{Value, json};
use testkit::{Client, Server, eventually, package};

use crate::events::{FAILS, REMEMBERS, comes_to, ended, go_on, quick, send, stop};

/// Remembers whole events.
const KEEPS: &str = r#"
got = []
def main_handler(event, context):
    if "RequestId" in event:
        got.append(event)
    return got
"#;

fn no_retries(client: &Client, name: &str) {
    let config = json!({"RetryConfig": [{"RetryNum": 0}]});
    let request = json!({"FunctionName": name, "AsyncTriggerConfig": config});
    client.ok("UpdateFunctionEventInvokeConfig", &request);
}

/// An endpoint that answers each dead letter with the next status, and passes on the accepted ones.
fn endpoint() -> (String, Receiver<Value>, Sender<u16>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!(
        "http://{}/dead-letters",
        listener.local_addr().expect("an address")
    );
    let (sent, dead_letters) = channel();
    let (status_sender, statuses) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut reader = BufReader::new(stream.try_clone().expect("a reader"));
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                let lower = line.to_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
                line.clear();
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_err() {
                continue; // Its sender was killed.
            }
            let status = statuses.recv().unwrap_or(200);
            let answer =
                format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
            if status == 200 {
                let dead_letter = serde_json::from_slice(&body).expect("JSON");
                if sent.send(dead_letter).is_err() {
                    return;
                }
            }
        }
    });
    (url, dead_letters, status_sender)
}

#[test]
fn dead_letter_is_delivered_to_a_function() {
    let server = quick(&[]);
    server.expect("an event failed permanently");
    let client = server.client();
    client.create("last", KEEPS, json!({}));
    let target = json!({"Type": "function", "Name": "last"});
    client.create("fails", FAILS, json!({"DeadLetterConfig": target}));
    let shown = client.ok("GetFunction", &json!({"FunctionName": "fails"}));
    assert_eq!(shown["DeadLetterConfig"]["Name"], "last");
    let id = send(&client, "fails", &json!({"a": "\u{4f60}"}));
    eventually("the dead letter is delivered", || {
        ended(&client, 200) >= 1.0
    });
    let got = client.answer("last", &json!({}));
    let dead_letter = &got[0];
    assert_eq!(
        (&dead_letter["RequestId"], &dead_letter["ErrorCode"]),
        (&json!(id), &json!(-1))
    );
    let message = dead_letter["ErrorMessage"].as_str().expect("text");
    assert!(
        message.starts_with("Traceback") && message.contains("ValueError: on purpose"),
        "{message}"
    );
    let body = &dead_letter["Body"];
    let context: Value =
        serde_json::from_str(body["ClientContext"].as_str().expect("text")).expect("JSON");
    assert_eq!(context, json!({"a": "\u{4f60}"}));
    let expected = json!({"FunctionName": "fails", "Namespace": "default", "RequestId": id, "RetryNum": 2, "InvocationType": "RequestResponse", "LogType": "",
        "RequestSource": "API", "Qualifier": "$DEFAULT", "Ttl": 0, "AppId": 1_250_000_000});
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&body[name], value, "{name}");
    }
    let invoked = body["TimeStampForInvoker"].as_str().expect("text");
    assert!(
        invoked.len() == 13 && invoked.bytes().all(|digit| digit.is_ascii_digit()),
        "{invoked}"
    );
    let pushed = body["PushTime"].as_str().expect("text");
    assert!(
        pushed.len() == "2020-10-10T09:22:00.061824591+08:00".len() && pushed.ends_with("+08:00"),
        "{pushed}"
    );
    comes_to(&client, "virga_events_dead_lettered_total", 1.0);
}

#[test]
fn dead_letter_waits_for_its_endpoint_through_a_kill() {
    let (url, dead_letters, status_sender) = endpoint();
    let named = url.trim_end_matches("/dead-letters");
    let mut server = quick(&["--dead-letter-endpoints", named]);
    server.expect("an event failed permanently");
    server.expect("failed to deliver dead letters");
    let client = server.client();
    let target = json!({"Type": "queue", "Name": url});
    // Nothing else of the host's can be reached.
    let other = json!({"FunctionName": "fails", "DeadLetterConfig": {"Type": "queue", "Name": "http://169.254.169.254/"}});
    client.create("fails", FAILS, json!({"DeadLetterConfig": target}));
    let refused = client.call("UpdateFunctionConfiguration", &other);
    let refused = refused.expect_err("it was not named");
    assert!(
        refused.message.contains("dead_letter_endpoints"),
        "{refused:?}"
    );
    no_retries(&client, "fails");
    status_sender.send(503).expect("sent");
    let id = send(&client, "fails", &json!({"n": 1}));
    eventually("it has failed permanently", || {
        client.metric("virga_events_failed_total") == Some(1.0)
    });
    let listed = client.ok("ListAsyncEvents", &json!({"FunctionName": "fails"}));
    assert_eq!(listed["EventList"][0]["Status"], "FAILED");
    server.kill();
    server.restart();
    for _ in 0..3 {
        status_sender.send(200).expect("sent");
    }
    let dead_letter = dead_letters.recv().expect("a dead letter");
    assert_eq!(dead_letter["RequestId"], id);
    let client = server.client();
    eventually("nothing is left", || client.queued() == Some(0.0));
}

#[test]
fn invalid_dead_letter_targets_are_refused() {
    let server = quick(&[]);
    let client = server.client();
    client.create("fun", REMEMBERS, json!({}));
    for (kind, name) in [
        ("queue", "dead-letters"),
        ("function", "-"),
        ("cmq", "x"),
        ("", "x"),
    ] {
        let target = json!({"Type": kind, "Name": name});
        let request = json!({"FunctionName": "fun", "DeadLetterConfig": target});
        assert_eq!(
            client.code("UpdateFunctionConfiguration", &request),
            "InvalidParameterValue.DeadLetterConfig",
            "{kind} {name}"
        );
    }
    let none = json!({"FunctionName": "fun", "DeadLetterConfig": {"Type": "", "Name": "", "FilterType": ""}});
    client.ok("UpdateFunctionConfiguration", &none);
}

fn command(server: &Server, arguments: &[&str]) -> Value {
    let mut all = vec!["events"];
    all.extend(arguments);
    all.push("--json");
    let output = server.cli(&all);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn command_line_lists_shows_replays_and_purges_events() {
    let server = quick(&[]);
    server.expect("an event failed permanently");
    let client = server.client();
    client.create("fun", FAILS, json!({}));
    no_retries(&client, "fun");
    let ids: Vec<_> = (0..3)
        .map(|n| send(&client, "fun", &json!({ "n": n })))
        .collect();
    eventually("they have failed permanently", || {
        client.metric("virga_events_failed_total") == Some(3.0)
    });
    let dead = command(&server, &["list", "--state", "dead"]);
    assert_eq!(dead.as_array().expect("a list").len(), 3);
    let shown = command(&server, &["show", &ids[1]]);
    assert_eq!(
        (&shown["State"], &shown["Event"], &shown["StatusCode"]),
        (&json!("dead"), &json!("{\"n\":1}"), &json!(430))
    );
    // A dead event can run after the function was fixed.
    let code = package(&[("index.py", REMEMBERS)]);
    client.ok(
        "UpdateFunctionCode",
        &json!({"FunctionName": "fun", "ZipFile": code}),
    );
    assert_eq!(command(&server, &["replay", &ids[1]])["Count"], 1);
    eventually("it has run", || ended(&client, 200) == 1.0);
    assert_eq!(client.answer("fun", &json!({})), json!([1]));
    assert_eq!(command(&server, &["purge", &ids[0]])["Count"], 1);
    assert_eq!(
        command(&server, &["replay", "--function", "fun"])["Count"],
        1
    );
    eventually("it has run, too", || ended(&client, 200) == 3.0);
    eventually("and that is recorded", || {
        command(&server, &["list"]) == json!([])
    });
    // Waiting events are removed when the state is named.
    stop(&client, "fun");
    for n in 10..15 {
        send(&client, "fun", &json!({ "n": n }));
    }
    assert_eq!(command(&server, &["purge", "--all"])["Count"], 0);
    let purged = command(&server, &["purge", "--all", "--state", "waiting"]);
    assert_eq!(purged["Count"], 5);
    go_on(&client, "fun");
    client.answer("fun", &json!({}));
    assert_eq!(client.queued(), Some(0.0));
    assert_eq!(ended(&client, 200), 4.0, "none of them has run");
    let wrong = server.cli(&["events", "purge"]);
    assert_eq!(wrong.status.code(), Some(2));
    let unknown = server.cli(&["events", "show", &"0".repeat(36)]);
    assert_eq!(unknown.status.code(), Some(3));
}

#[test]
fn replay_ends_though_its_events_fail_again_at_once() {
    const EVENTS: u64 = 60;
    let server = quick(&[]);
    server.expect("an event failed permanently");
    let client = server.client();
    client.create("fun", FAILS, json!({}));
    no_retries(&client, "fun");
    for n in 0..EVENTS {
        send(&client, "fun", &json!({ "n": n }));
    }
    let failed = |count: u64| {
        eventually("they have failed permanently", || {
            client.metric("virga_events_failed_total") == Some(count as f64)
        });
    };
    failed(EVENTS);
    let replayed = command(&server, &["replay", "--function", "fun"]);
    assert_eq!(replayed["Count"], EVENTS);
    failed(2 * EVENTS);
}
