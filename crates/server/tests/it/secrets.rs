//! Secrets appear neither on the disk nor in logs nor in errors.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;
use testkit::Server;

use crate::{VIRGA, server};

const HELLO: &str = "import os\ndef main_handler(e, c):\n    return len(os.environ['PASSWORD'])\n";
const PASSWORD: &str = "correct-horse-battery-staple";

/// The files in which a text stands.
fn found(directory: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory)
            .expect("a directory")
            .flatten()
        {
            let path = entry.path();
            let kind = entry.file_type().expect("its kind");
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() {
                let bytes = std::fs::read(&path).unwrap_or_default();
                if bytes
                    .windows(text.len())
                    .any(|part| part == text.as_bytes())
                {
                    found.push(path.display().to_string());
                }
            }
        }
    }
    found
}

#[test]
fn secrets_are_in_no_file_and_no_log() {
    let mut server = Server::flags(VIRGA, &["--log", "trace"]);
    let client = server.client();
    let variables = json!({"Variables": [{"Key": "PASSWORD", "Value": PASSWORD}]});
    client.create("hello", HELLO, json!({"Environment": variables}));
    client.ok("PublishVersion", &json!({"FunctionName": "hello"}));
    let key = client.operate("CreateKey", &json!({})).expect("a key");
    let secret = key["SecretKey"].as_str().expect("text").to_owned();
    let other = client.with_new_key(&key);
    assert_eq!(other.ok("ListFunctions", &json!({}))["TotalCount"], 1);
    // Failures on requests with secrets.
    other
        .with_key(&other.id, "wrong")
        .code("GetFunction", &json!({}));
    other.code("UpdateFunctionConfiguration", &json!({"FunctionName": "hello", "Environment": {"Variables": [{"Key": "SCF_X", "Value": PASSWORD}]}}));
    let master = std::fs::read_to_string(server.data().join("master.key")).expect("the master key");
    let master = master.trim().to_owned();
    let check = |server: &Server| {
        let none: Vec<String> = Vec::new();
        assert_eq!(found(&server.data(), PASSWORD), none);
        assert_eq!(found(&server.data(), &secret), none);
        assert_eq!(
            found(&server.data(), &master),
            [server.data().join("master.key").display().to_string()]
        );
        let operators = client.key.reveal();
        assert_eq!(
            found(&server.data(), operators),
            [server.data().join("credentials.json").display().to_string()]
        );
        let log = server.log();
        for text in [PASSWORD, &secret, &master, operators] {
            assert!(!log.contains(text), "the log holds a secret");
        }
    };
    check(&server);
    server.terminate();
    check(&server);
    server.restart();
    assert_eq!(server.client().answer("hello", &json!({})), PASSWORD.len());
    let again = server.client().with_key(&other.id, &secret);
    assert_eq!(again.code("ListFunctions", &json!({})), "");
}

#[test]
fn store_needs_its_master_key_and_is_re_encrypted_with_a_new_one() {
    let mut server = server();
    let client = server.client();
    let variables = json!({"Variables": [{"Key": "PASSWORD", "Value": PASSWORD}]});
    client.create("hello", HELLO, json!({"Environment": variables}));
    server.terminate();
    let data = server.data();
    let file = data.join("master.key");
    let right = std::fs::read_to_string(&file).expect("the master key");
    assert_eq!(
        std::fs::metadata(&file)
            .expect("there")
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    let other = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n";
    let start = |variable: Option<&str>| {
        let mut command = Server::command("timeout");
        command.args([
            "20",
            VIRGA,
            "up",
            "--listen",
            "127.0.0.1:0",
            "--bucket-listen",
            "off",
            "--network",
            "none",
            "--cgroup",
            "virga-test-sealed",
            "--data",
        ]);
        command.arg(&data);
        if let Some(key) = variable {
            command.env("VIRGA_MASTER_KEY", key);
        }
        let output = command.output().expect("the binary");
        assert_eq!(output.status.code(), Some(3));
        String::from_utf8(output.stderr).expect("text")
    };
    std::fs::remove_file(&file).expect("removed");
    for said in [start(None), start(Some(other))] {
        for part in [
            "sealed with the master key",
            "master.key",
            "VIRGA_MASTER_KEY",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    assert!(
        !file.exists(),
        "no new key is made where it would be of no use"
    );
    std::fs::write(&file, "short\n").expect("written");
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("opened");
    assert!(start(None).contains("chmod 600"));
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("closed");
    assert!(start(None).contains("base64 of 32 bytes"));
    assert!(start(Some("short")).contains("openssl rand -base64 32"));
    // A new key before the old one: all is sealed anew, and the old one can go.
    std::fs::write(&file, format!("{other}{right}")).expect("written");
    server.restart();
    assert_eq!(server.client().answer("hello", &json!({})), PASSWORD.len());
    server.terminate();
    std::fs::write(&file, other).expect("written");
    server.restart();
    assert_eq!(server.client().answer("hello", &json!({})), PASSWORD.len());
}
