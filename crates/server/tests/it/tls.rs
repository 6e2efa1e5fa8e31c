//! The API over TLS, asked by curl.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use testkit::Server;

use crate::VIRGA;

const TLS: &[&str] = &["--tls-listen", "127.0.0.1:0"];

/// The address at which a server speaks TLS.
fn address(server: &Server) -> String {
    let words = server.ready.split_whitespace();
    let address = words.skip_while(|word| *word != "tls").nth(1);
    let address = address.expect("an address").trim_start_matches("https://");
    address.to_owned()
}

/// Asks for a page of a host, which is wherever the server is; nothing when the connection is not trusted.
fn get(server: &Server, ca: Option<&Path>, host: &str, path: &str) -> Option<String> {
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--noproxy",
        "*",
        "--connect-to",
        &format!("::{}", address(server)),
    ]);
    if let Some(ca) = ca {
        curl.arg("--cacert").arg(ca);
    }
    let output = curl
        .arg(format!("https://{host}{path}"))
        .output()
        .expect("curl");
    let text = String::from_utf8(output.stdout).expect("text");
    output.status.success().then_some(text)
}

fn openssl(directory: &Path, words: &str) {
    let mut command = Command::new("openssl");
    let output = command
        .args(words.split(' '))
        .current_dir(directory)
        .output();
    let output = output.expect("openssl");
    assert!(
        output.status.success(),
        "{words}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A certificate of its own for one host, and its key.
fn make_pair(directory: &Path, host: &str) {
    let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout key.pem -out cert.pem -subj /CN=";
    openssl(
        directory,
        &format!("{words}{host} -addext subjectAltName=DNS:{host}"),
    );
}

#[test]
fn a_local_authority_vouches_for_the_names_that_clients_have_built_in() {
    let mut server = Server::flags(VIRGA, TLS);
    let ca = server.data().join("tls/ca.pem");
    assert!(
        server.ready.contains(ca.to_str().expect("a path")),
        "{}",
        server.ready
    );
    for host in [
        "scf.tencentcloudapi.com",
        "scf.internal.tencentcloudapi.com",
        "scf.ap-guangzhou.tencentcloudapi.com",
        "localhost",
        "127.0.0.1",
    ] {
        assert_eq!(
            get(&server, Some(&ca), host, "/healthz").as_deref(),
            Some("ok\n"),
            "{host}"
        );
        assert_eq!(
            get(&server, None, host, "/healthz"),
            None,
            "{host} without the authority"
        );
    }
    assert_eq!(get(&server, Some(&ca), "example.com", "/healthz"), None);
    let answer = get(&server, Some(&ca), "scf.tencentcloudapi.com", "/").expect("an answer");
    assert!(
        answer.contains("AuthFailure.InvalidAuthorization"),
        "{answer}"
    );
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&server.data().join("tls/ca.key")), 0o600);
    // It stays the same, so that who trusts it once need not again.
    let first = std::fs::read_to_string(&ca).expect("the certificate");
    let printed = server.cli(&["ca"]).stdout;
    assert_eq!(
        String::from_utf8(printed).expect("text").trim(),
        first.trim()
    );
    server.terminate();
    server.restart();
    assert_eq!(
        std::fs::read_to_string(&ca).expect("the certificate"),
        first
    );
    assert_eq!(
        get(&server, Some(&ca), "localhost", "/healthz").as_deref(),
        Some("ok\n")
    );
}

#[test]
fn command_line_verifies_the_tls_certificate() {
    let server = Server::flags(VIRGA, TLS);
    let ca = server.data().join("tls/ca.pem");
    let run = |args: &[&str]| {
        let mut command = Server::command(VIRGA);
        command
            .args(["key", "list"])
            .args(args)
            .env("VIRGA_DATA", server.data())
            .env("VIRGA_ENDPOINT", format!("https://{}", address(&server)));
        command.output().expect("the binary")
    };
    let trusting = run(&["--ca", ca.to_str().expect("a path")]);
    assert!(trusting.status.success(), "{trusting:?}");
    assert!(!run(&[]).status.success(), "nobody else vouches for it");
    let none = run(&["--ca", "/dev/null"]);
    assert!(
        String::from_utf8_lossy(&none.stderr).contains("no certificate"),
        "{none:?}"
    );
}

#[test]
fn the_authority_cannot_vouch_for_other_names() {
    let server = Server::flags(VIRGA, TLS);
    let tls = server.data().join("tls");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    for (host, fine) in [
        ("monitor.tencentcloudapi.com", true),
        ("example.com", false),
    ] {
        let request = "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout leaf.key -out leaf.csr -subj /CN=leaf";
        openssl(path, request);
        std::fs::write(path.join("ext"), format!("subjectAltName=DNS:{host}\n")).expect("written");
        let (ca, key) = (tls.join("ca.pem"), tls.join("ca.key"));
        let sign = format!(
            "x509 -req -in leaf.csr -CA {} -CAkey {} -days 1 -extfile ext -out leaf.pem",
            ca.display(),
            key.display()
        );
        openssl(path, &sign);
        let verified = Command::new("openssl")
            .arg("verify")
            .arg("-CAfile")
            .arg(&ca)
            .arg(path.join("leaf.pem"))
            .output();
        assert_eq!(verified.expect("openssl").status.success(), fine, "{host}");
    }
}

#[test]
fn the_operators_certificate_is_read_again_when_it_changes() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    make_pair(path, "one.test");
    let (cert, key) = (path.join("cert.pem"), path.join("key.pem"));
    let flags = [
        "--tls-listen",
        "127.0.0.1:0",
        "--tls-cert",
        cert.to_str().expect("a path"),
        "--tls-key",
        key.to_str().expect("a path"),
    ];
    let server = Server::flags(VIRGA, &flags);
    server.expect("the changed certificate cannot be used");
    assert!(!server.ready.contains(" ca "), "{}", server.ready);
    let answers = |host: &str| get(&server, Some(&cert), host, "/healthz").is_some();
    assert!(answers("one.test") && !answers("two.test"));
    // Between the two files nothing fits, and the old pair goes on; the client that trusts the new file alone does not.
    make_pair(path, "two.test");
    testkit::eventually("the new certificate serves", || answers("two.test"));
    // One that is broken changes nothing.
    std::fs::write(&key, "no key\n").expect("written");
    testkit::eventually("it is logged", || server.log().contains("cannot be used"));
    assert!(answers("two.test"));
}

#[test]
fn silent_tls_client_delays_nobody() {
    let server = Server::flags(VIRGA, TLS);
    let ca = server.data().join("tls/ca.pem");
    let silent: Vec<_> = (0..50)
        .map(|_| TcpStream::connect(address(&server)).expect("a connection"))
        .collect();
    assert_eq!(
        get(&server, Some(&ca), "localhost", "/healthz").as_deref(),
        Some("ok\n")
    );
    drop(silent);
}

#[test]
fn invalid_certificate_is_reported() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    make_pair(path, "one.test");
    std::fs::rename(path.join("key.pem"), path.join("other.pem")).expect("renamed");
    make_pair(path, "one.test");
    let start = |flags: &[&str]| {
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
            "virga-test-tls",
            "--data",
        ]);
        let output = command
            .arg(path.join("data"))
            .args(flags)
            .current_dir(path)
            .output()
            .expect("the binary");
        (
            output.status.code(),
            String::from_utf8(output.stderr).expect("text"),
        )
    };
    let rows: [(&[&str], i32, &str); 5] = [
        (
            &["--tls-cert", "cert.pem", "--tls-key", "key.pem"],
            2,
            "tls_listen",
        ),
        (
            &["--tls-listen", "127.0.0.1:0", "--tls-cert", "cert.pem"],
            2,
            "tls_key",
        ),
        (
            &[
                "--tls-listen",
                "127.0.0.1:0",
                "--tls-cert",
                "none.pem",
                "--tls-key",
                "key.pem",
            ],
            3,
            "none.pem",
        ),
        (
            &[
                "--tls-listen",
                "127.0.0.1:0",
                "--tls-cert",
                "key.pem",
                "--tls-key",
                "key.pem",
            ],
            3,
            "holds no certificate",
        ),
        (
            &[
                "--tls-listen",
                "127.0.0.1:0",
                "--tls-cert",
                "cert.pem",
                "--tls-key",
                "other.pem",
            ],
            3,
            "do not belong together",
        ),
    ];
    for (flags, code, part) in rows {
        let (found, said) = start(flags);
        assert_eq!(found, Some(code), "{flags:?}: {said}");
        assert!(said.contains(part), "{part}: {said}");
    }
}
