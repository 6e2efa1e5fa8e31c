//! Reserved memory: exclusive, and an upper bound.

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};
use testkit::{Client, Server};

use crate::VIRGA;

/// Returns its instance, after a while in which others start.
const SLOW: &str = "import os, time\nid = os.urandom(8).hex()\ndef main_handler(e, c):\n    time.sleep(e.get('for', 0.3))\n    return id\n";

/// 512 MB for an account, of which 384 can be reserved.
fn small(more: &[&str]) -> Server {
    let mut flags = vec!["--limits", "concurrency_mb=512,unreservable_mb=128"];
    flags.extend(more);
    Server::flags(VIRGA, &flags)
}

/// The instances that answer so many requests at the same time, and how many requests were refused.
fn burst(client: &Client, name: &str, requests: usize, seconds: f64) -> (BTreeSet<String>, usize) {
    let results: Vec<Value> = thread::scope(|scope| {
        let callers: Vec<_> = (0..requests)
            .map(|_| scope.spawn(|| client.invoke(name, &json!({"for": seconds}))))
            .collect();
        let joined = callers.into_iter().map(|caller| caller.join());
        joined.map(|result| result.expect("answered")).collect()
    });
    let refused = results.iter().filter(|one| one["InvokeResult"] != 0);
    let ids = results.iter().filter(|one| one["InvokeResult"] == 0);
    let ids = ids.map(|one| one["RetMsg"].as_str().expect("text").to_owned());
    (ids.collect(), refused.count())
}

/// Asserts that a function has exactly so many instances when so many requests come at a time, one after another if need be: how
/// soon an instance is there depends on the machine.
fn exactly(client: &Client, name: &str, requests: usize, wanted: usize) {
    let mut seen = BTreeSet::new();
    testkit::eventually(&format!("{name} has {wanted} instances"), || {
        let (ids, refused) = burst(client, name, requests, 0.1);
        seen.extend(ids);
        assert!(seen.len() <= wanted && refused == 0, "{seen:?}, {refused}");
        seen.len() == wanted
    });
}

fn reserve(client: &Client, name: &str, mb: i64) -> String {
    let request = json!({"FunctionName": name, "ReservedConcurrencyMem": mb});
    client.code("PutReservedConcurrencyConfig", &request)
}

#[test]
fn reserved_memory_is_guarantee_and_maximum() {
    let server = small(&["--wait", "60"]);
    let client = server.client();
    for name in ["first", "second"] {
        client.create(name, SLOW, json!({"Timeout": 20}));
    }
    assert_eq!(reserve(&client, "first", 256), "");
    // Neither one more nor one less, and neither takes of the other's.
    thread::scope(|scope| {
        scope.spawn(|| exactly(&client, "second", 8, 2));
        exactly(&client, "first", 8, 2);
    });
    // Once it is given back, one of them can have all.
    client.ok(
        "DeleteReservedConcurrencyConfig",
        &json!({"FunctionName": "first"}),
    );
    exactly(&client, "second", 12, 4);
}

#[test]
fn excess_requests_get_scf_codes_and_zero_reserved_memory_stops_a_function() {
    let mut server = small(&["--wait", "1"]);
    let client = server.client();
    client.create("first", SLOW, json!({"Timeout": 20}));
    assert_eq!(reserve(&client, "first", 128), "");
    let (ids, refused) = burst(&client, "first", 2, 3.0);
    assert_eq!((ids.len(), refused), (1, 1));
    assert_eq!(reserve(&client, "first", 0), "");
    let said = |client: &Client| client.invoke("first", &json!({}))["ErrMsg"].to_string();
    let text = said(&client);
    assert!(
        text.contains("432") && text.contains("reserved quota 0MB"),
        "{text}"
    );
    // Nothing of it is left running either.
    testkit::eventually("its instances end", || {
        let page = client.send("GET", "/metrics", &[], b"");
        let page = String::from_utf8(page.body).expect("text");
        page.contains("virga_instances{state=\"idle\"} 0")
            && page.contains("virga_instances{state=\"frozen\"} 0")
    });
    server.kill();
    server.restart();
    let client = server.client();
    assert!(said(&client).contains("reserved quota 0MB"));
    let shown = client.ok(
        "GetReservedConcurrencyConfig",
        &json!({"FunctionName": "first"}),
    );
    assert_eq!(shown["ReservedMem"], 0);
    client.ok(
        "DeleteReservedConcurrencyConfig",
        &json!({"FunctionName": "first"}),
    );
    assert_eq!(
        client.invoke("first", &json!({"for": 0}))["InvokeResult"],
        0
    );
    let shown = client.ok(
        "GetReservedConcurrencyConfig",
        &json!({"FunctionName": "first"}),
    );
    assert_eq!(shown["ReservedMem"], Value::Null);
}

#[test]
fn unreservable_memory_cannot_be_reserved() {
    let server = small(&[]);
    let client = server.client();
    for name in ["first", "second"] {
        client.create(name, SLOW, json!({}));
    }
    let rows = [
        ("first", 256, ""),
        ("second", 256, "FailedOperation.ReservedExceedTotal"),
        ("second", 128, ""),
        // A function's reserved memory can be changed within its own and the free part.
        ("first", 384, "FailedOperation.ReservedExceedTotal"),
        ("first", 128, ""),
        ("second", 256, ""),
        (
            "first",
            -1,
            "LimitExceeded.FunctionReservedConcurrencyMemory",
        ),
        (
            "first",
            512,
            "LimitExceeded.FunctionReservedConcurrencyMemory",
        ),
        ("nobody", 128, "ResourceNotFound.Function"),
    ];
    for (name, mb, code) in rows {
        assert_eq!(reserve(&client, name, mb), code, "{name} {mb}");
    }
    // A function that is gone holds nothing.
    client.ok("DeleteFunction", &json!({"FunctionName": "second"}));
    assert_eq!(reserve(&client, "first", 384), "");
    let listed = client.ok("ListFunctions", &json!({}));
    assert_eq!(listed["Functions"][0]["ReservedConcurrencyMem"], 384);
}

fn total(client: &Client, mb: i64) -> String {
    client.code(
        "PutTotalConcurrencyConfig",
        &json!({"TotalConcurrencyMem": mb}),
    )
}

fn usage(client: &Client) -> Value {
    client.ok("GetAccount", &json!({}))["AccountUsage"].take()
}

#[test]
fn total_concurrency_applies_at_once_and_after_a_restart() {
    let mut server = Server::flags(
        VIRGA,
        &[
            "--limits",
            "concurrency_mb=1024,unreservable_mb=256",
            "--wait",
            "60",
        ],
    );
    let client = server.client();
    client.create("first", SLOW, json!({"Timeout": 20}));
    exactly(&client, "first", 16, 8);
    // Idle instances above it are stopped, and no more than it are started.
    assert_eq!(total(&client, 384), "");
    testkit::eventually("instances above it end", || instances(&client) == 3);
    exactly(&client, "first", 40, 3);
    server.kill();
    server.restart();
    let client = server.client();
    exactly(&client, "first", 40, 3);
    let shown = usage(&client);
    assert_eq!(shown["TotalConcurrencyMem"], 1024);
    assert_eq!(shown["UserConcurrencyMemLimit"], 384);
    assert_eq!(shown["Namespace"][0]["TotalConcurrencyMem"], 384);
    assert_eq!(total(&client, 512), "");
    exactly(&client, "first", 40, 4);
}

/// Instances that are there, whatever they do.
fn instances(client: &Client) -> u32 {
    let states = ["starting", "busy", "idle", "frozen"];
    let count = |state: &&str| client.metric(&format!("virga_instances{{state=\"{state}\"}}"));
    states.iter().filter_map(count).sum::<f64>() as u32
}

#[test]
fn total_concurrency_is_between_reserved_memory_and_the_operators_limit() {
    let server = small(&["--wait", "1"]);
    let client = server.client();
    client.create("first", SLOW, json!({"Timeout": 20}));
    assert_eq!(reserve(&client, "first", 256), "");
    let rows = [
        (383, "LimitExceeded.TotalConcurrencyMemory"),
        (384, ""),
        (513, "LimitExceeded.TotalConcurrencyMemory"),
        (-1, "LimitExceeded.TotalConcurrencyMemory"),
    ];
    for (mb, code) in rows {
        assert_eq!(total(&client, mb), code, "{mb}");
    }
    let other_namespace = json!({"TotalConcurrencyMem": 512, "Namespace": "nowhere"});
    assert_eq!(
        client.code("PutTotalConcurrencyConfig", &other_namespace),
        "ResourceNotFound.Namespace"
    );
    // Reserved memory counts against the account's present total.
    assert_eq!(
        reserve(&client, "first", 384),
        "LimitExceeded.FunctionReservedConcurrencyMemory"
    );
    // A refusal names what there is to share: one instance of 128 MB.
    client.create("second", SLOW, json!({"Timeout": 20}));
    let (ids, refused) = burst(&client, "second", 2, 3.0);
    assert_eq!((ids.len(), refused), (1, 1));
    client.create("large", SLOW, json!({"MemorySize": 256}));
    let said = client.invoke("large", &json!({}))["ErrMsg"].to_string();
    assert!(said.contains("region unreserved quota 128MB"), "{said}");
}

#[test]
fn instance_start_rate_is_limited_and_reported_as_the_reason_of_throttling() {
    let limits = "scale_out_per_minute=2";
    let server = Server::flags(VIRGA, &["--limits", limits, "--wait", "1"]);
    let client = server.client();
    client.create("first", SLOW, json!({"Timeout": 20}));
    let (ids, refused) = burst(&client, "first", 5, 4.0);
    assert_eq!((ids.len(), refused), (2, 3));
    // The error of another function names the reason, and existing instances go on.
    client.create("second", SLOW, json!({}));
    let said = client.invoke("second", &json!({}))["ErrMsg"].to_string();
    assert!(
        said.contains("429") && said.contains("2 a minute"),
        "{said}"
    );
    let (ids, refused) = burst(&client, "first", 2, 0.1);
    assert_eq!((ids.len(), refused), (2, 0));
}

#[test]
fn instances_above_a_lowered_limit_end_with_their_request() {
    let server = Server::flags(VIRGA, &["--wait", "60"]);
    let client = server.client();
    client.create("first", SLOW, json!({"Timeout": 60}));
    thread::scope(|scope| {
        let running = scope.spawn(|| burst(&client, "first", 4, 5.0));
        testkit::eventually("all are busy", || {
            client.metric("virga_instances{state=\"busy\"}") == Some(4.0)
        });
        assert_eq!(reserve(&client, "first", 128), "");
        // These wait behind them, and find the one that may stay.
        let (ids, refused) = burst(&client, "first", 6, 0.05);
        assert_eq!((ids.len(), refused), (1, 0));
        let (ids, refused) = running.join().expect("joined");
        assert_eq!((ids.len(), refused), (4, 0));
    });
    testkit::eventually("the others are gone", || instances(&client) == 1);
}
