//! Triggers of buckets.

use serde_json::{Value, json};
use testkit::Client;

use crate::server;

const HELLO: &str = "def main_handler(e, c):\n    return e\n";
const PHOTOS: &str = "photos-1250000000.cos.ap-guangzhou.myqcloud.com";
const CREATED: &str = "cos:ObjectCreated:*";

fn desc(event: &str, prefix: &str, suffix: &str) -> String {
    let filter = json!({"Prefix": prefix, "Suffix": suffix});
    json!({"bucketUrl": PHOTOS, "event": event, "filter": filter}).to_string()
}

fn on(function: &str, desc: &str) -> Value {
    json!({"FunctionName": function, "TriggerName": PHOTOS, "Type": "cos", "TriggerDesc": desc})
}

/// What the triggers of a function wait for, and whether they are open.
fn shown(client: &Client, function: &str) -> Vec<(String, i64)> {
    let request = json!({"FunctionName": function, "OrderBy": "add_time", "Order": "ASC"});
    let listed = client.ok("ListTriggers", &request);
    let row = |one: &Value| {
        let desc = one["TriggerDesc"].as_str().expect("text").to_owned();
        (desc, one["Enable"].as_i64().expect("a number"))
    };
    let triggers = listed["Triggers"].as_array().expect("a list");
    triggers.iter().map(row).collect()
}

#[test]
fn function_has_several_triggers_of_a_bucket_with_distinct_filters() {
    let server = server();
    let client = server.client();
    client.create("fn", HELLO, json!({}));
    let (jpg, png) = (desc(CREATED, "in/", ".jpg"), desc(CREATED, "in/", ".png"));
    let made = client.ok("CreateTrigger", &on("fn", &jpg))["TriggerInfo"].take();
    assert_eq!(
        (&made["TriggerName"], &made["TriggerDesc"], &made["Enable"]),
        (&json!(PHOTOS), &json!(jpg), &json!(1))
    );
    client.ok("CreateTrigger", &on("fn", &png));
    let other_bucket = jpg.replace("photos-", "others-");
    let refused = client.call("CreateTrigger", &on("fn", &other_bucket));
    let refused = refused.expect_err("of another bucket");
    assert_eq!(refused.code, "InvalidParameterValue.TriggerDesc");
    assert!(refused.message.contains("bucketUrl"), "{refused:?}");
    // The event alone, as older clients send it.
    client.ok("CreateTrigger", &on("fn", "cos:ObjectRemove:*"));
    let removed = desc("cos:ObjectRemove:*", "", "");
    let all = |jpg_open| {
        vec![
            (jpg.clone(), jpg_open),
            (png.clone(), 1),
            (removed.clone(), 1),
        ]
    };
    assert_eq!(shown(&client, "fn"), all(1));
    let triggers = client.ok("GetFunction", &json!({"FunctionName": "fn"}))["Triggers"].take();
    assert_eq!(triggers.as_array().map(Vec::len), Some(3));

    // One of several is named by what it waits for, in whatever order it is written.
    let mut close = on(
        "fn",
        r#"{"filter": {"Suffix": ".jpg", "Prefix": "in/"}, "event": "cos:ObjectCreated:*"}"#,
    );
    close["Enable"] = "CLOSE".into();
    client.ok("UpdateTriggerStatus", &close);
    assert_eq!(shown(&client, "fn"), all(0));
    let mut several = close.clone();
    several["TriggerDesc"] = "".into();
    for action in ["UpdateTriggerStatus", "DeleteTrigger", "UpdateTrigger"] {
        let refused = client.call(action, &several).expect_err("refused");
        assert_eq!(refused.code, "InvalidParameterValue.TriggerDesc");
        assert!(refused.message.contains("3 cos triggers"), "{refused:?}");
    }
    let mut open = on("fn", &jpg);
    open["Enable"] = "OPEN".into();
    client.ok("UpdateTrigger", &open);
    assert_eq!(shown(&client, "fn"), all(1));
    client.ok("DeleteTrigger", &on("fn", &png));
    client.ok("DeleteTrigger", &on("fn", &removed));
    assert_eq!(
        client.code("DeleteTrigger", &on("fn", &png)),
        "ResourceNotFound.Trigger"
    );
    // The only one is found by its name, and may be given something else to wait for.
    client.ok("UpdateTrigger", &on("fn", &png));
    assert_eq!(shown(&client, "fn"), [(png, 1)]);
    client.ok("DeleteTrigger", &on("fn", ""));
    assert_eq!(shown(&client, "fn"), []);
}

#[test]
fn an_event_is_for_one_function_alone() {
    let server = server();
    let client = server.client();
    for name in ["one", "two"] {
        client.create(name, HELLO, json!({}));
    }
    client.ok("CreateTrigger", &on("one", &desc(CREATED, "in/", "")));
    let rows = [
        ("two", desc(CREATED, "", ""), "ResourceInUse.Cos"),
        (
            "two",
            desc("cos:ObjectCreated:Put", "in/a/", ".jpg"),
            "ResourceInUse.Cos",
        ),
        (
            "one",
            desc("cos:ObjectCreated:Put", "in/", ""),
            "ResourceInUse.Cos",
        ),
        ("one", desc(CREATED, "in/", ""), "ResourceInUse.TriggerName"),
        ("two", desc(CREATED, "out/", ""), ""),
        ("two", desc("cos:ObjectRemove:Delete", "", ""), ""),
    ];
    for (function, desc, code) in rows {
        assert_eq!(
            client.code("CreateTrigger", &on(function, &desc)),
            code,
            "{function} {desc}"
        );
    }
    // A change that would take what another has is refused and changes nothing.
    client.ok(
        "DeleteTrigger",
        &on("two", &desc("cos:ObjectRemove:Delete", "", "")),
    );
    let before = shown(&client, "two");
    let code = client.code("UpdateTrigger", &on("two", &desc(CREATED, "", "")));
    assert_eq!(code, "ResourceInUse.Cos");
    assert_eq!(shown(&client, "two"), before);
    // The events of a deleted trigger are free again, and those of a deleted function.
    client.ok("DeleteTrigger", &on("one", ""));
    client.ok("UpdateTrigger", &on("two", &desc(CREATED, "", "")));
    client.ok("DeleteFunction", &json!({"FunctionName": "two"}));
    testkit::eventually("the function is gone", || {
        client
            .code("CreateTrigger", &on("one", &desc(CREATED, "", "")))
            .is_empty()
    });
}

#[test]
fn concurrent_triggers_with_overlapping_events_are_refused() {
    let server = server();
    let client = server.client();
    const MANY: usize = 8;
    for number in 0..MANY {
        client.create(&format!("fn{number}"), HELLO, json!({}));
    }
    let codes: Vec<_> = std::thread::scope(|scope| {
        let ask = |number: usize| {
            let client = &client;
            scope.spawn(move || {
                client.code(
                    "CreateTrigger",
                    &on(&format!("fn{number}"), &desc(CREATED, "", "")),
                )
            })
        };
        let asked: Vec<_> = (0..MANY).map(ask).collect();
        asked
            .into_iter()
            .map(|one| one.join().expect("a code"))
            .collect()
    });
    let taken = codes
        .iter()
        .filter(|code| *code == "ResourceInUse.Cos")
        .count();
    assert_eq!(taken, MANY - 1, "{codes:?}");
}

#[test]
fn unsupported_bucket_events_are_refused_with_the_supported_ones() {
    let server = server();
    let client = server.client();
    client.create("fn", HELLO, json!({}));
    const DESC: &str = "InvalidParameterValue.TriggerDesc";
    const NAME: &str = "InvalidParameterValue.TriggerName";
    let fine = desc(CREATED, "", "");
    let rows = [
        (PHOTOS, "", DESC, "cos:ObjectCreated:*"),
        (PHOTOS, "{", DESC, "not as expected"),
        (PHOTOS, "{}", DESC, "event"),
        (
            PHOTOS,
            "cos:ObjectCreated",
            DESC,
            "cos:ObjectRestore:Completed",
        ),
        (PHOTOS, &desc(CREATED, "", "jpg"), DESC, "Suffix"),
        (
            PHOTOS,
            &desc(CREATED, &"a".repeat(1025), ""),
            DESC,
            "Prefix",
        ),
        (
            "photos",
            &fine,
            NAME,
            "<bucket>-1250000000.cos.ap-guangzhou.myqcloud.com",
        ),
        (
            "photos-1250000001.cos.ap-guangzhou.myqcloud.com",
            &fine,
            NAME,
            "of this account",
        ),
        (
            "photos-1250000000.cos.ap-beijing.myqcloud.com",
            &fine,
            NAME,
            "region",
        ),
        (
            "Photos-1250000000.cos.ap-guangzhou.myqcloud.com",
            &fine,
            NAME,
            "region",
        ),
    ];
    for (name, desc, code, part) in rows {
        let mut request = on("fn", desc);
        request["TriggerName"] = name.into();
        let refused = client.call("CreateTrigger", &request).expect_err("refused");
        assert_eq!(refused.code, code, "{name} {desc}");
        assert!(refused.message.contains(part), "{part}: {refused:?}");
    }
    let limit = 10;
    for number in 0..=limit {
        let request = on("fn", &desc(CREATED, &format!("{number}/"), ""));
        let expected = if number < limit {
            ""
        } else {
            "LimitExceeded.Trigger"
        };
        assert_eq!(client.code("CreateTrigger", &request), expected, "{number}");
    }
}
