//! Large bodies, and requests that are refused by their head.

use super::*;

/// Sends a head that announces a body, and no byte of that; gives the answer.
fn answer_to_head(client: &Client, head: &str) -> String {
    let mut stream = connect(client);
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a timeout");
    stream
        .write_all(format!("{head}\r\n").as_bytes())
        .expect("sent");
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&said).contains("\r\n\r\n{") {
        match stream.read(&mut buffer) {
            Ok(length @ 1..) => said.extend_from_slice(&buffer[..length]),
            other => panic!("{other:?} after {}", String::from_utf8_lossy(&said)),
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn a_request_is_refused_by_its_head_before_its_body_comes() {
    let server = server();
    let client = server.client();
    let nobody = client.with_key("AKIDnobody", "x");
    let old = |head: &str| {
        let at = head.find("X-TC-Timestamp: ").expect("a time") + 16;
        format!("{}1000000000{}", &head[..at], &head[at + 10..])
    };
    for length in [1000, 1 << 20, 30 << 20] {
        let signed = client.signed_head("ListFunctions", b"", length);
        let unsigned = |method: &str, path: &str| {
            let host = client.host();
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n")
        };
        let rows = [
            (
                nobody.signed_head("ListFunctions", b"", length),
                "AuthFailure.SecretIdNotFound",
            ),
            (old(&signed), "AuthFailure.SignatureExpire"),
            (client.signed_head("Rain", b"", length), "InvalidAction"),
            (signed.replace("2018-04-16", "2017-01-01"), "NoSuchVersion"),
            (
                signed.replace("Authorization: TC3", "Authorization: TC4"),
                "AuthFailure.InvalidAuthorization",
            ),
            (signed.replace("POST /", "PUT /"), "UnsupportedProtocol"),
            (
                client.signed_head("CreateFunction", b"", 500 << 20),
                "RequestSizeLimitExceeded",
            ),
            (
                unsigned("GET", "/?Action=ListFunctions"),
                "AuthFailure.InvalidAuthorization",
            ),
            (unsigned("POST", "/url/nothing/"), "404 Not Found"),
        ];
        for (head, expected) in rows {
            let answer = answer_to_head(&client, &head);
            assert!(answer.contains(expected), "{expected}: {answer}");
        }
    }
    // A form of version 1 is in the body, but may not be long.
    let host = client.host();
    let form = format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 33000000\r\n");
    assert!(answer_to_head(&client, &form).contains("RequestSizeLimitExceeded"));
}

#[test]
fn a_signed_url_refuses_by_the_head_too() {
    let server = server();
    let client = server.client();
    client.create(
        "signed",
        "def main_handler(e, c):\n    return len(e['body'])\n",
        json!({}),
    );
    let trigger = json!({"FunctionName": "signed", "TriggerName": "url", "Type": "http",
        "TriggerDesc": json!({"AuthType": "CAM"}).to_string()});
    let created = client.ok("CreateTrigger", &trigger);
    let id = created["TriggerInfo"]["TriggerName"]
        .as_str()
        .expect("an id");
    let path = format!("POST /url/{id}/ ");
    let nobody = client.with_key("AKIDnobody", "x");
    let head = nobody.signed_head("InvokeFunctionUrl", b"", 1 << 20);
    let answer = answer_to_head(&client, &head.replace("POST / ", &path));
    assert!(answer.contains("AuthFailure.SecretIdNotFound"), "{answer}");
}

#[test]
fn a_large_body_waits_on_disk_until_it_is_verified() {
    let server = server();
    let client = server.client();
    client.create(
        "counts",
        "def main_handler(e, c):\n    return len(e)\n",
        json!({}),
    );
    let event = json!("x".repeat(300_000)).to_string();
    let request = json!({"FunctionName": "counts", "ClientContext": event}).to_string();
    let whole = client.signed("Invoke", request.as_bytes());
    let forged = client
        .with_key(&client.id, "wrong")
        .signed("Invoke", request.as_bytes());
    let chunked = |whole: &[u8]| {
        let text = String::from_utf8(whole.to_vec()).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let head: Vec<_> = head
            .lines()
            .filter(|line| !line.starts_with("Content-Length"))
            .collect();
        let (length, head) = (body.len(), head.join("\r\n"));
        format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n")
            .into_bytes()
    };
    for (request, expected) in [
        (whole.clone(), "300000"),
        (forged.clone(), "AuthFailure.SignatureFailure"),
        (chunked(&whole), "300000"),
        (chunked(&forged), "AuthFailure.SignatureFailure"),
    ] {
        let mut stream = connect(&client);
        let (first, rest) = request.split_at(request.len() - 10);
        stream.write_all(first).expect("sent");
        eventually("it is on disk", || spooled(&server) == 1);
        // Others go on beside it.
        client.ok("ListFunctions", &json!({}));
        stream.write_all(rest).expect("sent");
        let mut said = [0; 2000];
        let length = stream.read(&mut said).expect("an answer");
        let answer = String::from_utf8_lossy(&said[..length]);
        assert!(answer.contains(expected), "{answer}");
        eventually("nothing is left", || spooled(&server) == 0);
    }
    // Who goes away leaves nothing.
    let mut stream = connect(&client);
    stream.write_all(&whole[..whole.len() - 1]).expect("sent");
    eventually("it is on disk", || spooled(&server) == 1);
    drop(stream);
    eventually("nothing is left", || spooled(&server) == 0);
}

#[test]
fn forms_of_version_1_that_are_large_and_signed_go_on() {
    let server = server();
    let client = server.client();
    client.create(
        "counts",
        "def main_handler(e, c):\n    return len(e)\n",
        json!({}),
    );
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
        .to_string();
    let event = json!("x".repeat(200_000)).to_string();
    let mut pairs = vec![
        ("Action", "Invoke"),
        ("Version", scf::VERSION),
        ("Nonce", "1"),
        ("Timestamp", &now),
        ("SecretId", &client.id),
        ("FunctionName", "counts"),
        ("ClientContext", &event),
    ];
    let host = client.host();
    let signature = scf::v1::sign(
        &client.key,
        scf::v1::Method::Sha1,
        "POST",
        &host,
        "/",
        pairs.clone(),
    );
    let signature = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, signature);
    pairs.push(("Signature", &signature));
    let encoded = pairs.iter().map(|(name, value)| {
        let value = value
            .replace('%', "%25")
            .replace('+', "%2B")
            .replace('"', "%22");
        format!("{name}={}", value.replace('=', "%3D").replace('/', "%2F"))
    });
    let form = encoded.collect::<Vec<_>>().join("&");
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let answer = client.send("POST", "/", &headers, form.as_bytes()).json();
    assert_eq!(answer["Response"]["Result"]["RetMsg"], "200000", "{answer}");
    let long = format!("{form}&More={}", "x".repeat(1 << 20));
    let answer = client.send("POST", "/", &headers, long.as_bytes()).json();
    assert_eq!(
        answer["Response"]["Error"]["Code"],
        "RequestSizeLimitExceeded"
    );
}
