//! Events from external storage: its notifications to `/events/s3` run functions as changes of virga's own buckets do.

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Client, HttpResponse, Server, eventually, package};

use crate::events::{all_have_ended, comes_to, go_on, stop};
use crate::{VIRGA, server};

const TOKEN: &str = "a-token-of-the-minio-there";
const ECHO: &str = "def main_handler(event, context):\n    return event\n";

/// A server with one event source, and the directory of its configuration file.
fn accepting_notifications(flags: &[&str]) -> (Server, TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sources.toml");
    let text = format!("[minio]\ntoken = '{TOKEN}'\n[minio.buckets]\n'Photos.2024' = 'photos'\n");
    std::fs::write(&path, text).expect("written");
    let path = path.to_str().expect("a path");
    let flags: Vec<_> = ["--event-sources", path]
        .iter()
        .chain(flags)
        .copied()
        .collect();
    (Server::flags(VIRGA, &flags), directory)
}

fn trigger(client: &Client, function: &str, event: &str, prefix: &str, suffix: &str) -> Value {
    let desc = json!({"event": event, "filter": {"Prefix": prefix, "Suffix": suffix}}).to_string();
    let request = json!({"FunctionName": function, "Type": "cos", "TriggerDesc": desc,
        "TriggerName": "photos-1250000000.cos.ap-guangzhou.myqcloud.com"});
    client.ok("CreateTrigger", &request);
    request
}

/// A record as MinIO sends it, of the `number`th change.
fn record(event: &str, bucket: &str, key: &str, number: u32) -> Value {
    json!({"eventVersion": "2.0", "eventSource": "minio:s3", "eventTime": jiff::Timestamp::now().to_string(),
        "eventName": event, "userIdentity": {"principalId": "minio"},
        "requestParameters": {"sourceIPAddress": "172.18.0.1"},
        "responseElements": {"x-amz-request-id": format!("R{number}")},
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, "size": 11, "eTag": "e", "contentType": "image/jpeg",
            "sequencer": format!("{number:016X}")}}})
}

fn notify(client: &Client, token: &str, body: &[u8]) -> HttpResponse {
    let token = format!("Bearer {token}");
    let headers = [
        ("Authorization", token.as_str()),
        ("Content-Type", "application/json"),
    ];
    client.send("POST", "/events/s3", &headers, body)
}

/// Sends records; returns the numbers of accepted and ignored ones.
fn taken(client: &Client, records: &[Value]) -> (u64, u64) {
    let body =
        json!({"EventName": "s3:ObjectCreated:Put", "Key": "k", "Records": records}).to_string();
    let answer = notify(client, TOKEN, body.as_bytes());
    assert_eq!(
        answer.status,
        200,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    let count = |name: &str| answer.json()[name].as_u64().expect("a number");
    (count("accepted"), count("ignored"))
}

/// What a function got, once that is so many events, by their names and keys.
fn got(client: &Client, function: &str, count: usize) -> Vec<Value> {
    let mut events = Vec::new();
    eventually("its events have run", || {
        let logs = client.ok(
            "GetFunctionLogs",
            &json!({"FunctionName": function, "Limit": 1000}),
        );
        let all = logs["Data"].as_array().expect("a list");
        events = all
            .iter()
            // An attempt for which there was no instance has a log, too.
            .filter(|log| log["RetCode"] == 0)
            .map(|log| serde_json::from_str(log["RetMsg"].as_str().expect("text")).expect("JSON"))
            .collect::<Vec<Value>>();
        events.len() >= count
    });
    events.sort_by_key(|event| {
        let record = &event["Records"][0];
        (
            record["event"]["eventName"].to_string(),
            record["cos"]["cosObject"]["key"].to_string(),
        )
    });
    events
}

#[test]
fn notification_of_external_storage_runs_the_triggered_function() {
    let (server, _directory) = accepting_notifications(&[]);
    let client = server.client();
    client.create("made", ECHO, json!({}));
    client.create("gone", ECHO, json!({}));
    trigger(&client, "made", "cos:ObjectCreated:*", "in/", ".jpg");
    trigger(&client, "gone", "cos:ObjectRemove:Delete", "", "");
    let records = [
        record(
            "s3:ObjectCreated:Put",
            "Photos.2024",
            "in%2Fa+%C3%BC.jpg",
            1,
        ),
        record(
            "s3:ObjectCreated:CompleteMultipartUpload",
            "photos",
            "in%2Fb.jpg",
            2,
        ),
        record("s3:ObjectRemoved:Delete", "photos", "c", 3),
        // Nobody waits for these.
        record("s3:ObjectCreated:Put", "photos", "out%2Fa.jpg", 4),
        record("s3:ObjectCreated:Put", "papers", "in%2Fa.jpg", 5),
        record("s3:ObjectRemoved:DeleteMarkerCreated", "photos", "c", 6),
        record("s3:ObjectAccessed:Get", "photos", "in%2Fa.jpg", 7),
    ];
    assert_eq!(taken(&client, &records), (3, 4));
    let made = got(&client, "made", 2);
    assert_eq!(made.len(), 2, "{made:?}");
    let (first, second) = (&made[0]["Records"][0], &made[1]["Records"][0]);
    assert_eq!(
        first["event"]["eventName"],
        "cos:ObjectCreated:CompleteMultipartUpload"
    );
    let mut event = second["event"].clone();
    let time = event["eventTime"].take().as_i64().expect("seconds");
    assert!(
        (jiff::Timestamp::now().as_second() - time).abs() < 120,
        "{time}"
    );
    assert!(event["reqid"].take().is_u64());
    assert_eq!(
        event,
        json!({"eventName": "cos:ObjectCreated:Put", "eventVersion": "1.0", "eventTime": null, "eventSource": "qcs::cos",
            "requestParameters": {"requestSourceIP": "172.18.0.1",
                "requestHeaders": {"Authorization": "q-sign-algorithm=sha1&q-ak=minio"}},
            "eventQueue": "qcs:0:lambda:gz:appid/1250000000:default.made.$LATEST", "reservedInfo": "", "reqid": null})
    );
    assert_eq!(
        second["cos"],
        json!({"cosSchemaVersion": "1.0", "cosNotificationId": "unkown",
            "cosBucket": {"region": "gz", "name": "photos", "appid": "1250000000"},
            "cosObject": {"url": "http://photos-1250000000.cos.ap-guangzhou.myqcloud.com/in/a%20%C3%BC.jpg", "vid": "", "size": 11,
                "key": "/1250000000/photos/in/a ü.jpg",
                "meta": {"Content-Type": "image/jpeg", "x-cos-request-id": "R1"}}})
    );
    assert_eq!(got(&client, "gone", 1).len(), 1);
    let listed = client.ok(
        "ListAsyncEvents",
        &json!({"FunctionName": "gone", "InvokeType": ["COS"]}),
    );
    assert_eq!(listed["TotalCount"], 1, "{listed}");
}

#[test]
fn duplicate_notification_runs_once_and_disabled_trigger_not_at_all() {
    let (server, _directory) = accepting_notifications(&[]);
    let client = server.client();
    client.create("fn", ECHO, json!({}));
    let mut trigger = trigger(&client, "fn", "cos:ObjectCreated:Put", "", "");
    let first = record("s3:ObjectCreated:Put", "photos", "a", 1);
    for _ in 0..3 {
        assert_eq!(taken(&client, std::slice::from_ref(&first)), (1, 0));
    }
    trigger["Enable"] = "CLOSE".into();
    client.ok("UpdateTriggerStatus", &trigger);
    assert_eq!(
        taken(&client, &[record("s3:ObjectCreated:Put", "photos", "b", 2)]),
        (0, 1)
    );
    trigger["Enable"] = "OPEN".into();
    client.ok("UpdateTriggerStatus", &trigger);
    assert_eq!(
        taken(&client, &[record("s3:ObjectCreated:Put", "photos", "c", 3)]),
        (1, 0)
    );
    comes_to(&client, "virga_events_delivered_total", 2.0);
    let keys: Vec<_> = got(&client, "fn", 2)
        .iter()
        .map(|event| event["Records"][0]["cos"]["cosObject"]["key"].clone())
        .collect();
    assert_eq!(keys, ["/1250000000/photos/a", "/1250000000/photos/c"]);
}

#[test]
fn accepted_notification_runs_once_through_a_kill() {
    let (mut server, _directory) =
        accepting_notifications(&["--event-throttled-ms", "100", "--wait", "1"]);
    let client = server.client();
    client.create("fn", ECHO, json!({}));
    trigger(&client, "fn", "cos:ObjectCreated:*", "", "");
    stop(&client, "fn");
    let record = record("s3:ObjectCreated:Put", "photos", "a", 1);
    assert_eq!(taken(&client, std::slice::from_ref(&record)), (1, 0));
    server.kill();
    server.restart();
    let client = server.client();
    // Its answer may not have arrived.
    assert_eq!(taken(&client, std::slice::from_ref(&record)), (1, 0));
    go_on(&client, "fn");
    assert_eq!(got(&client, "fn", 1).len(), 1);
    comes_to(&client, "virga_events_delivered_total", 1.0);
    all_have_ended(&client);
}

#[test]
fn external_storage_is_asked_to_retry_while_the_queue_is_full() {
    let (server, _directory) = accepting_notifications(&["--event-store-mb", "1"]);
    server.expect("failed to enqueue events of a storage notification");
    let client = server.client();
    client.create("fn", ECHO, json!({}));
    trigger(&client, "fn", "cos:ObjectCreated:*", "", "");
    stop(&client, "fn");
    let large = json!("x".repeat(100_000)).to_string();
    let mut number = 0;
    let invoke = json!({"FunctionName": "fn", "InvocationType": "Event", "ClientContext": large});
    while client.code("Invoke", &invoke).is_empty() {
        number += 1;
        assert!(number < 20, "the queue is never full");
    }
    // The last gap is filled, too.
    let small = json!({"FunctionName": "fn", "InvocationType": "Event", "ClientContext": json!("x".repeat(500)).to_string()});
    while client.code("Invoke", &small).is_empty() {}
    let record = record("s3:ObjectCreated:Put", "photos", "a", 1);
    let body = json!({"Records": [record]}).to_string();
    let answer = notify(&client, TOKEN, body.as_bytes());
    assert_eq!(answer.status, 503);
    assert!(String::from_utf8_lossy(&answer.body).contains("event_store_mb"));
    server.cli(&["events", "purge", "--state", "waiting", "--function", "fn"]);
    assert_eq!(taken(&client, &[record]), (1, 0));
}

#[test]
fn notification_without_a_token_is_refused() {
    let (server, _directory) = accepting_notifications(&[]);
    server.expect("failed to parse a storage notification");
    let client = server.client();
    let (body, without) = (br#"{"Records": []}"#, &[][..]);
    let status = |headers: &[(&str, &str)]| client.send("POST", "/events/s3", headers, body).status;
    assert_eq!(status(without), 401);
    for wrong in [
        "Bearer ",
        "Bearer a-token-of-the-minio-therE",
        "Basic eDp5",
        "Digest x",
    ] {
        assert_eq!(status(&[("Authorization", wrong)]), 401, "{wrong}");
    }
    let right = format!("Bearer {TOKEN}");
    let basic = format!(
        "Basic {}",
        testkit::base64(format!("any:{TOKEN}").as_bytes())
    );
    for right in [right.as_str(), basic.as_str(), TOKEN] {
        assert_eq!(status(&[("Authorization", right)]), 200);
    }
    assert_eq!(client.get("/events/s3").status, 405);
    let refused = |body: &[u8]| notify(&client, TOKEN, body).status;
    assert_eq!(
        (refused(b"{"), refused(b"{}"), refused(&vec![b' '; 9 << 20])),
        (400, 400, 413)
    );
    // External storage may check the endpoint.
    assert_eq!(
        refused(br#"{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}"#),
        200
    );
    assert!(!server.log().contains(TOKEN));
}

#[test]
fn notifications_without_configured_sources_are_refused_with_advice() {
    let server = server();
    let client = server.client();
    let answer = notify(&client, TOKEN, b"{}");
    assert_eq!(answer.status, 404);
    assert!(String::from_utf8_lossy(&answer.body).contains("--event-sources"));
}

#[test]
fn event_waits_until_its_function_is_active() {
    let (server, _directory) =
        accepting_notifications(&["--event-backoff-ms", "20", "--event-backoff-max-ms", "50"]);
    let client = server.client();
    let broken = [("index.py", ECHO), ("requirements.txt", "=broken=")];
    let code = json!({"ZipFile": package(&broken)});
    let request = json!({"FunctionName": "fn", "Runtime": "Python3.6", "Code": code, "InstallDependency": "TRUE"});
    client.ok("CreateFunction", &request);
    assert_eq!(client.wait_until_ready("fn")["Status"], "CreateFailed");
    trigger(&client, "fn", "cos:ObjectCreated:*", "", "");
    let invoke = json!({"FunctionName": "fn", "InvocationType": "Event"});
    assert_ne!(
        client.code("Invoke", &invoke),
        "",
        "a call returns the error"
    );
    let record = record("s3:ObjectCreated:Put", "photos", "a", 1);
    assert_eq!(taken(&client, &[record]), (1, 0));
    comes_to(&client, "virga_events_waiting", 1.0);
    let whole = package(&[("index.py", ECHO)]);
    client.ok(
        "UpdateFunctionCode",
        &json!({"FunctionName": "fn", "ZipFile": whole}),
    );
    assert_eq!(got(&client, "fn", 1).len(), 1);
}
