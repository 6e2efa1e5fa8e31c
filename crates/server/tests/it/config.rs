//! Options and their sources, and the messages about wrong ones.

use testkit::{Server, base64};

use crate::VIRGA;

#[test]
fn all_problems_are_listed_before_a_port_opens() {
    let output = Server::command(VIRGA)
        .args([
            "up",
            "--listen",
            "nowhere",
            "--keep-alive",
            "soon",
            "--data",
            "/proc/none",
        ])
        .env("VIRGA_PREWARM", "many")
        .output()
        .expect("the binary");
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).expect("text");
    for part in [
        "3 problem(s)",
        "listen (from --listen): \"nowhere\"",
        "keep_alive (from --keep-alive): \"soon\"",
        "prewarm (from VIRGA_PREWARM): \"many\"",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn unusable_settings_are_reported_with_the_fix() {
    let directory = tempfile::tempdir().expect("a directory");
    let run = |flags: &[&str]| {
        // One that starts after all must not be waited for.
        let mut command = Server::command("timeout");
        let command = command
            .args(["20", VIRGA, "up", "--cgroup", "virga-test-config"])
            .args(flags);
        let output = command.output().expect("the binary");
        (
            output.status.code(),
            String::from_utf8(output.stderr).expect("text"),
        )
    };
    let (code, said) = run(&["--data", "/proc/none", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(3));
    assert!(
        said.contains("data directory /proc/none") && said.contains("--data"),
        "{said}"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let data = directory.path().join("data");
    let data = data.to_str().expect("a path");
    let (code, said) = run(&["--data", data, "--listen", &address]);
    assert_eq!(code, Some(3));
    assert!(
        said.contains("cannot listen on") && said.contains("--listen"),
        "{said}"
    );
    let output = Server::command(VIRGA)
        .args(["up", "--data", data, "--listen", "127.0.0.1:0"])
        .env("VIRGA_SECRET_ID", "only")
        .output()
        .expect("the binary");
    assert!(String::from_utf8_lossy(&output.stderr).contains("VIRGA_SECRET_KEY is missing"));
    for rest in ["catalog.sqlite-wal", "catalog.sqlite-shm"] {
        let _ = std::fs::remove_file(directory.path().join("data").join(rest));
    }
    std::fs::write(
        directory.path().join("data/catalog.sqlite"),
        "rubbish".repeat(1000),
    )
    .expect("written");
    let (code, said) = run(&["--data", data, "--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(3));
    assert!(said.contains("catalog.sqlite"), "{said}");
}

#[test]
fn the_environment_and_a_file_configure_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("virga.toml");
    std::fs::write(
        &file,
        "region = \"ap-home\"\nuin = 7\n[limits]\nmemory_max_mb = 256\n",
    )
    .expect("written");
    let server = Server::flags(
        VIRGA,
        &["--config", file.to_str().expect("a path"), "--app-id", "42"],
    );
    let client = server.client();
    client.create("fun", "def main_handler(e, c):\n    return [c['tencentcloud_region'], c['tencentcloud_uin'], c['tencentcloud_appid']]\n", serde_json::json!({}));
    assert_eq!(
        client.answer("fun", &serde_json::json!({})),
        serde_json::json!(["ap-home", "7", "42"])
    );
    let large = serde_json::json!({"FunctionName": "large", "MemorySize": 384, "Runtime": "Python3.6", "Code": {"ZipFile": base64(b"")}});
    assert_eq!(
        client.code("CreateFunction", &large),
        "InvalidParameterValue.MemorySize"
    );
}

#[test]
fn earlier_option_names_work_as_variables_and_log_a_deprecation() {
    let output = Server::command(VIRGA)
        .args(["up", "--brief-at-once", "many", "--data", "/proc/none"])
        .env("VIRGA_BLANKS", "many")
        .output()
        .expect("the binary");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).expect("text");
    for part in [
        "prewarm (from VIRGA_BLANKS): \"many\"",
        "short_request_concurrency (from --brief-at-once): \"many\"",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let server = Server::flags(VIRGA, &["--blanks", "1"]);
    server.expect("--blanks is deprecated");
    assert!(
        server
            .log()
            .contains("--blanks is deprecated; use --prewarm")
    );
}
