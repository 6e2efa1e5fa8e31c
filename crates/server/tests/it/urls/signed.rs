//! URLs that take signed requests alone.

use super::*;

/// Signs a request to a URL's path as a user of SCF does.
fn signed(client: &Client, request: &str, body: &[u8], age: i64) -> String {
    use scf::tc3::{self, Canonical, Scope};
    use sha2::{Digest, Sha256};
    let (method, target) = request.split_once(' ').expect("a method");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let now = std::time::UNIX_EPOCH.elapsed().expect("a time").as_secs() as i64 - age;
    let date = tc3::date(now);
    let host = client.host();
    let canonical = Canonical {
        method,
        path,
        query,
        headers: &format!("content-type:text/plain\nhost:{host}\nx-tc-action:invokefunctionurl\n"),
        signed_headers: "content-type;host;x-tc-action",
        payload_hash: &hex::encode(Sha256::digest(body)),
    };
    let scope = Scope {
        date: &date,
        service: "scf",
    };
    let signature = hex::encode(tc3::sign(&client.key, now, &scope, &canonical));
    format!(
        "Content-Type: text/plain\r\nX-TC-Action: InvokeFunctionUrl\r\nX-TC-Timestamp: {now}\r\nAuthorization: TC3-HMAC-SHA256 \
         Credential={}/{date}/scf/tc3_request, SignedHeaders=content-type;host;x-tc-action, Signature={signature}\r\n",
        client.id
    )
}

#[test]
fn a_url_with_cam_takes_signed_requests_alone() {
    let server = server();
    let client = server.client();
    client.create("shows", SHOWS, json!({}));
    // Without a word of it, too.
    let (id, shown) = url(&client, "shows", &json!({}));
    assert_eq!(shown["AuthType"], "CAM");
    let (host, path) = (client.host(), format!("/url/{id}/a"));
    let attempt = |request: &str, headers: &str, body: &[u8]| {
        send(&client, &host, request, headers, body).status
    };
    let put = format!("PUT {path}?x=1&y=%20");
    let headers = signed(&client, &put, b"body", 0);
    let reply = send(&client, &host, &put, &headers, b"body");
    assert_eq!((reply.status, &reply.json()["body"]), (200, &json!("body")));
    let get = format!("GET {path}");
    assert_eq!(attempt(&get, &signed(&client, &get, b"", 0), b""), 200);
    assert_eq!(attempt(&get, "", b""), 401);
    // Of the account's keys, those whose policy lets them; another account's not.
    let key = |action: &str| {
        let policy = json!({"version": "2.0", "statement": [{"effect": "allow", "action": action, "resource": "*"}]});
        let key = client.operate("CreateKey", &json!({"Policy": policy}));
        client.with_new_key(&key.expect("a key"))
    };
    let by = |other: &testkit::Client| attempt(&get, &signed(other, &get, b"", 0), b"");
    assert_eq!(by(&key("scf:InvokeFunctionUrl")), 200);
    assert_eq!(by(&key("scf:InvokeFunction")), 403);
    let other = client.operate("CreateAccount", &json!({"Name": "other"}));
    assert_eq!(
        by(&client.with_new_key(&other.expect("an account")["Key"])),
        403
    );
    // Another body, query, path or method than was signed; an old signature, a stranger's, and the API's own.
    assert_eq!(attempt(&put, &headers, b"bodY"), 401);
    assert_eq!(
        attempt(&format!("PUT {path}?x=2&y=%20"), &headers, b"body"),
        401
    );
    assert_eq!(
        attempt(&format!("PUT {path}/b?x=1&y=%20"), &headers, b"body"),
        401
    );
    assert_eq!(
        attempt(&format!("POST {path}?x=1&y=%20"), &headers, b"body"),
        401
    );
    assert_eq!(
        attempt(&put, &signed(&client, &put, b"body", 3600), b"body"),
        401
    );
    let stranger = Client::new(&client.endpoint, &client.id, "another key");
    assert_eq!(
        attempt(&put, &signed(&stranger, &put, b"body", 0), b"body"),
        401
    );
    let mut unknown = client.clone();
    unknown.id = "nobody".into();
    assert_eq!(
        attempt(&put, &signed(&unknown, &put, b"body", 0), b"body"),
        401
    );
    let action = headers.replace("InvokeFunctionUrl", "ListFunctions");
    assert_eq!(attempt(&put, &action, b"body"), 401);
    let document = send(&client, &host, &get, "", b"").json();
    assert_eq!(document["statusCode"], 401);
    assert!(
        document["errorMessage"]
            .as_str()
            .is_some_and(|text| text.contains("TC3-HMAC-SHA256")),
        "{document}"
    );
}
