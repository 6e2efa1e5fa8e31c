//! The ledger of what ran.

use serde_json::{Value, json};
use testkit::{Server, eventually};

use crate::events::{FAILS, REMEMBERS, ended, quick, send, stop};

fn usage(server: &Server, arguments: &[&str]) -> Vec<Value> {
    let mut all = vec!["usage"];
    all.extend(arguments);
    all.push("--json");
    let output = server.cli(&all);
    assert!(output.status.success(), "{output:?}");
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    found.as_array().expect("a list").clone()
}

#[test]
fn calls_and_events_are_counted_once_and_survive() {
    let mut server = quick(&[]);
    server.expect("an event failed permanently");
    let client = server.client();
    client.create("fun", REMEMBERS, json!({"MemorySize": 256}));
    client.create("fails", FAILS, json!({}));
    let mut billed = 0;
    for _ in 0..5 {
        let result = client.invoke("fun", &json!({}));
        billed += result["BillDuration"].as_u64().expect("a number");
    }
    let first = usage(&server, &["fun"]);
    assert_eq!(first.len(), 1);
    let row = &first[0];
    assert_eq!(
        (
            &row["Invocations"],
            &row["Errors"],
            &row["Throttles"],
            &row["Version"]
        ),
        (&json!(5), &json!(0), &json!(0), &json!("$LATEST"))
    );
    assert_eq!(row["BilledMs"], billed);
    let gb_seconds = row["GbSeconds"].as_f64().expect("a number");
    assert!((gb_seconds - billed as f64 / 4000.0).abs() < 1e-9, "{row}");
    assert_eq!(row["OutBytes"], 10, "five times []");
    // An event counts once for each run.
    send(&client, "fails", &json!({}));
    send(&client, "fun", &json!({"n": 1}));
    eventually("all has ended", || client.queued() == Some(0.0));
    stop(&client, "fun");
    client.invoke("fun", &json!({}));
    assert_eq!(ended(&client, 432), 1.0);
    let count = |server: &Server| {
        let all = usage(server, &[]);
        let counts = all.iter().map(|row| {
            (
                row["FunctionName"].as_str().expect("text").to_owned(),
                row["Invocations"].as_u64(),
                row["Errors"].as_u64(),
                row["Throttles"].as_u64(),
            )
        });
        counts.collect::<Vec<_>>()
    };
    let expected = [
        ("fails".to_owned(), Some(3), Some(3), Some(0)),
        ("fun".to_owned(), Some(6), Some(0), Some(1)),
    ];
    assert_eq!(count(&server), expected);
    server.kill();
    server.restart();
    assert_eq!(count(&server), expected);
    assert!(server.terminate().success());
    server.restart();
    assert_eq!(count(&server), expected);
    let hours = usage(&server, &["--hours"]);
    assert!(
        hours.len() >= 2
            && hours.iter().all(|row| row["Hour"]
                .as_str()
                .is_some_and(|hour| hour.ends_with(":00:00")))
    );
}

#[test]
fn a_call_that_was_answered_counts_though_virga_is_killed_at_once() {
    let mut server = quick(&[]);
    server.client().create("fun", REMEMBERS, json!({}));
    let mut made = 0;
    for round in 0..10 {
        let client = server.client();
        // Some kills come before the first commit of a round, some after one.
        for _ in 0..1 + 7 * round {
            client.invoke("fun", &json!({}));
            made += 1;
        }
        server.kill();
        server.restart();
    }
    assert_eq!(usage(&server, &["fun"])[0]["Invocations"], made);
}
