//! The command line, as a person and as a program use it.

use std::process::Output;

use serde_json::{Value, json};

use crate::{VIRGA, server};

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn parsed(output: &Output) -> Value {
    assert!(output.status.success(), "{}", err(output));
    serde_json::from_str(&out(output)).expect("JSON in a pipe")
}

#[test]
fn a_function_is_written_deployed_invoked_changed_read_and_deleted() {
    let server = server();
    let directory = tempfile::tempdir().expect("a directory");
    let hello = directory.path().join("hello");
    let path = hello.to_str().expect("a path");
    assert_eq!(parsed(&server.cli(&["new", path]))["Files"][0], "index.py");
    assert_eq!(parsed(&server.cli(&["deploy", path]))["Status"], "Active");
    let invoked = parsed(&server.cli(&["invoke", "hello", "{\"name\": \"rain\"}"]));
    assert!(
        invoked["RetMsg"]
            .as_str()
            .is_some_and(|text| text.contains("\"hello\": \"rain\"")),
        "{invoked}"
    );
    std::fs::write(
        hello.join("index.py"),
        "def main_handler(e, c):\n    print('second')\n    return 2\n",
    )
    .expect("written");
    std::fs::create_dir(hello.join("__pycache__")).expect("made");
    let deployed = parsed(&server.cli(&[
        "deploy",
        path,
        "--memory",
        "256",
        "--env",
        "A=1",
        "--description",
        "changed",
    ]));
    assert_eq!(
        (&deployed["MemorySize"], &deployed["Description"]),
        (&Value::from(256), &Value::from("changed"))
    );
    assert_eq!(parsed(&server.cli(&["invoke", "hello"]))["RetMsg"], "2");
    let logs = server.cli(&["logs", "hello"]);
    assert_eq!(out(&logs).lines().count(), 2);
    let last: Value =
        serde_json::from_str(out(&logs).lines().last().expect("a line")).expect("JSON");
    assert!(
        last["Log"]
            .as_str()
            .is_some_and(|log| log.contains("second\n")),
        "{last}"
    );
    assert_eq!(parsed(&server.cli(&["list"]))[0]["FunctionName"], "hello");
    assert_eq!(
        parsed(&server.cli(&["show", "hello", "--code"]))["CodeInfo"],
        "def main_handler(e, c):\n    print('second')\n    return 2\n"
    );
    assert_eq!(
        parsed(&server.cli(&["delete", "hello"]))["FunctionName"],
        "hello"
    );
    assert_eq!(parsed(&server.cli(&["list"])), Value::Array(Vec::new()));
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let server = server();
    let client = server.client();
    client.create(
        "bad",
        "def main_handler(e, c):\n    raise ValueError\n",
        serde_json::json!({}),
    );
    assert_eq!(server.cli(&["invoke", "bad"]).status.code(), Some(1));
    assert_eq!(server.cli(&["invoke", "--nonsense"]).status.code(), Some(2));
    let missing = server.cli(&["invoke", "nobody"]);
    assert_eq!(missing.status.code(), Some(3));
    assert!(err(&missing).contains("ResourceNotFound.Function"));
    let unreachable = server.cli(&["list", "--endpoint", "http://127.0.0.1:1"]);
    assert_eq!(unreachable.status.code(), Some(3));
    assert!(
        err(&unreachable).contains("virga up"),
        "{}",
        err(&unreachable)
    );
    let stranger = server.cli(&["list", "--data", "/nowhere"]);
    assert_eq!(stranger.status.code(), Some(4));
    assert!(err(&stranger).contains("--data"), "{}", err(&stranger));
}

#[test]
fn a_follower_sees_what_comes() {
    use std::io::{BufRead, BufReader};
    let server = server();
    let client = server.client();
    client.create(
        "fun",
        "def main_handler(e, c):\n    print('number', e['n'])\n",
        serde_json::json!({}),
    );
    client.invoke("fun", &serde_json::json!({"n": 1}));
    let mut follower = std::process::Command::new(VIRGA)
        .args([
            "logs",
            "-f",
            "fun",
            "--endpoint",
            &client.endpoint,
            "--data",
        ])
        .arg(server.data())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the binary");
    let mut lines = BufReader::new(follower.stdout.take().expect("its output")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    assert!(next().contains("number 1"));
    client.invoke("fun", &serde_json::json!({"n": 2}));
    assert!(next().contains("number 2"));
    follower.kill().expect("it ran");
    follower.wait().expect("it ended");
}

#[test]
fn the_doctor_finds_this_host_fit_and_shells_are_completed() {
    let server = server();
    let doctor = server.cli(&["doctor"]);
    let findings: Value = serde_json::from_str(&out(&doctor)).expect("JSON");
    assert!(doctor.status.success(), "{findings}");
    let names: Vec<_> = findings
        .as_array()
        .expect("a list")
        .iter()
        .map(|f| f["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(
        names,
        [
            "privilege",
            "kernel",
            "namespaces",
            "control groups",
            "landlock",
            "network",
            "interpreters"
        ]
    );
    for shell in ["bash", "zsh", "fish"] {
        let script = server.cli(&["completions", shell]);
        assert!(
            script.status.success() && out(&script).contains("deploy"),
            "{shell}"
        );
    }
}

#[test]
fn a_timer_is_made_changed_closed_opened_and_deleted() {
    let server = server();
    server
        .client()
        .create("fn", "def main_handler(e, c):\n    pass\n", json!({}));
    let timer = |more: &[&str]| {
        let words = ["trigger", "timer", "fn", "nightly"];
        server.cli(&[&words, more].concat())
    };
    let made = parsed(&timer(&[
        "0 30 2 * * * *",
        "--message",
        "sleep",
        "--description",
        "at night",
    ]));
    assert_eq!(
        (&made["Enable"], &made["CustomArgument"]),
        (&Value::from(1), &Value::from("sleep"))
    );
    let changed = parsed(&timer(&["0 45 2 * * * *"]));
    assert_eq!(changed["TriggerDesc"], "{\"cron\":\"0 45 2 * * * *\"}");
    assert_eq!(
        (&changed["CustomArgument"], &changed["Description"]),
        (&Value::from("sleep"), &Value::from("at night"))
    );
    parsed(&server.cli(&["trigger", "close", "fn", "nightly"]));
    let listed = server.cli(&["trigger", "list", "fn", "--text"]);
    assert!(
        out(&listed).contains("nightly  timer  closed  $LATEST"),
        "{}",
        out(&listed)
    );
    parsed(&server.cli(&["trigger", "open", "fn", "nightly"]));
    assert_eq!(
        parsed(&server.cli(&["trigger", "list", "fn"]))[0]["Enable"],
        1
    );
    let wrong = timer(&["61 * * * * * *"]);
    assert_eq!(wrong.status.code(), Some(3));
    assert!(
        err(&wrong).contains("second \"61\" is not allowed; 0 to 59"),
        "{}",
        err(&wrong)
    );
    parsed(&server.cli(&["trigger", "delete", "fn", "nightly"]));
    for task in ["delete", "open", "close"] {
        let gone = server.cli(&["trigger", task, "fn", "nightly"]);
        assert_eq!(gone.status.code(), Some(2), "{task}");
        assert!(
            err(&gone).contains("virga trigger list fn"),
            "{}",
            err(&gone)
        );
    }
    let nobody = server.cli(&["trigger", "list", "nobody"]);
    assert_eq!(nobody.status.code(), Some(3), "{}", err(&nobody));
}

#[test]
fn triggers_of_buckets_and_urls_are_made_once() {
    let server = server();
    let client = server.client();
    client.create(
        "fn",
        "def main_handler(e, c):\n    return 'ran'\n",
        json!({}),
    );
    let cos = |more: &[&str]| server.cli(&[&["trigger", "cos", "fn"], more].concat());
    let host = "photos-1250000000.cos.ap-guangzhou.myqcloud.com";
    let made = parsed(&cos(&["photos", "--prefix", "in/", "--suffix", ".jpg"]));
    assert_eq!(made["TriggerName"], host);
    let desc = r#"{"event":"cos:ObjectCreated:*","filter":{"Prefix":"in/","Suffix":".jpg"}}"#;
    assert_eq!(made["TriggerDesc"], desc);
    for bucket in ["photos", "photos-1250000000", host] {
        let again = cos(&[bucket, "--prefix", "in/", "--suffix", ".jpg", "--text"]);
        assert!(
            out(&again).starts_with("there is a trigger"),
            "{}",
            out(&again)
        );
    }
    parsed(&cos(&["photos", "--event", "cos:ObjectRemove:*"]));
    let overlaps = cos(&["photos", "--prefix", "in/2026/"]);
    assert_eq!(overlaps.status.code(), Some(3));
    assert!(
        err(&overlaps).contains("ResourceInUse.Cos"),
        "{}",
        err(&overlaps)
    );
    let strange = cos(&["photos-1250000009.cos.ap-guangzhou.myqcloud.com"]);
    assert!(err(&strange).contains("TriggerName"), "{}", err(&strange));

    let url = |more: &[&str]| server.cli(&[&["trigger", "url", "fn"], more].concat());
    let signed = parsed(&url(&[]));
    let open = parsed(&url(&["--callers", "everybody"]));
    assert_eq!(signed["TriggerName"], open["TriggerName"]);
    let shown = out(&url(&["--callers", "everybody", "--text"]));
    let path = shown.split_once("/url/").expect("a path").1.trim();
    let answer = client.get(&format!("/url/{path}"));
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (200, &b"\"ran\""[..])
    );
    let types: Vec<_> = parsed(&server.cli(&["trigger", "list", "fn"]))
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["Type"].clone())
        .collect();
    assert_eq!(types, ["cos", "cos", "http"]);
}
