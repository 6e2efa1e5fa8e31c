//! Instances of a version that are started ahead of need.

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};
use testkit::{Client, Server, eventually};

use crate::VIRGA;

/// Returns its instance and the time of its run, by a shared clock. On demand it dies.
const SLOW: &str = "import os, time\nid = os.urandom(8).hex()\n\
    def main_handler(e, c):\n    begun = time.monotonic()\n    if e.get('die'):\n        os._exit(7)\n    \
    time.sleep(e.get('for', 0.3))\n    return [id, begun, time.monotonic()]\n";

fn published(client: &Client, name: &str, source: &str, more: Value) {
    client.create(name, source, more);
    client.ok("PublishVersion", &json!({"FunctionName": name}));
}

fn put(client: &Client, name: &str, qualifier: &str, instances: i64) -> String {
    let request = json!({"FunctionName": name, "Qualifier": qualifier, "VersionProvisionedConcurrencyNum": instances});
    client.code("PutProvisionedConcurrencyConfig", &request)
}

fn delete(client: &Client, name: &str) -> String {
    let request = json!({"FunctionName": name, "Qualifier": "1"});
    client.code("DeleteProvisionedConcurrencyConfig", &request)
}

/// The provisioned concurrency that is shown for a function's first version.
fn shown(client: &Client, name: &str) -> Value {
    let request = json!({"FunctionName": name, "Qualifier": "1"});
    let answer = client.ok("GetProvisionedConcurrencyConfig", &request);
    answer["Allocated"][0].clone()
}

fn until(client: &Client, name: &str, status: &str, available: u64) {
    eventually(&format!("{name} is {status} with {available}"), || {
        let shown = shown(client, name);
        shown["Status"] == status && shown["AvailableProvisionedConcurrencyNum"] == available
    });
}

/// Instances in some states.
fn instances(client: &Client, states: &[&str]) -> u32 {
    let count = |state: &&str| client.metric(&format!("virga_instances{{state=\"{state}\"}}"));
    states.iter().filter_map(count).sum::<f64>() as u32
}

const ALL: &[&str] = &["starting", "busy", "idle", "frozen"];

/// Results of so many calls of the first version at the same time.
fn burst(client: &Client, name: &str, requests: usize, seconds: f64) -> Vec<Value> {
    thread::scope(|scope| {
        let call = || {
            let event = json!({"for": seconds}).to_string();
            let request = json!({"FunctionName": name, "Qualifier": "1", "ClientContext": event, "LogType": "Tail"});
            client.ok("Invoke", &request)["Result"].take()
        };
        let callers: Vec<_> = (0..requests).map(|_| scope.spawn(call)).collect();
        let joined = callers.into_iter().map(|caller| caller.join());
        joined.map(|result| result.expect("answered")).collect()
    })
}

/// What the functions themselves say: their instances, and the most that ran at a time.
fn seen(results: &[Value]) -> (usize, i32) {
    let said = |result: &Value| -> (String, f64, f64) {
        let text = result["RetMsg"].as_str().expect("text");
        serde_json::from_str(text).unwrap_or_else(|_| panic!("{result}"))
    };
    let said: Vec<_> = results.iter().map(said).collect();
    let ids: BTreeSet<_> = said.iter().map(|(id, ..)| id).collect();
    let mut edges: Vec<_> = said
        .iter()
        .flat_map(|(_, begun, ended)| [(*begun, 1), (*ended, -1)])
        .collect();
    edges.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut at_once, mut most) = (0, 0);
    for (_, change) in edges {
        at_once += change;
        most = most.max(at_once);
    }
    (ids.len(), most)
}

#[test]
fn provisioned_version_is_warm_before_its_first_call_and_stays_warm() {
    let server = Server::flags(VIRGA, &["--keep-alive", "1", "--wait", "60"]);
    let client = server.client();
    published(&client, "warm", SLOW, json!({"Timeout": 20}));
    assert_eq!(put(&client, "warm", "1", 3), "");
    until(&client, "warm", "Done", 3);
    for state in ["wanted", "ready"] {
        let line = format!("virga_provisioned_instances{{state=\"{state}\"}}");
        assert_eq!(client.metric(&line), Some(3.0), "{state}");
    }
    // No request waited for them, and each says what its start cost.
    let results = burst(&client, "warm", 3, 2.0);
    assert_eq!(seen(&results), (3, 3));
    for result in &results {
        let log = result["Log"].as_str().expect("a log");
        assert!(log.contains("Provisioned Report RequestId"), "{log}");
        assert!(!log.contains("Init Report"), "{log}");
    }
    // Further instances are like any other, and end with their keep-alive.
    let results = burst(&client, "warm", 5, 4.0);
    assert_eq!(seen(&results), (5, 5));
    eventually("the others end", || instances(&client, ALL) == 3);
    eventually("those that are kept are frozen", || {
        instances(&client, &["frozen"]) == 3
    });
    let listed = client.ok("ListFunctions", &json!({}));
    assert_eq!(
        listed["Functions"][0]["TotalProvisionedConcurrencyMem"],
        384
    );
    let usage = client.ok("GetAccount", &json!({}))["AccountUsage"].take();
    assert_eq!(usage["Namespace"][0]["TotalAllocatedProvisionedMem"], 384);
    assert_eq!(delete(&client, "warm"), "");
    assert_eq!(shown(&client, "warm"), Value::Null);
    eventually("nothing is left", || instances(&client, ALL) == 0);
}

#[test]
fn dead_provisioned_instances_are_replaced_also_after_a_kill() {
    let mut server = Server::start(VIRGA);
    let client = server.client();
    published(&client, "mortal", SLOW, json!({}));
    assert_eq!(put(&client, "mortal", "1", 2), "");
    until(&client, "mortal", "Done", 2);
    let before = ids(&burst(&client, "mortal", 2, 1.0));
    for _ in 0..2 {
        let request =
            json!({"FunctionName": "mortal", "Qualifier": "1", "ClientContext": "{\"die\": true}"});
        let result = client.ok("Invoke", &request)["Result"].take();
        assert_ne!(result["InvokeResult"], 0);
    }
    until(&client, "mortal", "Done", 2);
    let after = ids(&burst(&client, "mortal", 2, 1.0));
    assert_eq!((before.len(), after.len()), (2, 2));
    assert!(after.iter().any(|id| !before.contains(id)), "none is new");
    // Frozen ones are no hindrance to the next virga either.
    eventually("they are frozen", || instances(&client, &["frozen"]) == 2);
    server.kill();
    server.restart();
    let client = server.client();
    until(&client, "mortal", "Done", 2);
    // Its version goes with all that was kept of it, and so does a function.
    client.ok(
        "DeleteFunctionVersion",
        &json!({"FunctionName": "mortal", "Qualifier": "1"}),
    );
    eventually("nothing is left", || instances(&client, ALL) == 0);
    client.ok("PublishVersion", &json!({"FunctionName": "mortal"}));
    assert_eq!(put(&client, "mortal", "2", 1), "");
    eventually("the next one is warm", || instances(&client, ALL) == 1);
    client.ok("DeleteFunction", &json!({"FunctionName": "mortal"}));
    eventually("nothing is left", || instances(&client, ALL) == 0);
}

fn ids(results: &[Value]) -> BTreeSet<String> {
    let said = |result: &Value| -> (String, f64, f64) {
        let text = result["RetMsg"].as_str().expect("text");
        serde_json::from_str(text).unwrap_or_else(|_| panic!("{result}"))
    };
    results.iter().map(|result| said(result).0).collect()
}

#[test]
fn provisioning_failure_of_unloadable_code_is_reported_with_its_reason() {
    let server = Server::start(VIRGA);
    let client = server.client();
    let source = "raise ValueError('on purpose')\n";
    published(&client, "broken", source, json!({}));
    assert_eq!(put(&client, "broken", "1", 2), "");
    until(&client, "broken", "Failed", 0);
    let shown = shown(&client, "broken");
    let reason = shown["StatusReason"].as_str().expect("text");
    assert!(
        reason.contains("430") && reason.contains("ValueError: on purpose"),
        "{reason}"
    );
    // It is not in progress any more, so that it can be changed.
    assert_eq!(put(&client, "broken", "1", 0), "");
    until(&client, "broken", "Done", 0);
}

#[test]
fn provisioning_in_progress_can_only_be_cancelled() {
    let server = Server::start(VIRGA);
    server.expect("some requests did not complete within the drain timeout");
    let client = server.client();
    let source = "import time\ntime.sleep(30)\ndef main_handler(e, c):\n    pass\n";
    published(&client, "slow", source, json!({"InitTimeout": 60}));
    assert_eq!(put(&client, "slow", "1", 1), "");
    until(&client, "slow", "InProgress", 0);
    assert_eq!(
        put(&client, "slow", "1", 2),
        "FailedOperation.ProvisionedInProgress"
    );
    assert_eq!(delete(&client, "slow"), "");
    assert_eq!(put(&client, "slow", "1", 0), "");
}

#[test]
fn provisioning_that_waits_for_memory_is_reported_and_served_before_new_requests() {
    let limits = "concurrency_mb=512,unreservable_mb=128";
    let server = Server::flags(VIRGA, &["--limits", limits, "--wait", "60"]);
    let client = server.client();
    for name in ["kept", "greedy"] {
        published(&client, name, SLOW, json!({"Timeout": 60}));
    }
    thread::scope(|scope| {
        let running = scope.spawn(|| burst(&client, "greedy", 8, 5.0));
        eventually("all memory is used", || instances(&client, &["busy"]) == 4);
        assert_eq!(put(&client, "kept", "1", 2), "");
        eventually("it says what it waits for", || {
            let shown = shown(&client, "kept");
            let reason = shown["StatusReason"].as_str().unwrap_or_default();
            shown["Status"] == "InProgress"
                && reason.contains("region unreserved quota is exhausted")
        });
        until(&client, "kept", "Done", 2);
        assert_eq!(seen(&running.join().expect("joined")).1, 4);
    });
}

#[test]
fn provisioned_memory_fits_the_reserved_memory_or_the_account_quota() {
    let limits = "concurrency_mb=1024,unreservable_mb=256";
    let server = Server::flags(VIRGA, &["--limits", limits, "--wait", "1"]);
    let client = server.client();
    for name in ["first", "second"] {
        published(&client, name, SLOW, json!({}));
    }
    let alias = json!({"FunctionName": "first", "Name": "live", "FunctionVersion": "1"});
    client.ok("CreateAlias", &alias);
    let reserve = |name, mb| {
        let request = json!({"FunctionName": name, "ReservedConcurrencyMem": mb});
        client.code("PutReservedConcurrencyConfig", &request)
    };
    let rows = [
        ("first", "$LATEST", 1, "InvalidParameterValue.Qualifier"),
        ("first", "live", 1, "InvalidParameterValue.Qualifier"),
        ("first", "7", 1, "ResourceNotFound.FunctionVersion"),
        ("first", "1", -1, "InvalidParameterValue"),
        (
            "first",
            "1",
            7,
            "FailedOperation.ProvisionedExceedAvailable",
        ),
        ("first", "1", 4, ""),
        (
            "second",
            "1",
            3,
            "FailedOperation.ProvisionedExceedAvailable",
        ),
        ("second", "1", 2, ""),
    ];
    for (name, qualifier, number, code) in rows {
        assert_eq!(
            put(&client, name, qualifier, number),
            code,
            "{name} {qualifier} {number}"
        );
    }
    until(&client, "first", "Done", 4);
    until(&client, "second", "Done", 2);
    // All that is promised is promised once.
    assert_eq!(
        reserve("second", 384),
        "FailedOperation.ReservedExceedTotal"
    );
    assert_eq!(
        reserve("first", 384),
        "FailedOperation.ProvisionedExceedReserved"
    );
    assert_eq!(reserve("first", 512), "");
    assert_eq!(
        put(&client, "first", "1", 5),
        "FailedOperation.ProvisionedExceedReserved"
    );
    let total = json!({"TotalConcurrencyMem": 1023});
    assert_eq!(
        client.code("PutTotalConcurrencyConfig", &total),
        "LimitExceeded.TotalConcurrencyMemory"
    );
    // 0 stops a function whatever it keeps, and what it kept comes back with its end.
    assert_eq!(reserve("first", 0), "");
    until(&client, "first", "Failed", 0);
    let reason = shown(&client, "first")["StatusReason"].to_string();
    assert!(reason.contains("reserved concurrency is 0 MB"), "{reason}");
    client.ok(
        "DeleteReservedConcurrencyConfig",
        &json!({"FunctionName": "first"}),
    );
    until(&client, "first", "Done", 4);
    let left = |qualifier: Option<&str>| {
        let request = json!({"FunctionName": "first", "Qualifier": qualifier});
        client.ok("GetProvisionedConcurrencyConfig", &request)["UnallocatedConcurrencyNum"].take()
    };
    assert_eq!((left(None), left(Some("1"))), (json!(0), json!(0)));
    assert_eq!(delete(&client, "second"), "");
    assert_eq!(left(None), 2);
}

#[test]
fn concurrent_calls_never_exceed_the_instance_quota() {
    let server = Server::flags(VIRGA, &["--wait", "60"]);
    let client = server.client();
    published(&client, "loaded", SLOW, json!({"Timeout": 20}));
    let request = json!({"FunctionName": "loaded", "ReservedConcurrencyMem": 512});
    client.ok("PutReservedConcurrencyConfig", &request);
    assert_eq!(put(&client, "loaded", "1", 2), "");
    until(&client, "loaded", "Done", 2);
    for _ in 0..3 {
        eventually("there are four", || {
            let (ids, at_once) = seen(&burst(&client, "loaded", 40, 0.05));
            assert!(ids <= 4 && at_once <= 4, "{ids}, {at_once} at a time");
            (ids, at_once) == (4, 4)
        });
    }
}

#[test]
fn provisioned_minimum_follows_utilization() {
    let server = Server::flags(VIRGA, &["--wait", "60"]);
    let client = server.client();
    published(&client, "tracked", SLOW, json!({"Timeout": 20}));
    let track = |target: f64, min: i64, max: i64, instances: i64| {
        let request = json!({
            "FunctionName": "tracked", "Qualifier": "1", "VersionProvisionedConcurrencyNum": instances,
            "ProvisionedType": "ConcurrencyUtilizationTracking", "TrackingTarget": target, "MinCapacity": min,
            "MaxCapacity": max,
        });
        client.code("PutProvisionedConcurrencyConfig", &request)
    };
    let rows = [
        (0.0, 1, 4, 0, "InvalidParameterValue.TrackingTarget"),
        (1.0, 1, 4, 0, "InvalidParameterValue.TrackingTarget"),
        (0.5, 0, 4, 0, "InvalidParameterValue.MinCapacity"),
        (0.5, 5, 4, 0, "InvalidParameterValue.MinCapacity"),
        (0.5, 1, 4, 2, "InvalidParameterValue.ProvisionType"),
        (
            0.5,
            1,
            1_000_000,
            0,
            "FailedOperation.ProvisionedExceedAvailable",
        ),
        (0.5, 1, 5, 0, ""),
    ];
    for (target, min, max, instances, code) in rows {
        assert_eq!(
            track(target, min, max, instances),
            code,
            "{target} {min} {max} {instances}"
        );
    }
    until(&client, "tracked", "Done", 1);
    let results = burst(&client, "tracked", 2, 1.0);
    assert_eq!(seen(&results).1, 2);
    until(&client, "tracked", "Done", 4);
}

#[test]
fn scheduled_provisioning_survives_a_restart() {
    let flags = ["--keep-alive", "1", "--cron-zone", "UTC"];
    let mut server = Server::flags(VIRGA, &flags);
    let client = server.client();
    published(&client, "planned", SLOW, json!({}));
    let schedule = |actions: Value| {
        let request = json!({
            "FunctionName": "planned", "Qualifier": "1", "VersionProvisionedConcurrencyNum": 1, "TriggerActions": actions,
        });
        client.code("PutProvisionedConcurrencyConfig", &request)
    };
    let action = |name: &str, instances: i64, cron: &str| json!({"TriggerName": name, "TriggerProvisionedConcurrencyNum": instances, "TriggerCronConfig": cron});
    let often = "*/2 * * * * * *";
    let many: Vec<_> = (0..11)
        .map(|n| action(&format!("a{n}"), 1, &format!("{n} 0 0 * * * *")))
        .collect();
    let rows = [
        (
            json!([action("", 1, often)]),
            "InvalidParameterValue.ProvisionTriggerName",
        ),
        (
            json!([action("a", -1, often)]),
            "InvalidParameterValue.TriggerProvisionedConcurrencyNum",
        ),
        (
            json!([action("a", 1, "often")]),
            "InvalidParameterValue.TriggerCronConfig",
        ),
        (
            json!([action("a", 1, often), action("a", 2, "0 0 0 * * * *")]),
            "InvalidParameterValue.ProvisionTriggerNameDuplicate",
        ),
        (
            json!([action("a", 1, often), action("b", 2, often)]),
            "InvalidParameterValue.ProvisionTriggerCronConfigDuplicate",
        ),
        (
            json!([action("a", 100_000, often)]),
            "FailedOperation.ProvisionedExceedAvailable",
        ),
        (json!(many), "LimitExceeded.ProvisionTriggerAction"),
        (
            json!([
                action("up", 3, often),
                action("once", 2, "0 0 0 1 1 * 2020")
            ]),
            "",
        ),
    ];
    for (actions, code) in rows {
        assert_eq!(schedule(actions.clone()), code, "{actions}");
    }
    until(&client, "planned", "Done", 3);
    let planned = shown(&client, "planned");
    assert_eq!(planned["AllocatedProvisionedConcurrencyNum"], 3);
    assert_eq!(
        planned["TriggerActions"][1]["TriggerCronConfig"],
        "0 0 0 1 1 * 2020"
    );
    server.kill();
    server.restart();
    let client = server.client();
    until(&client, "planned", "Done", 3);
    // Without a schedule it is the configured number.
    assert_eq!(put(&client, "planned", "1", 1), "");
    until(&client, "planned", "Done", 1);
    eventually("the others end", || instances(&client, ALL) == 1);
}
