//! Triggers belong to their function and come and go with it; timers are due once each time.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use testkit::{Client, Server, eventually};

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
fn change_of_triggers_keeps_instances_and_survives_a_kill() {
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
    // An overwritten trigger keeps its own.
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

/// Prints its event, so that its log says which came.
const TELLS: &str = "import json\ndef main_handler(e, c):\n    print('GOT', json.dumps(e))\n";

/// What a server's timers have brought about: the events by their times, with the ids of the requests that they were.
fn came(client: &Client, function: &str) -> BTreeMap<i64, BTreeSet<String>> {
    let request = json!({"FunctionName": function, "Limit": 10000});
    let logs = client.ok("GetFunctionLogs", &request)["Data"].take();
    let mut found: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    for record in logs.as_array().expect("a list") {
        let log = record["Log"].as_str().expect("text");
        let Some(event) = log.lines().find_map(|line| line.strip_prefix("GOT ")) else {
            continue;
        };
        let event: Value = serde_json::from_str(event).expect("an event");
        let id = record["RequestId"].as_str().expect("an id").to_owned();
        found.entry(second(&event["Time"])).or_default().insert(id);
    }
    found
}

fn second(time: &Value) -> i64 {
    let time: Timestamp = time.as_str().expect("text").parse().expect("a time");
    time.as_second()
}

fn each_second(client: &Client, name: &str, more: &Value) {
    let mut request = on(name, more);
    request["TriggerDesc"] = "* * * * * * *".into();
    client.ok("CreateTrigger", &request);
}

/// Waits until this many times have come.
fn until(client: &Client, function: &str, count: usize) -> BTreeMap<i64, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    eventually("the timer's events come", || {
        found = came(client, function);
        found.len() >= count
    });
    found
}

/// Seconds that are missing between the first and the last.
fn missing(found: &BTreeMap<i64, BTreeSet<String>>) -> Vec<i64> {
    let (first, last) = (found.keys().next(), found.keys().next_back());
    let (Some(first), Some(last)) = (first, last) else {
        return Vec::new();
    };
    (*first..=*last)
        .filter(|at| !found.contains_key(at))
        .collect()
}

fn assert_each_was_one(found: &BTreeMap<i64, BTreeSet<String>>) {
    for (at, ids) in found {
        assert_eq!(ids.len(), 1, "{at} was more than one event: {ids:?}");
    }
}

#[test]
fn a_timer_runs_its_function_with_the_event_that_scf_sends() {
    let server = server();
    let client = server.client();
    client.create(
        "fn",
        "def main_handler(e, c):\n    print('GOT', list(e), e)\n",
        json!({}),
    );
    each_second(&client, "tick", &json!({"CustomArgument": "say \"this\""}));
    let mut log = String::new();
    eventually("it comes", || {
        let logs = client.ok("GetFunctionLogs", &json!({"FunctionName": "fn"}));
        log = logs["Data"][0]["Log"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        log.contains("GOT")
    });
    assert!(
        log.contains("['Type', 'TriggerName', 'Time', 'Message']"),
        "{log}"
    );
    assert!(
        log.contains("'Type': 'Timer', 'TriggerName': 'tick', 'Time': '20"),
        "{log}"
    );
    assert!(log.contains("'Message': 'say \"this\"'"), "{log}");
    assert!(
        client
            .metric("virga_timers")
            .is_some_and(|count| count == 1.0)
    );
}

#[test]
fn each_second_is_one_event_through_restarts_and_kills() {
    let mut server = Server::flags(VIRGA, &["--timer-missed", "all"]);
    let client = server.client();
    client.create("fn", TELLS, json!({}));
    each_second(&client, "tick", &json!({}));
    let mut count = 2;
    for round in 0..4 {
        let found = until(&server.client(), "fn", count);
        count = found.len() + 2;
        if round % 2 == 0 {
            server.kill();
        } else {
            assert!(server.terminate().success());
        }
        server.restart();
    }
    let client = server.client();
    let mut found = until(&client, "fn", count);
    let close = on("tick", &json!({"Enable": "CLOSE"}));
    client.ok("UpdateTriggerStatus", &close);
    eventually("none is missing", || {
        found = came(&client, "fn");
        missing(&found).is_empty()
    });
    assert_each_was_one(&found);
}

/// Kills a server with a timer that is due every four seconds, and starts it again when at least two times have been missed.
/// Gives the times that were missed for certain, and all that came in the end.
fn outage(missed: &str) -> (Vec<i64>, BTreeMap<i64, BTreeSet<String>>) {
    let mut server = Server::flags(VIRGA, &["--timer-missed", missed, "--timer-grace", "1"]);
    let client = server.client();
    client.create("fn", TELLS, json!({}));
    client.ok(
        "CreateTrigger",
        &on("tick", &json!({"TriggerDesc": "*/4 * * * * * *"})),
    );
    let before = until(&client, "fn", 1);
    server.kill();
    let now = || Timestamp::now().as_second();
    let killed = now();
    assert!(before.keys().all(|at| *at <= killed));
    // Time is what this is about: it has to pass.
    while now() < killed + 9 || now() % 4 != 3 {
        thread::sleep(Duration::from_millis(50));
    }
    let long_past = (killed + 1..now() - 1).filter(|at| at % 4 == 0).collect();
    server.restart();
    let started = now();
    let client = server.client();
    eventually("it goes on", || {
        let last = came(&client, "fn").keys().next_back().copied();
        last.is_some_and(|last| last > started)
    });
    // One that was missed may end after one that came later.
    eventually("none is under way", || client.queued() == Some(0.0));
    let found = came(&client, "fn");
    assert_each_was_one(&found);
    (long_past, found)
}

#[test]
fn missed_timer_runs_follow_the_option_timer_missed() {
    let rows =
        ["skip", "latest", "all"].map(|missed| thread::spawn(move || (missed, outage(missed))));
    for row in rows {
        let (missed, (long_past, found)) = row.join().expect("a server");
        let done = |at: &&i64| found.contains_key(at);
        let done: Vec<_> = long_past.iter().filter(done).copied().collect();
        let (last, others) = long_past.split_last().expect("some were missed");
        match missed {
            "skip" => assert_eq!(done, [0; 0], "{missed}: {long_past:?}: {found:?}"),
            "all" => assert_eq!(done, long_past, "{missed}: {found:?}"),
            // Where a start takes long, it is a later one that was missed last.
            _ => {
                assert!(
                    !others.iter().any(|at| found.contains_key(at)),
                    "{others:?}: {found:?}"
                );
                assert!(
                    found.range(last..=&(last + 4)).count() > 0,
                    "{last}: {found:?}"
                );
            }
        }
    }
}

#[test]
fn disabled_timer_stops_at_once_and_an_enabled_one_starts_from_now() {
    let server = server();
    let client = server.client();
    client.create("fn", TELLS, json!({}));
    client.create("other", TELLS, json!({}));
    each_second(&client, "tick", &json!({}));
    let mut other = on("tock", &json!({"TriggerDesc": "* * * * * * *"}));
    other["FunctionName"] = "other".into();
    client.ok("CreateTrigger", &other);
    until(&client, "fn", 2);
    client.ok(
        "UpdateTriggerStatus",
        &on("tick", &json!({"Enable": "CLOSE"})),
    );
    let closed = Timestamp::now().as_second();
    // The other one shows that time has passed.
    let count = came(&client, "other").len();
    until(&client, "other", count + 3);
    client.ok(
        "UpdateTriggerStatus",
        &on("tick", &json!({"Enable": "OPEN"})),
    );
    let opened = Timestamp::now().as_second();
    let found = || came(&client, "fn");
    eventually("it goes on", || found().keys().any(|at| *at > opened));
    let between: Vec<_> = found()
        .into_keys()
        .filter(|at| (closed + 1..opened).contains(at))
        .collect();
    assert_eq!(between, [0; 0], "while it was closed");
    // It is gone with its function, and with itself.
    client.ok("DeleteTrigger", &on("tick", &json!({})));
    client.ok("DeleteFunction", &json!({"FunctionName": "other"}));
    let count = found().len();
    eventually("none is open", || {
        client.metric("virga_timers") == Some(0.0)
    });
    assert!(found().len() <= count + 1);
}

#[test]
fn a_timer_of_an_alias_follows_it() {
    let server = server();
    let client = server.client();
    let says = |word: &str| {
        format!("def main_handler(e, c):\n    print('IS {word}', c['function_version'])\n")
    };
    client.create("fn", &says("one"), json!({}));
    client.ok("PublishVersion", &json!({"FunctionName": "fn"}));
    let alias = |action: &str, version: &str| {
        let request = json!({"FunctionName": "fn", "Name": "live", "FunctionVersion": version});
        client.ok(action, &request);
    };
    alias("CreateAlias", "1");
    each_second(&client, "tick", &json!({"Qualifier": "live"}));
    let says_so = |word: &str| {
        let logs = client.ok(
            "GetFunctionLogs",
            &json!({"FunctionName": "fn", "Limit": 100}),
        );
        logs.to_string().contains(word)
    };
    eventually("the first version runs", || says_so("IS one 1"));
    alias("UpdateAlias", "$LATEST");
    eventually("then the other", || says_so("IS one $LATEST"));
}

#[test]
fn timers_wait_while_the_queue_is_full_and_lose_no_run() {
    let flags = ["--event-store-mb", "1", "--event-throttled-ms", "100"];
    let server = Server::flags(VIRGA, &flags);
    let client = server.client();
    client.create("fn", TELLS, json!({}));
    client.create("full", "def main_handler(e, c):\n    pass\n", json!({}));
    let reserve = json!({"FunctionName": "full", "ReservedConcurrencyMem": 0});
    client.ok("PutReservedConcurrencyConfig", &reserve);
    // In ever smaller events, until a timer's does not fit.
    for size in [120_000, 10_000, 1000, 100] {
        let event = json!({"x": "y".repeat(size)}).to_string();
        let request =
            json!({"FunctionName": "full", "InvocationType": "Event", "ClientContext": event});
        while client.code("Invoke", &request).is_empty() {}
    }
    each_second(&client, "tick", &json!({}));
    let refused = || client.metric("virga_events_refused_total").unwrap_or(0.0);
    let before = refused();
    eventually("it is refused, and again", || refused() > before + 1.0);
    assert_eq!(came(&client, "fn").len(), 0);
    let since = Timestamp::now().as_second();
    client.ok(
        "DeleteReservedConcurrencyConfig",
        &json!({"FunctionName": "full"}),
    );
    let mut found = BTreeMap::new();
    eventually("it goes on", || {
        found = came(&client, "fn");
        found.keys().next_back().is_some_and(|last| *last > since) && missing(&found).is_empty()
    });
    assert!(
        found.keys().next().is_some_and(|first| *first <= since),
        "those that waited came, too"
    );
    assert_each_was_one(&found);
}

#[test]
fn a_clock_that_was_years_ahead_leaves_no_timer_dead() {
    let mut server = server();
    server.expect("the clock was more than a day ahead");
    let client = server.client();
    client.create("fn", TELLS, json!({}));
    each_second(&client, "tick", &json!({}));
    until(&client, "fn", 1);
    server.kill();
    // As a virga leaves it that ran when the clock was ten years ahead.
    let ahead = Timestamp::now().as_second() + 315_360_000;
    let store = server.data().join("timers.sqlite");
    let store = rusqlite::Connection::open(store).expect("a store");
    let write = "INSERT OR REPLACE INTO entry VALUES ('timers/done', ?, 1)";
    let done = json!({"v": 1, "done": ahead}).to_string().into_bytes();
    assert_eq!(store.execute(write, [done]).expect("written"), 1);
    let restarted = Timestamp::now().as_second();
    server.restart();
    let client = server.client();
    eventually("it goes on", || {
        came(&client, "fn").keys().any(|at| *at > restarted)
    });
    assert!(
        server.log().contains("more than a day ahead"),
        "{}",
        server.log()
    );
    assert_each_was_one(&came(&client, "fn"));
}
