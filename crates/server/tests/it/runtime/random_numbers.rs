//! Random numbers of instances that are forks of one zygote.

use super::*;

#[test]
fn no_two_instances_draw_the_same_random_numbers() {
    let server = server();
    let client = server.client();
    // Random numbers after a fork depend on the version of Python; each installed one must be right.
    let doctor = server.cli(&["doctor"]);
    let findings: Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    let found = findings
        .as_array()
        .expect("a list")
        .iter()
        .find(|finding| finding["name"] == "interpreters");
    let list = found
        .and_then(|finding| finding["detail"].as_str())
        .expect("interpreters");
    for interpreter in list.split(", ") {
        let runtime = interpreter.split(' ').next().expect("a version");
        // Only a Python is a copy of another.
        if !runtime.starts_with("Python") {
            continue;
        }
        draw_in_many(&client, runtime);
    }
}

fn draw_in_many(client: &Client, runtime: &str) {
    let source = r#"
import os, random, secrets, ssl, time, uuid
drawn = [random.random(), ssl.RAND_bytes(16).hex(), str(uuid.uuid4()), secrets.token_hex(), os.urandom(8).hex()]
def main_handler(event, context):
    mine = drawn + [ssl.RAND_bytes(16).hex(), random.random()]
    drawn.clear()  # Another request on this instance draws anew.
    time.sleep(0.5)
    return mine
"#;
    let name = format!("draws-{}", runtime.replace('.', "-"));
    client.create(&name, source, json!({"Timeout": 30, "Runtime": runtime}));
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (client, name) = (client.clone(), name.clone());
            std::thread::spawn(move || client.answer(&name, &json!({})))
        })
        .collect();
    let mut drawn = Vec::new();
    for call in calls {
        let answer = call.join().expect("an answer");
        drawn.extend(
            answer
                .as_array()
                .expect("a list")
                .iter()
                .map(Value::to_string),
        );
    }
    let count = drawn.len();
    drawn.sort();
    drawn.dedup();
    assert_eq!(
        (drawn.len(), count >= 7 * 4),
        (count, true),
        "some were drawn twice"
    );
}
