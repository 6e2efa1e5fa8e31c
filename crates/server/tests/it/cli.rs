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
    assert_eq!(
        server.client().metric("virga_events_failed_total"),
        Some(0.0)
    );
    assert_eq!(parsed(&server.cli(&["deploy", path]))["Status"], "Active");
    // The newest runtime is asked for, and not guessed.
    let page = server.client().get("/metrics").body;
    let page = String::from_utf8_lossy(&page).into_owned();
    assert!(!page.contains("InvalidParameterValue.Runtime"), "{page}");
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
fn exit_codes_show_the_kind_of_failure() {
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
fn followed_logs_show_new_lines() {
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
fn doctor_passes_on_this_host_and_completions_are_printed() {
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
            "/tmp",
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
    let filter = json!({"Prefix": "in/", "Suffix": ".jpg"});
    let desc = json!({"bucketUrl": host, "event": "cos:ObjectCreated:*", "filter": filter});
    assert_eq!(made["TriggerDesc"], desc.to_string());
    for bucket in ["photos", "photos-1250000000", host] {
        let again = cos(&[bucket, "--prefix", "in/", "--suffix", ".jpg", "--text"]);
        assert!(
            out(&again).starts_with("found a trigger"),
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

/// A directory with a function that returns `answer`, below `parent`.
fn source(parent: &std::path::Path, name: &str, answer: &str) -> String {
    let directory = parent.join(name);
    std::fs::create_dir_all(&directory).expect("made");
    let code = format!("def main_handler(e, c):\n    return '{answer}'\n");
    std::fs::write(directory.join("index.py"), code).expect("written");
    directory.to_str().expect("a path").to_owned()
}

#[test]
fn a_directory_s_name_is_never_cut_to_another_function_s() {
    let server = server();
    let parent = tempfile::tempdir().expect("a directory");
    let path = source(parent.path(), "hi", "first");
    parsed(&server.cli(&["deploy", &path]));
    let other = source(parent.path(), "hi.v2", "second");
    let refused = server.cli(&["deploy", &other]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(err(&refused).contains("--name hi-v2"), "{}", err(&refused));
    assert_eq!(
        parsed(&server.cli(&["invoke", "hi"]))["RetMsg"],
        "\"first\""
    );
}

#[test]
fn deploy_overwrites_a_function_of_another_source_only_when_forced() {
    let server = server();
    let parent = tempfile::tempdir().expect("a directory");
    let one = source(&parent.path().join("one"), "hi", "one");
    let two = source(&parent.path().join("two"), "hi", "two");
    parsed(&server.cli(&["deploy", &one]));
    // The same source again needs no word.
    parsed(&server.cli(&["deploy", &one]));
    for more in [vec!["deploy", &two], vec!["deploy", &two, "--name", "hi"]] {
        let refused = server.cli(&more);
        assert_eq!(refused.status.code(), Some(2));
        assert!(err(&refused).contains("--yes"), "{}", err(&refused));
    }
    let invoked = || parsed(&server.cli(&["invoke", "hi"]))["RetMsg"].clone();
    assert_eq!(invoked(), "\"one\"");
    parsed(&server.cli(&["deploy", &two, "--yes"]));
    assert_eq!(invoked(), "\"two\"");
    // Now it is the second's.
    parsed(&server.cli(&["deploy", &two]));
    assert_eq!(server.cli(&["deploy", &one]).status.code(), Some(2));
}

#[test]
fn deploy_keeps_settings_that_no_flag_changes() {
    let server = server();
    let parent = tempfile::tempdir().expect("a directory");
    let path = source(parent.path(), "kept", "one");
    // A file of dependencies without any installs nothing and needs no index.
    std::fs::write(parent.path().join("kept/requirements.txt"), "# none\n").expect("written");
    let first = [
        "deploy",
        &path,
        "--install",
        "--env",
        "A=1",
        "--memory",
        "256",
    ];
    assert_eq!(parsed(&server.cli(&first))["InstallDependency"], "TRUE");
    let again = parsed(&server.cli(&["deploy", &path]));
    assert_eq!(again["InstallDependency"], "TRUE");
    assert_eq!(again["Environment"]["Variables"][0]["Key"], "A");
    assert_eq!(again["MemorySize"], 256);
    let off = parsed(&server.cli(&["deploy", &path, "--no-install"]));
    assert_eq!(off["InstallDependency"], "FALSE");
    // What cannot change is refused before anything is changed.
    let modified = off["ModTime"].clone();
    for more in [["--runtime", "Python3.1"], ["--type", "HTTP"]] {
        let refused = server.cli(&[&["deploy", &path], more.as_slice()].concat());
        assert_eq!(refused.status.code(), Some(2), "{}", err(&refused));
        assert!(err(&refused).contains(more[0]), "{}", err(&refused));
    }
    assert_eq!(parsed(&server.cli(&["show", "kept"]))["ModTime"], modified);
}

#[test]
fn secrets_and_ignored_files_are_left_out_of_a_package_with_a_notice() {
    let server = server();
    let parent = tempfile::tempdir().expect("a directory");
    let path = source(parent.path(), "tidy", "one");
    let write = |name: &str, text: &str| {
        std::fs::write(parent.path().join("tidy").join(name), text).expect("written");
    };
    write(".env", "TOKEN=1");
    write(".gitignore", "*.log\n");
    write("debug.log", "x");
    write(
        "index.py",
        "import os\ndef main_handler(e, c):\n    return sorted(n for n in os.listdir('.') if n != '__pycache__')\n",
    );
    let deployed = server.cli(&["deploy", &path]);
    parsed(&deployed);
    let said = err(&deployed);
    assert!(
        said.contains("secrets: .env;") && said.contains("files: debug.log;"),
        "{said}"
    );
    let files = || parsed(&server.cli(&["invoke", "tidy"]))["RetMsg"].clone();
    assert_eq!(files(), r#"["index.py"]"#);
    parsed(&server.cli(&["deploy", &path, "--include", ".env"]));
    assert_eq!(files(), r#"[".env", "index.py"]"#);
}

#[test]
fn showing_a_url_never_changes_its_authentication() {
    let server = server();
    let client = server.client();
    client.create("fn", "def main_handler(e, c):\n    pass\n", json!({}));
    let url = |more: &[&str]| parsed(&server.cli(&[&["trigger", "url", "fn"], more].concat()));
    let open = url(&["--callers", "everybody"]);
    assert_eq!(url(&[])["TriggerDesc"], open["TriggerDesc"]);
    let desc = url(&["--callers", "signed"])["TriggerDesc"].clone();
    assert!(
        desc.as_str().is_some_and(|desc| desc.contains("CAM")),
        "{desc}"
    );
    assert_eq!(url(&[])["TriggerDesc"], desc);
}

#[test]
fn mistaken_arguments_are_reported() {
    let server = server();
    server
        .client()
        .create("fn", "def main_handler(e, c):\n    pass\n", json!({}));
    let nobody = server.cli(&["logs", "nosuch"]);
    assert_eq!(nobody.status.code(), Some(3));
    assert!(
        err(&nobody).contains("ResourceNotFound.Function"),
        "{}",
        err(&nobody)
    );
    let quiet = server.cli(&["logs", "fn"]);
    assert!(quiet.status.success() && err(&quiet).contains("virga invoke fn"));
    let replay = server.cli(&["events", "replay", "--all", "--state", "failed"]);
    assert_eq!(replay.status.code(), Some(3), "{}", out(&replay));
    assert!(
        err(&replay).contains("undelivered, dead"),
        "{}",
        err(&replay)
    );
    let doctor = server.cli(&["doctor", "--text"]);
    assert!(out(&doctor).starts_with("CHECK"), "{}", out(&doctor));
    // An empty variable of a script's must not lead to the operator's key.
    let mut command = testkit::Server::command(VIRGA);
    command
        .args(["list", "--data"])
        .arg(server.data())
        .env("VIRGA_ENDPOINT", &server.client().endpoint)
        .env("VIRGA_SECRET_ID", "");
    let empty = command.output().expect("the binary");
    assert_eq!(empty.status.code(), Some(4), "{}", err(&empty));
    assert!(err(&empty).contains("VIRGA_SECRET_ID"), "{}", err(&empty));
}

#[test]
fn completions_end_quietly_when_nobody_reads_on() {
    let mut child = testkit::Server::command(VIRGA)
        .args(["completions", "bash"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the binary");
    drop(child.stdout.take());
    let ended = child.wait_with_output().expect("it ends");
    assert!(
        ended.status.success() && ended.stderr.is_empty(),
        "{}",
        err(&ended)
    );
}

#[test]
fn single_file_is_called_by_its_own_name() {
    let server = server();
    let parent = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = parent.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("a path").to_owned()
    };
    let python = write(
        "single.py",
        "def main_handler(e, c):\n    return 'python'\n",
    );
    let node = write(
        "alone.mjs",
        "export const main_handler = async () => 'node';\n",
    );
    for (path, name, runtime) in [(&python, "single", "Python3"), (&node, "alone", "Nodejs")] {
        // The second time it is an update.
        for _ in 0..2 {
            let deployed = parsed(&server.cli(&["deploy", path]));
            assert_eq!(deployed["Handler"], format!("{name}.main_handler"));
            let served = deployed["Runtime"].as_str().unwrap_or_default();
            assert!(served.starts_with(runtime), "{served}");
        }
        let invoked = parsed(&server.cli(&["invoke", name]));
        let answer = invoked["RetMsg"].as_str().unwrap_or_default();
        assert!(
            runtime.to_lowercase().starts_with(answer.trim_matches('"')),
            "{invoked}"
        );
    }
    // A name that no handler can have.
    let short = write("n.js", "exports.main_handler = async () => 1;\n");
    let refused = server.cli(&["deploy", &short, "--name", "short"]);
    assert_eq!(refused.status.code(), Some(2), "{}", err(&refused));
    assert!(err(&refused).contains("rename n.js"), "{}", err(&refused));
}

#[test]
fn package_without_its_handler_is_refused_with_what_to_type() {
    let server = server();
    let parent = tempfile::tempdir().expect("a directory");
    let path = source(parent.path(), "app", "one");
    let file = |name: &str| parent.path().join("app").join(name);
    std::fs::rename(file("index.py"), file("main.py")).expect("renamed");
    let refused = |more: &[&str], told: &str| {
        let refused = server.cli(&[&["deploy", &path], more].concat());
        assert_eq!(refused.status.code(), Some(2), "{}", err(&refused));
        assert!(err(&refused).contains(told), "{}", err(&refused));
    };
    refused(&[], "--handler main.main_handler");
    refused(&["--runtime", "CustomRuntime"], "bootstrap");
    refused(&["--type", "HTTP"], "scf_bootstrap");
    assert_eq!(server.cli(&["show", "app"]).status.code(), Some(3));
    // It may be among the dependencies, so it is only said.
    std::fs::write(file("requirements.txt"), "# none\n").expect("written");
    let said = server.cli(&["deploy", &path, "--install"]);
    assert!(err(&said).contains("437"), "{}", err(&said));
    parsed(&said);
    parsed(&server.cli(&[
        "deploy",
        &path,
        "--no-install",
        "--handler",
        "main.main_handler",
    ]));
    assert_eq!(parsed(&server.cli(&["invoke", "app"]))["RetMsg"], "\"one\"");
    // An update keeps the handler, and is refused without its file.
    std::fs::rename(file("main.py"), file("other.py")).expect("renamed");
    refused(&[], "--handler other.main_handler");
    assert_eq!(parsed(&server.cli(&["invoke", "app"]))["RetMsg"], "\"one\"");
    // Both at once mean nothing.
    let both = server.cli(&["deploy", &path, "--install", "--no-install"]);
    assert_eq!(both.status.code(), Some(2));
    assert!(err(&both).contains("--no-install"), "{}", err(&both));
}

#[test]
fn files_that_a_package_cannot_have_are_never_dropped_in_silence() {
    use std::os::unix::ffi::OsStrExt;
    let server = server();
    let parent = tempfile::tempdir().expect("a directory");
    let path = source(parent.path(), "app", "one");
    let made = std::process::Command::new("mkfifo")
        .arg(parent.path().join("app/pipe"))
        .status();
    assert!(made.is_ok_and(|status| status.success()));
    let said = server.cli(&["deploy", &path]);
    parsed(&said);
    assert!(err(&said).contains("pipe"), "{}", err(&said));
    let odd = std::ffi::OsStr::from_bytes(b"caf\xff.txt");
    std::fs::write(parent.path().join("app").join(odd), "x").expect("written");
    let refused = server.cli(&["deploy", &path]);
    assert_eq!(refused.status.code(), Some(2), "{}", err(&refused));
    assert!(err(&refused).contains("UTF-8"), "{}", err(&refused));
}
