//! Requests to the operator's API that were captured.

use super::*;

#[test]
fn a_captured_request_of_an_sdk_never_becomes_one_of_the_operators() {
    let server = server();
    let client = server.client();
    let captured = || Request::new("scf", scf::VERSION, "ListFunctions", &json!({})).sign(&client);
    assert_eq!(captured().code(&client), "");
    for action in ["CreateKey", "ListKeys", "CreateAccount", "AssumeRole"] {
        let other = captured()
            .set("x-tc-version", OPERATOR_VERSION)
            .set("x-tc-action", action);
        assert_eq!(
            other.code(&client),
            "AuthFailure.SignatureFailure",
            "{action}"
        );
        let other = other.set("x-tc-nonce", NONCE);
        assert_eq!(
            other.code(&client),
            "AuthFailure.SignatureFailure",
            "{action}"
        );
        let (_, authorization) = captured().headers.pop().expect("the last");
        let moved = authorization.replace("/scf/", &format!("/{OPERATOR_SERVICE}/"));
        let other = other.set("authorization", &moved);
        assert_eq!(
            other.code(&client),
            "AuthFailure.SignatureFailure",
            "{action}"
        );
        let more =
            "SignedHeaders=content-type;host;x-tc-action;x-tc-nonce;x-tc-timestamp;x-tc-version";
        let other = other.set(
            "authorization",
            &moved.replace("SignedHeaders=content-type;host", more),
        );
        assert_eq!(
            other.code(&client),
            "AuthFailure.SignatureFailure",
            "{action}"
        );
    }
    // Nor the other way round.
    let operators = Request::of_operator("ListKeys", &json!({}), NONCE).sign(&client);
    let other = operators
        .set("x-tc-version", scf::VERSION)
        .set("x-tc-action", "ListFunctions")
        .sign(&client);
    assert_eq!(other.code(&client), "AuthFailure.SignatureFailure");
    assert_eq!(keys(&client), 1);
}

#[test]
fn operator_request_signs_every_header_that_has_an_effect() {
    let server = server();
    let client = server.client();
    let good = |nonce: &str| Request::of_operator("CreateKey", &json!({}), nonce);
    assert_eq!(good(NONCE).sign(&client).code(&client), "");
    let all: &[&str] = &[
        "x-tc-action",
        "x-tc-nonce",
        "x-tc-timestamp",
        "x-tc-version",
    ];
    let but: [&[&str]; 5] = [
        &[],
        &all[1..],
        &["x-tc-action", "x-tc-timestamp", "x-tc-version"],
        &["x-tc-action", "x-tc-nonce", "x-tc-version"],
        &all[..3],
    ];
    for signed in but {
        let mut request = good("another-nonce-0001");
        request.signed = signed;
        let code = request.sign(&client).code(&client);
        assert_eq!(code, "AuthFailure.SignatureFailure", "{signed:?}");
    }
    for (wrong, code) in [
        (good(NONCE).without("x-tc-nonce"), "MissingParameter"),
        (good("short"), "InvalidParameter"),
        (good("0123456789abcde/"), "InvalidParameter"),
        // A header that is not signed could have been added.
        (
            good("another-nonce-0002").set("x-tc-region", "ap-beijing"),
            "AuthFailure.SignatureFailure",
        ),
        (
            good("another-nonce-0003").set("x-tc-content-sha256", tc3::UNSIGNED_PAYLOAD),
            "AuthFailure.SignatureFailure",
        ),
    ] {
        assert_eq!(wrong.sign(&client).code(&client), code);
    }
    // The older signature signs everything, and is for SCF's API alone.
    let form = "Action=CreateKey&Version=virga-1&Nonce=1&Timestamp=1&SecretId=x&Signature=eA";
    let answer = client.send("POST", "/", &[], form.as_bytes()).json();
    assert_eq!(
        answer["Response"]["Error"]["Code"], "AuthFailure.SignatureFailure",
        "{answer}"
    );
    assert_eq!(keys(&client), 2);
}

/// Stands between the command line and a server, and keeps the request that passes.
fn capture(server: &Server, args: &[&str]) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let to = server.client().host();
    let passing = std::thread::spawn(move || {
        let (mut from, _) = listener.accept().expect("a connection");
        let mut seen = Vec::new();
        let mut part = [0; 4096];
        while !is_whole(&seen) {
            let length = from.read(&mut part).expect("bytes");
            seen.extend_from_slice(&part[..length]);
        }
        let answer = resend(&to, &seen);
        from.write_all(answer.as_bytes()).expect("sent");
        seen
    });
    let mut command = Server::command(VIRGA);
    command
        .args(args)
        .env("VIRGA_ENDPOINT", endpoint)
        .env("VIRGA_DATA", server.data());
    let done = command.output().expect("the binary");
    assert!(done.status.success(), "{done:?}");
    passing.join().expect("a request")
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().expect("a number"))
}

/// Sends bytes as they are; the whole answer.
fn resend(to: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).expect("connected");
    let text = String::from_utf8(request.to_vec()).expect("text");
    // The answer ends with the connection.
    let text = text.replacen("\r\n\r\n", "\r\nconnection: close\r\n\r\n", 1);
    stream.write_all(text.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn captured_operator_request_is_accepted_once_also_across_a_restart() {
    let mut server = server();
    let captured = capture(&server, &["key", "create"]);
    let text = String::from_utf8(captured.clone()).expect("text");
    let client = server.client();
    assert_eq!(keys(&client), 2);
    let again = resend(&client.host(), &captured);
    assert!(
        again.contains("AuthFailure.SignatureFailure") && again.contains("used it before"),
        "{again}"
    );
    // With all headers changed that are not signed, or signed in lower case.
    let changed: String = text
        .split("\r\n")
        .map(|line| match line.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("x-tc-nonce") => {
                format!("{name}: {}", value.to_uppercase())
            }
            _ => line.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("\r\n");
    assert_ne!(changed, text);
    for other in [
        changed,
        text.replace("CreateKey", "ListKeys"),
        text.replace("CreateKey", "ListFunctions")
            .replace(OPERATOR_VERSION, scf::VERSION),
        text.replacen("\r\n", "\r\nx-tc-region: ap-beijing\r\n", 1),
    ] {
        let again = resend(&client.host(), other.as_bytes());
        assert!(again.contains("AuthFailure.SignatureFailure"), "{again}");
    }
    server.kill();
    server.restart();
    let client = server.client();
    let again = resend(&client.host(), &captured);
    assert!(again.contains("used it before"), "{again}");
    assert_eq!(keys(&client), 2);
}
