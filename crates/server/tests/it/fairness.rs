//! Between accounts: what one does keeps no other from its first call.

use std::thread;

use serde_json::{Value, json};
use testkit::{Client, Server, eventually};

use crate::VIRGA;

const SLEEPS: &str =
    "import time\ndef main_handler(e, c):\n    time.sleep(e.get('s', 0))\n    return 'done'\n";
const STARTS_SLOWLY: &str =
    "import time\ntime.sleep(30)\ndef main_handler(e, c):\n    return 'done'\n";

fn account(operator: &Client, name: &str) -> Client {
    let created = operator.operate("CreateAccount", &json!({"Name": name}));
    operator.with_new_key(&created.expect("an account")["Key"])
}

fn gauge(client: &Client, state: &str) -> f64 {
    let name = format!("virga_instances{{state=\"{state}\"}}");
    client.metric(&name).unwrap_or(0.0)
}

/// Calls that are under way until virga ends.
fn call(client: &Client, count: usize, event: &Value) {
    for _ in 0..count {
        let client = client.clone();
        let request = json!({"FunctionName": "fun", "ClientContext": event.to_string()});
        thread::spawn(move || client.attempt("Invoke", &request));
    }
}

#[test]
fn long_calls_of_one_account_leave_capacity_for_the_first_call_of_each_other_account() {
    let flags = ["--node-memory-mb", "1024", "--wait", "2"];
    let server = Server::flags(VIRGA, &flags);
    server.expect("some requests did not complete within the drain timeout");
    let operator = server.client();
    let greedy = account(&operator, "greedy");
    let others = ["one", "other"].map(|name| account(&operator, name));
    for client in others.iter().chain([&greedy]) {
        client.create("fun", SLEEPS, json!({"Timeout": 60}));
    }
    call(&greedy, 20, &json!({"s": 30}));
    eventually("all that it may have is busy", || {
        gauge(&operator, "busy") == 6.0
    });
    for other in &others {
        // The wait of a call without free capacity would be over before any of the others ends.
        assert_eq!(other.answer("fun", &json!({})), "done");
    }
    // And now both at once, for as long.
    for other in &others {
        call(other, 1, &json!({"s": 30}));
    }
    eventually("each has one", || gauge(&operator, "busy") == 8.0);
}

#[test]
fn slow_starts_of_one_account_do_not_delay_the_first_of_another() {
    let flags = ["--max-starting", "1", "--node-memory-mb", "2048"];
    let server = Server::flags(VIRGA, &flags);
    server.expect("some requests did not complete within the drain timeout");
    let operator = server.client();
    let slow = account(&operator, "slow");
    let settings = json!({"Timeout": 60, "InitTimeout": 60});
    slow.create("fun", STARTS_SLOWLY, settings);
    call(&slow, 4, &json!({}));
    eventually("it starts", || gauge(&operator, "starting") == 1.0);
    operator.create("fun", SLEEPS, json!({}));
    assert_eq!(operator.answer("fun", &json!({})), "done");
    assert_eq!(gauge(&operator, "starting"), 1.0, "the other one still is");
}

#[test]
fn account_quotas_are_capped_by_node_memory() {
    let server = Server::flags(VIRGA, &["--node-memory-mb", "1024"]);
    let client = server.client();
    let account = client.ok("GetAccount", &json!({}));
    let usage = &account["AccountUsage"];
    assert_eq!(usage["TotalConcurrencyMem"], 1024);
    assert_eq!(usage["UserConcurrencyMemLimit"], 1024);
    let total = |mb: u32| {
        let set = json!({"TotalConcurrencyMem": mb});
        client.call("PutTotalConcurrencyConfig", &set).is_ok()
    };
    // The unreserved quota is at least a tenth of it, as in SCF.
    assert!(!total(1025) && !total(101) && total(102) && total(1024));
}

#[test]
fn events_of_one_account_leave_queue_capacity_for_another() {
    let server = Server::flags(VIRGA, &["--event-store-mb", "1"]);
    let operator = server.client();
    let [greedy, other] = ["greedy", "other"].map(|name| account(&operator, name));
    for client in [&greedy, &other] {
        client.create("fun", SLEEPS, json!({}));
    }
    let stop = json!({"FunctionName": "fun", "ReservedConcurrencyMem": 0});
    greedy.ok("PutReservedConcurrencyConfig", &stop);
    let event = |size: usize| {
        let event = json!({"x": "y".repeat(size)}).to_string();
        json!({"FunctionName": "fun", "InvocationType": "Event", "ClientContext": event})
    };
    for size in [100_000, 1000, 10] {
        while greedy.code("Invoke", &event(size)).is_empty() {}
    }
    let refused = greedy.call("Invoke", &event(10)).expect_err("refused");
    assert_eq!(refused.code, "RequestLimitExceeded");
    assert!(
        refused.message.contains("the account's quota"),
        "{refused:?}"
    );
    for client in [&greedy, &other] {
        let timer = json!({"FunctionName": "fun", "TriggerName": "tick", "Type": "timer",
            "TriggerDesc": "* * * * * * *", "Enable": "OPEN"});
        client.ok("CreateTrigger", &timer);
    }
    let delivered = || {
        operator
            .metric("virga_events_delivered_total")
            .unwrap_or(0.0)
    };
    let before = delivered();
    other.ok("Invoke", &event(100_000));
    // The timer of the one is refused all the while.
    eventually("the event has run, and the timer goes on", || {
        delivered() > before + 4.0
    });
}
