//! From nothing to many instances and back.

use std::collections::HashSet;
use std::thread;

use serde_json::{Value, json};
use testkit::{Client, Server, eventually};

use crate::VIRGA;

const SLEEPS: &str = "import os, time, uuid\nme = str(uuid.uuid4())\ndef main_handler(e, c):\n    time.sleep(e.get('s', 0))\n    return me\n";

fn gauge(client: &Client, state: &str) -> f64 {
    client
        .metric(&format!("virga_instances{{state=\"{state}\"}}"))
        .unwrap_or(0.0)
}

fn all(client: &Client, count: usize, event: &Value) -> Vec<Value> {
    let calls: Vec<_> = (0..count)
        .map(|_| {
            let (client, event) = (client.clone(), event.clone());
            thread::spawn(move || client.invoke("fun", &event))
        })
        .collect();
    calls
        .into_iter()
        .map(|call| call.join().expect("an answer"))
        .collect()
}

#[test]
fn instances_start_on_demand_freeze_and_stop_after_keep_alive() {
    let server = Server::flags(VIRGA, &["--keep-alive", "2", "--freeze-after-ms", "50"]);
    let client = server.client();
    client.create("fun", SLEEPS, json!({"Timeout": 10}));
    let results = all(&client, 20, &json!({"s": 4.0}));
    let homes: HashSet<_> = results
        .iter()
        .map(|result| result["RetMsg"].to_string())
        .collect();
    assert_eq!(homes.len(), 20, "one request at a time each: {results:?}");
    eventually("the idle ones are frozen", || {
        gauge(&client, "frozen") == 20.0
    });
    // A frozen instance serves again, with its module as it was.
    let again = client.invoke("fun", &json!({}));
    assert!(homes.contains(&again["RetMsg"].to_string()), "{again}");
    eventually("all are gone", || {
        ["idle", "frozen", "busy", "starting"]
            .iter()
            .all(|state| gauge(&client, state) == 0.0)
    });
    let fresh = client.invoke("fun", &json!({}));
    assert!(
        !homes.contains(&fresh["RetMsg"].to_string()),
        "from zero again: {fresh}"
    );
}

#[test]
fn formerly_short_function_that_blocks_gets_one_instance_per_request() {
    let server = Server::flags(VIRGA, &["--short-request-concurrency", "2"]);
    let client = server.client();
    let source = "import time\ndef main_handler(e, c):\n    begun = time.time()\n    if e.get('s'):\n        time.sleep(e['s'])\n    return [begun, time.time()]\n";
    client.create("fun", source, json!({"Timeout": 20}));
    // So many that it has been seen what they are like.
    for _ in 0..300 {
        client.answer("fun", &json!({}));
    }
    let results = all(&client, 12, &json!({"s": 5.0}));
    let spans: Vec<[f64; 2]> = results
        .iter()
        .map(|result| {
            let text = result["RetMsg"].as_str().unwrap_or_default();
            serde_json::from_str(text).unwrap_or_else(|e| panic!("{result}: {e}"))
        })
        .collect();
    let last_begun = spans.iter().map(|span| span[0]).fold(f64::MIN, f64::max);
    let first_ended = spans.iter().map(|span| span[1]).fold(f64::MAX, f64::min);
    assert!(last_begun < first_ended, "all at a time: {spans:?}");
}

#[test]
fn idle_instances_use_no_processor() {
    let server = Server::flags(VIRGA, &["--freeze-after-ms", "20"]);
    let client = server.client();
    let source = r#"
import threading, time
n = 0
def spin():
    global n
    while True: n += 1
threading.Thread(target=spin, daemon=True).start()
def main_handler(event, context):
    return n
"#;
    client.create("fun", source, json!({}));
    client.answer("fun", &json!({}));
    eventually("it is frozen", || gauge(&client, "frozen") == 1.0);
    let ticks = || {
        server
            .processes()
            .iter()
            .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok())
            .filter_map(|stat| {
                let fields: Vec<_> = stat.rsplit(')').next()?.split_whitespace().collect();
                Some(fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?)
            })
            .sum::<u64>()
    };
    // The next sandboxes may still be made; one that spins would take fifty each time.
    eventually("five ticks of 10 ms at most in half a second", || {
        let before = ticks();
        thread::sleep(std::time::Duration::from_millis(500));
        // Less than before, where one has ended.
        ticks().checked_sub(before).is_some_and(|used| used <= 5)
    });
    assert!(
        client
            .answer("fun", &json!({}))
            .as_u64()
            .is_some_and(|n| n > 0)
    );
}

#[test]
fn requests_over_the_quota_queue_and_are_then_throttled() {
    let server = Server::flags(VIRGA, &["--limits", "concurrency_mb=256", "--wait", "2"]);
    let client = server.client();
    client.create("fun", SLEEPS, json!({"Timeout": 20}));
    // How long a start takes is no part of a wait.
    all(&client, 2, &json!({"s": 0.5}));
    // Two at a time; the third and fourth wait for them.
    let results = all(&client, 4, &json!({"s": 0.5}));
    let homes: HashSet<_> = results
        .iter()
        .map(|result| result["RetMsg"].to_string())
        .collect();
    assert!(
        results.iter().all(|result| result["InvokeResult"] == 0),
        "{results:?}"
    );
    assert_eq!(homes.len(), 2);
    // Requests that would wait too long are refused.
    let results = all(&client, 3, &json!({"s": 6}));
    let refused: Vec<_> = results
        .iter()
        .filter(|result| result["InvokeResult"] == -1)
        .collect();
    assert_eq!(refused.len(), 1, "{results:?}");
    let document: Value =
        serde_json::from_str(refused[0]["RetMsg"].as_str().expect("text")).expect("JSON");
    assert_eq!(document["statusCode"], 432);
    assert_eq!(
        document["errorMessage"],
        "Function [ fun ] concurrency exceeded region unreserved quota 256MB"
    );
    // A function that cannot fit at all is refused at once.
    client.create("huge", SLEEPS, json!({"MemorySize": 384}));
    let document = client.invoke("huge", &json!({}));
    assert!(
        document["RetMsg"]
            .as_str()
            .is_some_and(|text| text.contains("432")),
        "{document}"
    );
}

#[test]
fn a_killed_instance_answers_its_request_and_is_replaced() {
    let server = Server::start(VIRGA);
    server.expect("a zygote failed; starting another");
    server.expect("failed to make a pre-warmed sandbox");
    server.expect("failed to start an instance");
    let client = server.client();
    let source = "import os, time\ndef main_handler(e, c):\n    if e.get('die'): os.kill(os.getpid(), 9)\n    return os.getpid()\n";
    client.create("fun", source, json!({}));
    client.answer("fun", &json!({}));
    let result = client.invoke("fun", &json!({"die": true}));
    let document: Value =
        serde_json::from_str(result["RetMsg"].as_str().expect("text")).expect("JSON");
    assert_eq!(document["statusCode"], 439, "{result}");
    client.answer("fun", &json!({}));
    // The whole process tree of a zygote can go, too.
    let zygote = server
        .log()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["fields"]["message"] == "zygote started")
        .filter_map(|line| line["fields"]["pid"].as_u64())
        .next_back()
        .expect("a zygote");
    let killed = std::process::Command::new("kill")
        .args(["-9", &zygote.to_string()])
        .status();
    assert!(killed.is_ok_and(|status| status.success()));
    eventually("it is served again", || {
        client.invoke("fun", &json!({}))["InvokeResult"] == 0
    });
}

#[test]
fn busy_function_leaves_capacity_for_others() {
    let server = Server::flags(VIRGA, &["--limits", "concurrency_mb=256", "--wait", "30"]);
    let client = server.client();
    client.create("fun", SLEEPS, json!({"Timeout": 20}));
    client.create(
        "other",
        "def main_handler(e, c):\n    return 'served'\n",
        json!({}),
    );
    let busy = {
        let client = client.clone();
        thread::spawn(move || all(&client, 40, &json!({"s": 0.4})))
    };
    eventually("it is busy", || gauge(&client, "busy") == 2.0);
    assert_eq!(client.answer("other", &json!({})), "served");
    assert!(!busy.is_finished(), "the busy one was not done before");
    let results = busy.join().expect("answers");
    assert!(
        results.iter().all(|result| result["InvokeResult"] == 0),
        "{results:?}"
    );
}

/// The last number in a file of the control group that a function read of itself, which has a name under each version.
fn of_group(groups: &serde_json::Value, names: [&str; 2]) -> u64 {
    let groups = groups.as_str().expect("text");
    // Version 2 has one line without a controller's name; version 1 one for each.
    let path = groups
        .lines()
        .find(|line| {
            line.split(':')
                .nth(1)
                .is_some_and(|names| names.split(',').any(|name| name == "cpu"))
        })
        .or_else(|| groups.lines().find(|line| line.starts_with("0::")))
        .and_then(|line| line.splitn(3, ':').nth(2))
        .expect("a path");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let points = mounts
        .lines()
        .filter(|line| line.contains(" - cgroup"))
        .filter_map(|line| line.split(' ').nth(4));
    let number = |file: String| {
        let text = std::fs::read_to_string(file).ok()?;
        text.split_whitespace().last()?.parse::<u64>().ok()
    };
    points
        .flat_map(|point| names.map(|name| format!("{point}{path}/{name}")))
        .find_map(number)
        .expect("a number")
}

fn weight(groups: &serde_json::Value) -> u64 {
    of_group(groups, ["cpu.shares", "cpu.weight"])
}

/// Microseconds.
fn period(groups: &serde_json::Value) -> u64 {
    of_group(groups, ["cpu.cfs_period_us", "cpu.max"])
}

#[test]
fn processor_weight_grows_with_memory() {
    let server = Server::start(VIRGA);
    let client = server.client();
    let share = |memory: u32| {
        let name = format!("m{memory}");
        let source = "def main_handler(e, c):\n    return open('/proc/self/cgroup').read()\n";
        client.create(&name, source, json!({"MemorySize": memory}));
        weight(&client.answer(&name, &json!({})))
    };
    let (small, large) = (share(128), share(1024));
    let ratio = large as f64 / small as f64;
    assert!(
        (7.5..=8.5).contains(&ratio),
        "{small} at 128 MB, {large} at 1024 MB"
    );
}

#[test]
fn long_request_yields_the_processor_to_a_new_one() {
    let server = Server::start(VIRGA);
    let client = server.client();
    let source = "import time\ndef main_handler(e, c):\n    time.sleep(e['s'])\n    return open('/proc/self/cgroup').read()\n";
    client.create("fun", source, json!({"Timeout": 4}));
    let groups = client.answer("fun", &json!({"s": 0}));
    let ordinary = weight(&groups);
    let yields = || weight(&groups) <= ordinary / 10 && period(&groups) == 1_000_000;
    std::thread::scope(|scope| {
        let long = scope.spawn(|| client.answer("fun", &json!({"s": 2})));
        eventually("it yields", yields);
        assert_eq!(long.join().expect("an answer"), groups, "one instance");
    });
    let of = |groups: &_| (weight(groups), period(groups));
    let anew = (ordinary, 100_000);
    assert_eq!(of(&groups), anew, "the next request begins anew");
    // So does a request after one that ended meanwhile.
    let request = json!({"FunctionName": "fun", "ClientContext": "{\"s\": 30}"});
    let result = client.ok("Invoke", &request)["Result"].take();
    let why = result["ErrMsg"].as_str().expect("a reason");
    assert!(why.contains("timed out"), "{why}");
    for number in 0..8 {
        let name = format!("next{number}");
        client.create(&name, source, json!({}));
        let next = client.answer(&name, &json!({"s": 0}));
        assert_eq!(of(&next), anew, "of an instance after it");
    }
}

#[test]
fn many_busy_threads_are_confined_to_the_processors_of_their_limit() {
    let server = Server::start(VIRGA);
    let client = server.client();
    // Works until its processors are others than before, or for so long.
    let source = "\
import threading, time
def processors():
    return next(line.split()[1] for line in open('/proc/self/status') if line.startswith('Cpus_allowed_list'))
def main_handler(e, c):
    before, until, over = processors(), time.monotonic() + e['seconds'], threading.Event()
    def work():
        if e['idle']: over.wait()
        while not over.is_set(): pass
    threads = [threading.Thread(target=work) for _ in range(e['threads'])]
    for thread in threads: thread.start()
    while processors() == before and time.monotonic() < until: time.sleep(0.05)
    found = processors()
    over.set()
    for thread in threads: thread.join()
    return [before, found]
";
    client.create("fun", source, json!({"Timeout": 30}));
    let call = |event| client.answer("fun", &event);
    let crowd = call(json!({"threads": 8, "idle": false, "seconds": 20}));
    let (all, found) = (&crowd[0], &crowd[1]);
    let one = |list: &Value| {
        list.as_str()
            .is_some_and(|list| list.parse::<u32>().is_ok())
    };
    assert!(one(found), "a function of this size may use one: {crowd}");
    for few in [
        json!({"threads": 1, "idle": false, "seconds": 0.5}),
        json!({"threads": 8, "idle": true, "seconds": 0.5}),
    ] {
        assert_eq!(call(few.clone()), json!([all, all]), "{few}");
    }
}

#[test]
fn number_of_pre_warmed_sandboxes_follows_demand() {
    let python = std::fs::canonicalize("/usr/bin/python3").expect("a Python");
    let python = python.to_str().expect("a path");
    let flags = ["--prewarm", "1", "--keep-alive", "1", "--python", python];
    let server = Server::flags(VIRGA, &flags);
    let client = server.client();
    client.create("fun", SLEEPS, json!({"Timeout": 10}));
    eventually("one is ready", || server.processes().len() == 1);
    all(&client, 12, &json!({"s": 1.0}));
    let gone = || {
        ["idle", "frozen", "busy", "starting"]
            .iter()
            .all(|state| gauge(&client, state) == 0.0)
    };
    eventually("the instances are gone and more are ready", || {
        gone() && (2..=4).contains(&server.processes().len())
    });
    eventually("one is ready again", || server.processes().len() == 1);
}
