//! Changes while requests run, restarts, and ends of every kind.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Client, Options, Server, eventually, package};

use crate::{VIRGA, server};

const WAITS: &str = r#"
import os, time
def main_handler(event, context):
    print("begun", flush=True)
    end = time.time() + event.get("s", 0)
    while time.time() < end: time.sleep(0.01)
    return "VERSION"
"#;

fn version(name: &str) -> String {
    WAITS.replace("VERSION", name)
}

/// A request that is running when this returns.
fn running(
    client: &Client,
    name: &str,
    seconds: f64,
) -> thread::JoinHandle<Result<Value, testkit::ApiError>> {
    let busy = || {
        client
            .metric("virga_instances{state=\"busy\"}")
            .unwrap_or(0.0)
    };
    let before = busy();
    let (client_, name) = (client.clone(), name.to_owned());
    let call = thread::spawn(move || {
        client_.call(
            "Invoke",
            &json!({"FunctionName": name, "ClientContext": json!({"s": seconds}).to_string()}),
        )
    });
    eventually("the request runs", || busy() > before);
    call
}

fn answer(call: thread::JoinHandle<Result<Value, testkit::ApiError>>) -> Value {
    call.join().expect("no panic").expect("an answer")["Result"]["RetMsg"].clone()
}

#[test]
fn running_requests_end_on_the_code_they_began_with() {
    let server = server();
    let client = server.client();
    client.create("fun", &version("old"), json!({"Timeout": 30}));
    let call = running(&client, "fun", 1.5);
    client.ok(
        "UpdateFunctionCode",
        &json!({"FunctionName": "fun", "ZipFile": package(&[("index.py", &version("new"))])}),
    );
    assert_eq!(client.answer("fun", &json!({})), "new");
    assert_eq!(answer(call), "\"old\"");
    let call = running(&client, "fun", 1.5);
    client.ok("DeleteFunction", &json!({"FunctionName": "fun"}));
    assert_eq!(
        client.code("Invoke", &json!({"FunctionName": "fun"})),
        "ResourceNotFound.Function"
    );
    assert_eq!(answer(call), "\"new\"");
    // A function of the same name is another function.
    client.create("fun", &version("third"), json!({}));
    assert_eq!(client.answer("fun", &json!({})), "third");
    // Instances of a deleted function end, too.
    eventually("old instances are gone", || {
        server.processes().len() <= 2 + 2 * 4 + 2
    });
}

#[test]
fn everything_survives_a_restart_and_a_kill() {
    let mut server = server();
    let client = server.client();
    client.create("kept", &version("kept"), json!({"MemorySize": 256}));
    client.ok("CreateNamespace", &json!({"Namespace": "more"}));
    let id = client.invoke("kept", &json!({}))["FunctionRequestId"].clone();
    assert!(server.terminate().success());
    server.restart();
    let client = server.client();
    assert_eq!(
        client.ok("GetFunction", &json!({"FunctionName": "kept"}))["MemorySize"],
        256
    );
    assert_eq!(client.answer("kept", &json!({})), "kept");
    let logs = client.ok(
        "GetFunctionLogs",
        &json!({"FunctionName": "kept", "FunctionRequestId": id}),
    );
    assert_eq!(logs["TotalCount"], 1);
    client.create("late", &version("late"), json!({}));
    let call = running(&client, "kept", 20.0);
    server.kill();
    assert!(call.join().is_err(), "its connection is gone");
    eventually("no process outlives virga", || {
        server.processes().is_empty()
    });
    server.restart();
    let client = server.client();
    assert_eq!(client.answer("late", &json!({})), "late");
    assert_eq!(client.ok("ListNamespaces", &json!({}))["TotalCount"], 2);
}

#[test]
fn sigterm_lets_running_requests_end() {
    let mut server = server();
    let client = server.client();
    client.create("fun", &version("done"), json!({"Timeout": 30}));
    let call = running(&client, "fun", 1.0);
    let status = server.terminate();
    assert!(status.success(), "{status}");
    assert_eq!(answer(call), "\"done\"");
    eventually("no process outlives virga", || {
        server.processes().is_empty()
    });
}

#[test]
fn call_that_arrives_during_shutdown_is_refused_without_an_error_in_the_log() {
    let mut server = server();
    let client = server.client();
    client.create("fun", &version("done"), json!({"Timeout": 30}));
    let body = json!({"FunctionName": "fun"}).to_string();
    let head = client.signed_head("Invoke", body.as_bytes(), body.len());
    let head = format!("{head}Expect: 100-continue\r\n\r\n");
    // The running call keeps the server until the other one has its body.
    let call = running(&client, "fun", 3.0);
    let mut late = TcpStream::connect(client.host()).expect("a server");
    late.write_all(head.as_bytes()).expect("sent");
    let mut asked = [0; 25];
    late.read_exact(&mut asked).expect("an answer");
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    server.signal("-TERM");
    eventually("it drains", || {
        server.log().contains("waiting for running requests")
    });
    late.write_all(body.as_bytes()).expect("sent");
    let mut refused = String::new();
    late.read_to_string(&mut refused).expect("an answer");
    assert!(refused.contains("shutting down"), "{refused}");
    assert_eq!(answer(call), "\"done\"");
    assert!(server.wait().success());
    // An ERROR in its log fails the test when it is dropped.
}

#[test]
fn sigterm_during_start_leaves_nothing() {
    let mut server = server();
    server.client().create("fun", &version("there"), json!({}));
    server.terminate();
    for _ in 0..5 {
        server.begin();
        // The first trace of the start, polled without a pause: the rest of a start is short.
        let begun = Instant::now();
        while server.control_groups().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(30), "it never starts");
            thread::yield_now();
        }
        assert!(server.terminate().success());
    }
    server.restart();
    assert_eq!(server.client().answer("fun", &json!({})), "there");
}

#[test]
fn sigterm_has_a_deadline() {
    let mut server = Server::flags(VIRGA, &["--drain-timeout", "1"]);
    server.expect("some requests did not complete within the drain timeout");
    let client = server.client();
    client.create("fun", &version("never"), json!({"Timeout": 60}));
    let call = running(&client, "fun", 60.0);
    assert!(server.terminate().success());
    // It was ended; whether its caller still hears of that is a matter of luck.
    if let Ok(Ok(answer)) = call.join() {
        assert_ne!(answer["Result"]["InvokeResult"], 0, "{answer}");
    }
    eventually("no process outlives virga", || {
        server.processes().is_empty()
    });
}

#[test]
fn an_installation_goes_on_after_a_kill() {
    let mut server = server();
    let client = server.client();
    // Building it takes a while, and then fails.
    let files = [
        ("index.py", &*version("ready")),
        ("requirements.txt", "./slow\n"),
        ("slow/pyproject.toml", SLOW),
        ("slow/backend.py", "import time\ntime.sleep(3)\n"),
    ];
    client.ok("CreateFunction", &json!({
        "FunctionName": "fun", "Runtime": "Python3.9", "InstallDependency": "TRUE", "Code": {"ZipFile": package(&files)},
    }));
    assert_eq!(
        client.ok("GetFunction", &json!({"FunctionName": "fun"}))["Status"],
        "Creating"
    );
    assert_eq!(
        client.code(
            "UpdateFunctionConfiguration",
            &json!({"FunctionName": "fun"})
        ),
        "FailedOperation.FunctionStatusError"
    );
    server.kill();
    server.restart();
    let client = server.client();
    // It is made ready anew, and fails for the same reason as it would have.
    assert_eq!(client.wait_until_ready("fun")["Status"], "CreateFailed");
}

const SLOW: &str =
    "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n";

#[test]
fn a_client_that_goes_away_does_not_end_its_request() {
    use std::io::Write;
    let server = server();
    let client = server.client();
    let source = "import time\ndef main_handler(e, c):\n    time.sleep(1)\n    print('went on')\n    return 1\n";
    client.create("fun", source, json!({"Timeout": 10}));
    let body = json!({"FunctionName": "fun"}).to_string();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a time")
        .as_secs() as i64;
    let authorization = scf::tc3::authorization(&scf::tc3::ToSign {
        secret_id: &client.id,
        secret_key: &client.key,
        service: "scf",
        host: &client.host(),
        content_type: "application/json",
        headers: &[],
        payload: body.as_bytes(),
        timestamp: now,
    });
    let mut stream = std::net::TcpStream::connect(client.host()).expect("connected");
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nAuthorization: {authorization}\r\nX-TC-Action: \
         Invoke\r\nX-TC-Version: 2018-04-16\r\nX-TC-Timestamp: {now}\r\nContent-Length: {}\r\n\r\n{body}",
        client.host(),
        body.len()
    )
    .expect("sent");
    eventually("it runs", || {
        client.metric("virga_instances{state=\"busy\"}") == Some(1.0)
    });
    drop(stream);
    eventually("it is logged", || {
        let logs = client.ok("GetFunctionLogs", &json!({"FunctionName": "fun"}));
        logs["Data"][0]["Log"]
            .as_str()
            .is_some_and(|log| log.contains("went on") && log.contains("Response"))
    });
}

#[test]
fn one_virga_per_data_directory_and_secrets_for_their_owner_alone() {
    let mut server = server();
    server.expect("the data directory was open to other users");
    let second = Server::command(VIRGA)
        .args(["up", "--listen", "127.0.0.1:0", "--data"])
        .arg(server.data())
        .output()
        .expect("the binary");
    assert_eq!(second.status.code(), Some(3));
    assert!(
        String::from_utf8_lossy(&second.stderr).contains("another virga uses the data directory")
    );
    let file = server.data().join("credentials.json");
    assert_eq!(
        fs::metadata(&file).expect("there").permissions().mode() & 0o777,
        0o600
    );
    // Settings of functions are secrets, too.
    assert_eq!(
        fs::metadata(server.data())
            .expect("there")
            .permissions()
            .mode()
            & 0o777,
        0o700
    );
    // A directory that others could read is closed, and that is said.
    server.terminate();
    fs::set_permissions(server.data(), fs::Permissions::from_mode(0o755)).expect("opened");
    server.restart();
    let mode = fs::metadata(server.data())
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(server.log().contains("open to other users"));
    let key = server.client().key.reveal().to_owned();
    assert!(!server.ready.contains(&key) && !server.log().contains(&key));
}

#[test]
fn a_full_disk_fails_changes_and_not_calls() {
    let directory = tempfile::tempdir().expect("a directory");
    let small = directory.path().join("small");
    fs::create_dir(&small).expect("made");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=24m", "small"])
        .arg(&small)
        .status()
        .expect("mount");
    assert!(mounted.success());
    let _unmount = Unmount(small.clone());
    let data = small.join("data");
    let flags = vec!["--data".to_owned(), data.display().to_string()];
    let server = Server::with(
        VIRGA,
        Options {
            flags,
            errors: true,
            ..Options::default()
        },
    );
    let text = fs::read(data.join("credentials.json")).expect("credentials");
    let pair: Value = serde_json::from_slice(&text).expect("JSON");
    let part = |name: &str| pair[name].as_str().expect("text");
    let endpoint = server
        .ready
        .split_whitespace()
        .nth(4)
        .expect("an address")
        .to_owned();
    let client = Client::new(&endpoint, part("secret_id"), part("secret_key"));
    client.create("fun", &version("here"), json!({}));
    assert_eq!(client.answer("fun", &json!({})), "here");
    let filler = data.join("filler");
    let mut size = 32 << 20;
    let mut bytes = Vec::new();
    while size > 256 {
        bytes.extend(vec![0; size]);
        if fs::write(&filler, &bytes).is_err() {
            bytes.truncate(bytes.len() - size);
        }
        size /= 2;
    }
    let refused = client
        .call("UpdateFunctionCode", &json!({"FunctionName": "fun", "ZipFile": package(&[("index.py", &version("x")), ("pad", &"p".repeat(1 << 20))])}))
        .expect_err("the disk is full");
    assert_eq!(refused.code, "InternalError", "{}", refused.message);
    assert!(
        refused.message.to_lowercase().contains("no space"),
        "{}",
        refused.message
    );
    assert_eq!(client.answer("fun", &json!({})), "here");
    fs::remove_file(filler).expect("removed");
    eventually("there is free space again", || {
        client.call("UpdateFunctionCode", &json!({"FunctionName": "fun", "ZipFile": package(&[("index.py", &version("there"))])})).is_ok()
    });
    assert_eq!(client.answer("fun", &json!({})), "there");
    drop(server);
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("--lazy")
            .arg(&self.0)
            .status();
    }
}
