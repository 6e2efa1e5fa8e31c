//! Where instances come from, and what they have of each other.

use std::process::Command;

use serde_json::{Value, json};
use testkit::{Client, Server, eventually};

use crate::{VIRGA, server};

/// Process numbers of the zygotes that were started, in order.
fn zygotes(server: &Server) -> Vec<u64> {
    let lines = server.log();
    let started = lines
        .lines()
        .filter(|line| line.contains("\"zygote started\""));
    let pid = |line| serde_json::from_str::<Value>(line).ok()?["fields"]["pid"].as_u64();
    started.filter_map(pid).collect()
}

const WHO: &str = "import uuid\nme = str(uuid.uuid4())\ndef main_handler(e, c):\n    return me\n";

fn who(client: &Client) -> Value {
    client.answer("who", &json!({}))
}

#[test]
fn a_zygote_is_a_single_thread_and_not_the_first_process_of_anything() {
    let server = server();
    let client = server.client();
    client.create("who", WHO, json!({}));
    who(&client);
    for pid in zygotes(&server) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_default()
        };
        assert_eq!(field("Threads:").trim(), "1");
        assert!(
            field("NSpid:")
                .split_whitespace()
                .all(|number| number != "1"),
            "{status}"
        );
    }
}

#[test]
fn zygote_keeps_no_descriptor_of_its_forks() {
    const INSTANCES: usize = 16;
    let server = server();
    let client = server.client();
    for number in 0..INSTANCES {
        let name = format!("who{number}");
        client.create(&name, WHO, json!({}));
        client.answer(&name, &json!({}));
    }
    let few = |pid| {
        let kept = std::fs::read_dir(format!("/proc/{pid}/fd"));
        kept.expect("it lives").count() < INSTANCES
    };
    // While it makes one it has what that is made of.
    eventually("all are given away", || {
        zygotes(&server).into_iter().all(few)
    });
}

#[test]
fn a_zygote_that_dies_is_followed_by_another() {
    let server = server();
    server.expect("a zygote failed; starting another");
    server.expect("failed to make a pre-warmed sandbox");
    server.expect("failed to start an instance");
    let client = server.client();
    client.create("who", WHO, json!({"Runtime": "Python3.9"}));
    let before = who(&client);
    let found = zygotes(&server);
    for pid in &found {
        let killed = Command::new("kill")
            .args(["-KILL", &pid.to_string()])
            .status();
        assert!(killed.is_ok_and(|status| status.success()));
    }
    // Its instances end with it, so that none is left without a keeper.
    eventually("the instance has ended", || {
        // Busy counts: it is that for a moment after it has answered.
        let states = ["busy", "idle", "frozen"];
        let count = |state| client.metric(&format!("virga_instances{{state=\"{state}\"}}"));
        states.iter().filter_map(count).sum::<f64>() == 0.0
    });
    assert_ne!(who(&client), before);
    assert!(zygotes(&server).len() > found.len());
}

#[test]
fn zygotes_are_renewed_while_their_forks_live_on() {
    let server = Server::flags(VIRGA, &["--zygote-forks", "5"]);
    let client = server.client();
    let python = json!({"Runtime": "Python3.9"});
    client.create("who", WHO, python.clone());
    let before = who(&client);
    let first = zygotes(&server);
    let mut count = 0;
    let mut cold_start = || {
        let name = format!("other-{count}");
        client.create(&name, WHO, python.clone());
        client.answer(&name, &json!({}));
        client.ok("DeleteFunction", &json!({"FunctionName": name}));
        count += 1;
    };
    eventually("it was renewed more than once", || {
        cold_start();
        zygotes(&server).len() >= first.len() + 3
    });
    assert_eq!(
        who(&client),
        before,
        "an instance of the first one serves on"
    );
    client.ok("DeleteFunction", &json!({"FunctionName": "who"}));
    eventually("the first one goes with the last that it made", || {
        cold_start();
        let lives = |pid: &u64| std::fs::exists(format!("/proc/{pid}/stat")).unwrap_or(false);
        !first.iter().all(lives)
    });
}

/// Looks through all of its own memory for what begins like the secret, and says how often the rest is the secret's.
const SEARCHES: &str = r#"
import hashlib
kept = []
def main_handler(event, context):
    if "secret" in event:
        kept.append(event["secret"])
    begins, rest, found = event["begins"].encode(), event["rest"], 0
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            place, rights = line.split()[:2]
            if "r" not in rights or "[v" in line:
                continue
            start, end = (int(part, 16) for part in place.split("-"))
            memory.seek(start)
            while start < end:
                chunk = memory.read(min(end - start, 1 << 20))
                at = chunk.find(begins)
                while at >= 0:
                    if hashlib.sha256(chunk[at + 16:at + 64]).hexdigest() == rest:
                        found += 1
                    at = chunk.find(begins, at + 1)
                start += len(chunk)
    return found
"#;

#[test]
fn nothing_of_one_instances_memory_is_in_another() {
    use sha2::Digest;
    let server = server();
    let client = server.client();
    for name in ["first", "second"] {
        client.create(name, SEARCHES, json!({"Timeout": 30, "MemorySize": 256}));
    }
    let secret: String = (0..64u32)
        .map(|n| char::from(b'a' + ((n * 7 + n / 5) % 26) as u8))
        .collect();
    let rest = sha2::Sha256::digest(&secret.as_bytes()[16..]);
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    let search = json!({"begins": &secret[..16], "rest": rest});
    let mut with_secret = search.clone();
    with_secret["secret"] = secret.as_str().into();
    assert!(
        client
            .answer("first", &with_secret)
            .as_u64()
            .is_some_and(|n| n > 0),
        "the search finds the secret in its own instance"
    );
    // Sandboxes that were pre-warmed before, and ones made after; while the first lives, and after its end.
    for round in 0..2 {
        for _ in 0..6 {
            assert_eq!(client.answer("second", &search), 0);
            client.ok("DeleteFunction", &json!({"FunctionName": "second"}));
            client.create(
                "second",
                SEARCHES,
                json!({"Timeout": 30, "MemorySize": 256}),
            );
        }
        if round == 0 {
            client.ok("DeleteFunction", &json!({"FunctionName": "first"}));
        }
    }
}

/// Runs a function whose process takes a name that the host sees, and returns the parent of that process.
fn parent_of_instance(client: &Client, function: &str, mark: &str) -> u64 {
    // The kernel keeps 15 characters.
    assert!(mark.len() <= 15);
    let source = format!(
        "import ctypes\ndef main_handler(e, c):\n    return ctypes.CDLL(None).prctl(15, b'{mark}', 0, 0, 0)\n"
    );
    client.create(function, &source, json!({"Runtime": "Python3.9"}));
    assert_eq!(client.answer(function, &json!({})), 0);
    let mut processes = std::fs::read_dir("/proc").expect("processes").flatten();
    let found = processes.find_map(|process| {
        let status = std::fs::read_to_string(process.path().join("status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(|line| line.trim().to_owned())
        };
        (field("Name:")? == mark).then(|| field("PPid:")?.parse().ok())?
    });
    found.expect("the function's process")
}

#[test]
fn two_accounts_never_share_a_zygote() {
    let server = server();
    let client = server.client();
    let account = client.operate("CreateAccount", &json!({"Name": "other"}));
    let other = client.with_new_key(&account.expect("an account")["Key"]);
    let mark = |number: u32| format!("zyg{}-{number}", server.pid());
    // Two functions of each account, alternately, so that a zygote in common would serve either.
    let first = parent_of_instance(&client, "one", &mark(1));
    let others = parent_of_instance(&other, "one", &mark(2));
    let second = parent_of_instance(&client, "two", &mark(3));
    let others_second = parent_of_instance(&other, "two", &mark(4));
    let all = zygotes(&server);
    for parent in [first, second, others, others_second] {
        assert!(all.contains(&parent), "{parent} is none of {all:?}");
    }
    for own in [first, second] {
        assert!(own != others && own != others_second, "{own} serves both");
    }
}
