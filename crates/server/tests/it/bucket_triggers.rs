//! Changes of objects in virga's own buckets run functions: exactly the triggered ones, also through kills.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Client, Objects, Server, eventually};

use crate::events::{all_have_ended, comes_to, go_on, stop};
use crate::{VIRGA, server};

const BUCKET: &str = "/photos-1250000000";
const ECHO: &str = "def main_handler(event, context):\n    return event\n";

fn trigger(client: &Client, function: &str, event: &str, prefix: &str, suffix: &str) -> Value {
    let desc = json!({"event": event, "filter": {"Prefix": prefix, "Suffix": suffix}}).to_string();
    let request = json!({"FunctionName": function, "Type": "cos", "TriggerDesc": desc,
        "TriggerName": "photos-1250000000.cos.ap-guangzhou.myqcloud.com"});
    client.ok("CreateTrigger", &request);
    request
}

fn path(key: &str) -> String {
    format!("{BUCKET}/{key}")
}

/// What runs of a function that succeeded got, and by which request ids, once they are so many.
fn runs(client: &Client, function: &str, count: usize) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    eventually("its events have run", || {
        found.clear();
        for offset in (0..).step_by(1000) {
            let page = json!({"FunctionName": function, "Limit": 1000, "Offset": offset});
            let logs = client.ok("GetFunctionLogs", &page)["Data"].take();
            let logs = logs.as_array().expect("a list");
            let text = |log: &Value, name: &str| log[name].as_str().expect("text").to_owned();
            let ran = logs.iter().filter(|log| log["RetCode"] == 0).map(|log| {
                let event = serde_json::from_str(&text(log, "RetMsg")).expect("JSON");
                (text(log, "RequestId"), event)
            });
            found.extend(ran);
            if logs.len() < 1000 {
                break;
            }
        }
        found.len() >= count
    });
    found
}

/// The names and keys of the events that a function got, in their order.
fn notified(client: &Client, function: &str, count: usize) -> Vec<(String, String)> {
    let mut runs = runs(client, function, count);
    runs.sort_by(|one, other| one.0.cmp(&other.0));
    runs.iter()
        .map(|(_, event)| {
            let name = &event["Records"][0]["event"]["eventName"];
            (name.as_str().expect("a name").to_owned(), key(event))
        })
        .collect()
}

/// The key that an event is of.
fn key(event: &Value) -> String {
    let key = &event["Records"][0]["cos"]["cosObject"]["key"];
    let key = key.as_str().expect("a key");
    let key = key.strip_prefix("/1250000000/photos/");
    key.expect("its place").to_owned()
}

fn part<'a>(text: &'a str, name: &str) -> &'a str {
    let rest = text.split_once(&format!("<{name}>")).expect("a part").1;
    rest.split_once('<').expect("its end").0
}

/// Uploads an object in two parts.
fn upload(objects: &Objects, key: &str) {
    let begun = objects.ok("POST", &path(&format!("{key}?uploads")), &[], b"");
    let upload = part(&begun, "UploadId");
    for number in [1, 2] {
        let to = path(&format!("{key}?partNumber={number}&uploadId={upload}"));
        objects.ok("PUT", &to, &[], &vec![b'z'; 1 << 20]);
    }
    let whole = path(&format!("{key}?uploadId={upload}"));
    let listed = objects.ok("GET", &whole, &[], b"");
    let parts: String = listed
        .split("<Part>")
        .skip(1)
        .map(|one| {
            let (number, etag) = (part(one, "PartNumber"), part(one, "ETag"));
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
        })
        .collect();
    let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    objects.ok("POST", &whole, &[], body.as_bytes());
}

#[test]
fn each_change_is_one_event_with_scf_s_document() {
    let server = server();
    let (client, objects) = (server.client(), server.objects());
    for (name, event) in [
        ("made", "cos:ObjectCreated:*"),
        ("gone", "cos:ObjectRemove:*"),
        ("back", "cos:ObjectRestore:*"),
    ] {
        client.create(name, ECHO, json!({}));
        trigger(&client, name, event, "", "");
    }
    // A bucket may come after its triggers.
    objects.ok("PUT", BUCKET, &[], b"");
    let jpeg = [("Content-Type", "image/jpeg")];
    objects.ok("PUT", &path("in/a.jpg"), &jpeg, b"0123456789");
    let source = "photos-1250000000.cos.ap-guangzhou.myqcloud.com/in/a.jpg";
    objects.ok("PUT", &path("copy"), &[("x-cos-copy-source", source)], b"");
    upload(&objects, "parts");
    objects.ok("DELETE", &path("copy"), &[], b"");
    // Deleting a missing object is no change.
    objects.ok("DELETE", &path("nothing"), &[], b"");
    let archived = [("x-cos-storage-class", "ARCHIVE")];
    objects.ok("PUT", &path("old"), &archived, b"x");
    let restore = b"<RestoreRequest><Days>1</Days></RestoreRequest>";
    objects.ok("POST", &path("old?restore"), &[], restore);
    let versioning = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    objects.ok("PUT", &format!("{BUCKET}?versioning"), &[], versioning);
    objects.ok("PUT", &path("kept"), &[], b"1");
    objects.ok("DELETE", &path("kept"), &[], b"");

    let row = |name: &str, key: &str| (format!("cos:Object{name}"), key.to_owned());
    assert_eq!(
        notified(&client, "made", 5),
        [
            row("Created:Put", "in/a.jpg"),
            row("Created:Copy", "copy"),
            row("Created:CompleteMultipartUpload", "parts"),
            row("Created:Put", "old"),
            row("Created:Put", "kept"),
        ]
    );
    assert_eq!(
        notified(&client, "gone", 2),
        [
            row("Remove:Delete", "copy"),
            row("Remove:DeleteMarkerCreated", "kept")
        ]
    );
    assert_eq!(
        notified(&client, "back", 2),
        [row("Restore:Post", "old"), row("Restore:Completed", "old")]
    );

    let made = runs(&client, "made", 5);
    let first = made.iter().find(|(_, event)| key(event) == "in/a.jpg");
    let mut record = first.expect("the first").1["Records"][0].clone();
    let time = record["event"]["eventTime"].take();
    let time = time.as_i64().expect("seconds");
    assert!((jiff::Timestamp::now().as_second() - time).abs() < 120);
    assert!(record["event"]["reqid"].take().is_u64());
    let request = record["cos"]["cosObject"]["meta"]["x-cos-request-id"].take();
    assert!(request.as_str().is_some_and(|id| !id.is_empty()));
    assert_eq!(
        record,
        json!({
            "cos": {"cosSchemaVersion": "1.0", "cosNotificationId": "unkown",
                "cosBucket": {"region": "gz", "name": "photos", "appid": "1250000000"},
                "cosObject": {"url": "http://photos-1250000000.cos.ap-guangzhou.myqcloud.com/in/a.jpg", "vid": "", "size": 10,
                    "key": "/1250000000/photos/in/a.jpg", "meta": {"Content-Type": "image/jpeg", "x-cos-request-id": null}}},
            "event": {"eventName": "cos:ObjectCreated:Put", "eventVersion": "1.0", "eventTime": null, "eventSource": "qcs::cos",
                "requestParameters": {"requestSourceIP": "127.0.0.1",
                    "requestHeaders": {"Authorization": format!("q-sign-algorithm=sha1&q-ak={}", client.id)}},
                "eventQueue": "qcs:0:lambda:gz:appid/1250000000:default.made.$LATEST", "reservedInfo": "", "reqid": null},
        })
    );
    let of_buckets = json!({"FunctionName": "made", "InvokeType": ["COS"]});
    let listed = client.ok("ListAsyncEvents", &of_buckets);
    assert_eq!(listed["TotalCount"], 5, "{listed}");
}

#[test]
fn filters_and_disabled_triggers_apply_from_the_response_on() {
    let server = server();
    let (client, objects) = (server.client(), server.objects());
    client.create("fn", ECHO, json!({}));
    objects.ok("PUT", BUCKET, &[], b"");
    let put = |key: &str| objects.ok("PUT", &path(key), &[], b"x");
    put("in/before.jpg");
    let mut trigger = trigger(&client, "fn", "cos:ObjectCreated:Put", "in/", ".jpg");
    put("in/a.jpg");
    put("in/a.png");
    put("out/a.jpg");
    objects.ok("DELETE", &path("in/a.jpg"), &[], b"");
    trigger["Enable"] = "CLOSE".into();
    client.ok("UpdateTriggerStatus", &trigger);
    put("in/closed.jpg");
    trigger["Enable"] = "OPEN".into();
    client.ok("UpdateTriggerStatus", &trigger);
    put("in/b.jpg");
    client.ok("DeleteTrigger", &trigger);
    put("in/deleted.jpg");
    let notified = notified(&client, "fn", 2);
    let keys: Vec<_> = notified.iter().map(|(_, key)| key.as_str()).collect();
    assert_eq!(keys, ["in/a.jpg", "in/b.jpg"]);
    comes_to(&client, "virga_bucket_events_waiting", 0.0);
    comes_to(&client, "virga_events_accepted_total", 2.0);
}

/// The keys of all objects.
fn keys(objects: &Objects) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut marker = String::new();
    loop {
        let page = objects.ok("GET", &format!("{BUCKET}?marker={marker}"), &[], b"");
        let listed = page.split("<Key>").skip(1);
        found.extend(listed.filter_map(|rest| Some(rest.split_once('<')?.0.to_owned())));
        if !page.contains("<IsTruncated>true") {
            return found;
        }
        let last = found.last().cloned().expect("a page has a key");
        assert_ne!(last, marker, "the list does not go on");
        marker = last;
    }
}

#[test]
fn change_and_its_event_are_atomic_through_kills() {
    let mut server = Server::flags(VIRGA, &["--event-throttled-ms", "100", "--wait", "1"]);
    let client = server.client();
    client.create("fn", ECHO, json!({}));
    trigger(&client, "fn", "cos:ObjectCreated:*", "", "");
    server.objects().ok("PUT", BUCKET, &[], b"");
    // Runs are counted by logs, whose last moments a kill may lose; so nothing runs until all kills are over.
    stop(&client, "fn");
    let next = AtomicU32::new(0);
    let mut answered = BTreeSet::new();
    for round in 0..4u64 {
        let objects = server.objects();
        let done: Vec<String> = thread::scope(|scope| {
            let put = |_| {
                let (objects, next) = (&objects, &next);
                scope.spawn(move || {
                    let mut done = Vec::new();
                    loop {
                        let key = format!("k{:06}", next.fetch_add(1, Ordering::Relaxed));
                        match objects.attempt("PUT", &path(&key), &[], b"x") {
                            Some(answer) if answer.status == 200 => done.push(key),
                            _ => return done,
                        }
                    }
                })
            };
            let writers: Vec<_> = (0..4).map(put).collect();
            // The assertions hold whatever the moment of the kill.
            thread::sleep(Duration::from_millis(150 + 97 * round));
            server.kill();
            let all = writers.into_iter().map(|one| one.join().expect("its keys"));
            all.flatten().collect()
        });
        assert!(!done.is_empty(), "nothing was put in round {round}");
        answered.extend(done);
        server.restart();
    }
    let (client, objects) = (server.client(), server.objects());
    let there = keys(&objects);
    assert!(
        there.is_superset(&answered),
        "an acknowledged change is lost"
    );
    go_on(&client, "fn");
    comes_to(&client, "virga_bucket_events_waiting", 0.0);
    all_have_ended(&client);
    let mut ran: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (request, event) in runs(&client, "fn", there.len()) {
        ran.entry(key(&event)).or_default().insert(request);
    }
    assert_eq!(ran.keys().cloned().collect::<BTreeSet<_>>(), there);
    let mut all = ran.iter();
    let twice = all.find(|(_, requests)| requests.len() != 1);
    assert_eq!(twice, None, "a change has several events");
}

#[test]
fn events_wait_in_the_outbox_while_the_queue_is_full() {
    let flags = [
        "--event-store-mb",
        "1",
        "--event-throttled-ms",
        "100",
        "--wait",
        "1",
    ];
    let server = Server::flags(VIRGA, &flags);
    let (client, objects) = (server.client(), server.objects());
    client.create("fn", ECHO, json!({}));
    client.create("stuffed", ECHO, json!({}));
    trigger(&client, "fn", "cos:ObjectCreated:*", "", "");
    objects.ok("PUT", BUCKET, &[], b"");
    stop(&client, "stuffed");
    // The last gap is filled, too.
    for size in [100_000, 500] {
        let event = json!("x".repeat(size)).to_string();
        let invoke =
            json!({"FunctionName": "stuffed", "InvocationType": "Event", "ClientContext": event});
        while client.code("Invoke", &invoke).is_empty() {}
    }
    const COUNT: usize = 20;
    for number in 0..COUNT {
        objects.ok("PUT", &path(&format!("{number:02}")), &[], b"x");
    }
    comes_to(&client, "virga_bucket_events_waiting", COUNT as f64);
    let purge = [
        "events",
        "purge",
        "--state",
        "waiting",
        "--function",
        "stuffed",
    ];
    assert!(server.cli(&purge).status.success());
    let notified = notified(&client, "fn", COUNT);
    let keys: Vec<_> = notified.into_iter().map(|(_, key)| key).collect();
    let expected: Vec<_> = (0..COUNT).map(|number| format!("{number:02}")).collect();
    assert_eq!(keys, expected, "each once");
    comes_to(&client, "virga_bucket_events_waiting", 0.0);
}

#[test]
fn recursion_through_a_bucket_trigger_is_stopped() {
    let server = Server::flags(VIRGA, &["--max-depth", "3"]);
    server.expect("an event failed permanently");
    let (client, objects) = (server.client(), server.objects());
    let source = r#"
import urllib.request
def main_handler(event, context):
    key = event["Records"][0]["cos"]["cosObject"]["key"].split("/", 3)[3]
    url = "http://virga.internal:9401/photos-1250000000/" + key + "x"
    urllib.request.urlopen(urllib.request.Request(url, data=b"again", method="PUT")).read()
    return event
"#;
    client.create("fn", source, json!({}));
    trigger(&client, "fn", "cos:ObjectCreated:*", "", "");
    // Open to everybody, so that it is the address alone by which the function is known.
    let open = [("x-cos-acl", "public-read-write")];
    objects.ok("PUT", BUCKET, &open, b"");
    objects.ok("PUT", &path("a"), &[], b"x");
    comes_to(&client, "virga_events_looped_total", 1.0);
    let notified = notified(&client, "fn", 3);
    let keys: Vec<_> = notified.iter().map(|(_, key)| key.as_str()).collect();
    assert_eq!(keys, ["a", "ax", "axx"]);
    // Only then is the end of the looped event stored, which was counted before.
    all_have_ended(&client);
    let dead = server.cli(&["events", "list", "--state", "dead", "--json"]);
    let dead = String::from_utf8_lossy(&dead.stdout).into_owned();
    for part in ["max_depth is 3", "bucket that triggers it"] {
        assert!(dead.contains(part), "{dead}");
    }
}

fn code(bucket: &str, key: &str, region: &str) -> Value {
    json!({"CosBucketName": bucket, "CosObjectName": key, "CosBucketRegion": region})
}

fn create(name: &str, code: &Value) -> Value {
    json!({"FunctionName": name, "Runtime": "Python3.9", "Code": code})
}

#[test]
fn code_comes_from_a_bucket() {
    let server = server();
    let (client, objects) = (server.client(), server.objects());
    objects.ok("PUT", BUCKET, &[], b"");
    let answers = |word: &str| format!("def main_handler(event, context):\n    return {word:?}\n");
    let put = |key: &str, file: &str, text: &str| {
        let package = testkit::zip(&[(file, text.as_bytes())]);
        objects.ok("PUT", &path(key), &[], &package);
    };
    put("code/one.zip", "index.py", &answers("one"));
    put("code/two.zip", "index.py", &answers("two"));
    put("code/layer.zip", "shared.py", "word = 'shared'\n");
    objects.ok("PUT", &path("code/no.zip"), &[], b"no archive");
    let one = code("photos", "/code/one.zip", "ap-guangzhou");
    client.ok("CreateFunction", &create("fn", &one));
    assert_eq!(client.answer("fn", &json!({})), "one");
    let mut update = code("photos-1250000000", "code/two.zip", "");
    update["FunctionName"] = "fn".into();
    client.ok("UpdateFunctionCode", &update);
    assert_eq!(client.answer("fn", &json!({})), "two");
    let layer = json!({"LayerName": "shared", "CompatibleRuntimes": ["Python3.9"],
        "Content": code("photos", "code/layer.zip", "")});
    client.ok("PublishLayerVersion", &layer);
    let uses = "import shared\ndef main_handler(event, context):\n    return shared.word\n";
    let layers = json!([{"LayerName": "shared", "LayerVersion": 1}]);
    client.create(
        "uses",
        uses,
        json!({"Runtime": "Python3.9", "Layers": layers}),
    );
    assert_eq!(client.answer("uses", &json!({})), "shared");

    const NAME: &str = "InvalidParameterValue.CosBucketName";
    let twice =
        json!({"CosBucketName": "photos", "CosObjectName": "code/one.zip", "ZipFile": "eA=="});
    let rows = [
        (code("papers", "code/one.zip", ""), "ResourceNotFound.Cos"),
        (code("photos", "none.zip", ""), "ResourceNotFound.CosObject"),
        (
            code("photos", "", ""),
            "InvalidParameterValue.CosObjectName",
        ),
        (code("", "code/one.zip", ""), NAME),
        (code("Photos", "code/one.zip", ""), NAME),
        (
            code("photos-1250000001", "code/one.zip", ""),
            "ResourceNotFound.Cos",
        ),
        (
            code("photos", "code/one.zip", "ap-beijing"),
            "InvalidParameterValue.CosBucketRegion",
        ),
        (
            code("photos", "code/no.zip", ""),
            "InvalidParameterValue.ZipFile",
        ),
        (twice, "InvalidParameterValue.Code"),
    ];
    for (code, expected) in rows {
        let refused = client.code("CreateFunction", &create("other", &code));
        assert_eq!(refused, expected, "{code}");
    }
}

#[test]
fn code_in_a_bucket_has_a_size_limit_and_needs_read_permission() {
    let server = Server::flags(
        VIRGA,
        &["--limits", "package_bytes=1000,unpacked_bytes=100000"],
    );
    let (client, objects) = (server.client(), server.objects());
    objects.ok("PUT", BUCKET, &[], b"");
    objects.ok("PUT", &path("large.zip"), &[], &vec![0; 100_001]);
    let small = testkit::zip(&[("index.py", ECHO.as_bytes())]);
    objects.ok("PUT", &path("small.zip"), &[], &small);
    let create = |key: &str| create("fn", &code("photos", key, ""));
    let refused = client.call("CreateFunction", &create("large.zip"));
    let refused = refused.expect_err("refused");
    assert_eq!(refused.code, "InvalidParameterValue.ZipFile");
    for part in ["100001", "100000"] {
        assert!(refused.message.contains(part), "{refused:?}");
    }
    let key = |actions: Value| {
        let statement = json!([{"effect": "allow", "action": actions, "resource": "*"}]);
        let policy = json!({"version": "2.0", "statement": statement});
        let made = client.operate("CreateKey", &json!({"Policy": policy}));
        client.with_new_key(&made.expect("a key"))
    };
    let without = key(json!(["scf:*"]));
    // Without permission the error does not show whether the object exists.
    for name in ["small.zip", "none.zip"] {
        let refused = without.code("CreateFunction", &create(name));
        assert_eq!(refused, "UnauthorizedOperation", "{name}");
    }
    let with = key(json!(["scf:*", "cos:GetObject"]));
    assert_eq!(with.code("CreateFunction", &create("small.zip")), "");
    // Another account's bucket is none of theirs.
    let account = client.operate("CreateAccount", &json!({"Name": "others"}));
    let other = client.with_new_key(&account.expect("an account")["Key"]);
    let refused = other.code("CreateFunction", &create("small.zip"));
    assert_eq!(refused, "ResourceNotFound.Cos");
}
