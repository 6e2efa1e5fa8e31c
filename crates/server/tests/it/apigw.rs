//! Triggers of the API gateway.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use testkit::{Client, Options, Server, programs};

use crate::urls::{Reply, send};
use crate::{VIRGA, server};

/// Shows the request, or answers as its query says.
const SHOWS: &str = r#"
def main_handler(event, context):
    how = event['queryString'].get('how')
    if how == 'full':
        return {'isBase64Encoded': True, 'statusCode': 418, 'headers': {'Set-Cookie': ['a=1', 'b=2']}, 'body': '/9j/4A=='}
    if how == 'raise':
        raise ValueError('on purpose')
    if how == 'text':
        return 'text'
    return event
"#;

/// Gives a function an API; returns its description.
fn api(client: &Client, function: &str, desc: &Value) -> Value {
    let request = json!({"FunctionName": function, "TriggerName": "gateway", "Type": "apigw", "TriggerDesc": desc.to_string()});
    let trigger = client.ok("CreateTrigger", &request)["TriggerInfo"].take();
    assert_eq!(trigger["TriggerName"], "gateway");
    let shown = trigger["TriggerDesc"].as_str().expect("text");
    serde_json::from_str(shown).expect("JSON")
}

fn service(shown: &Value) -> &str {
    shown["service"]["serviceId"].as_str().expect("text")
}

/// Asks at a service's own host.
fn ask(client: &Client, shown: &Value, request: &str, headers: &str, body: &[u8]) -> Reply {
    let host = format!("{}-1250000000.ap-guangzhou.localhost", service(shown));
    send(client, &host, request, headers, body)
}

fn update(client: &Client, desc: &Value) {
    let request = json!({"FunctionName": "shows", "TriggerName": "gateway", "Type": "apigw", "TriggerDesc": desc.to_string()});
    client.ok("UpdateTrigger", &request);
}

#[test]
fn api_gateway_request_reaches_its_function_as_the_gateway_event() {
    let server = server();
    let client = server.client();
    client.create("shows", SHOWS, json!({}));
    let usual = json!({
        "api": {"authRequired": "FALSE", "requestConfig": {"method": "ANY"}, "isIntegratedResponse": "FALSE"},
        "service": {"serviceName": "SCF_API_SERVICE"}, "release": {"environmentName": "release"},
    });
    let shown = api(&client, "shows", &usual);
    let service = service(&shown);
    let port = client.host().rsplit(':').next().expect("a port").to_owned();
    let expected = json!({
        "api": {
            "apiId": shown["api"]["apiId"], "authRequired": "FALSE", "authType": "NONE", "enableCORS": "FALSE",
            "IsBase64Encoded": "FALSE", "isIntegratedResponse": "FALSE", "requestConfig": {"method": "ANY", "path": "/shows"},
        },
        "release": {"environmentName": "release"},
        "service": {
            "serviceId": service, "serviceName": "SCF_API_SERVICE", "serviceType": "BASIC",
            "subDomain": format!("http://{service}-1250000000.ap-guangzhou.localhost:{port}/release/shows"),
        },
    });
    assert_eq!(shown, expected);
    let listed = client.ok("ListTriggers", &json!({"FunctionName": "shows"}));
    assert_eq!(listed["Triggers"][0]["Type"], "apigw");
    let desc = listed["Triggers"][0]["TriggerDesc"].as_str().expect("text");
    assert_eq!(serde_json::from_str::<Value>(desc).expect("JSON"), expected);
    let sent = "X-Own: a\r\nX-Api-RequestId: forged\r\n";
    let reply = ask(
        &client,
        &shown,
        "PUT /release/shows/a?x=1&x=2&y=%20",
        sent,
        b"body",
    );
    let id = reply.header("x-api-requestid")[0];
    assert_eq!(
        (reply.status, reply.header("x-scf-request-id")[0]),
        (200, id)
    );
    assert_eq!(
        reply.json(),
        json!({
            "body": "body", "headerParameters": {}, "httpMethod": "PUT", "isBase64Encoded": false, "path": "/shows/a",
            "headers": {
                "host": format!("{service}-1250000000.ap-guangzhou.localhost"), "connection": "close", "content-length": "4",
                "x-own": "a", "requestsource": "APIGW", "x-anonymous-consumer": "true", "x-api-requestid": id, "x-b3-traceid": id,
                "x-qualifier": "$LATEST", "x-real-ip": "127.0.0.1", "x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http",
                "x-forwarded-host": format!("{service}-1250000000.ap-guangzhou.localhost"), "x-forwarded-port": "80",
            },
            "pathParameters": {}, "queryString": {"x": ["1", "2"], "y": " "}, "queryStringParameters": {},
            "requestContext": {
                "httpMethod": "ANY", "identity": {}, "path": "/shows", "requestId": id, "serviceId": service,
                "sourceIp": "127.0.0.1", "stage": "release",
            },
            "stageVariables": {"stage": "release"},
        })
    );
    // Without a body there is none; by path it is the same.
    let by_path = client.get(&format!("/url/{service}/release/shows")).json();
    assert_eq!(
        (&by_path["path"], by_path.get("body")),
        (&json!("/shows"), None)
    );
    let binary = ask(&client, &shown, "POST /release/shows", "", &[0xff, 0]).json();
    assert_eq!(
        (&binary["body"], &binary["isBase64Encoded"]),
        (&json!("/wA="), &json!(true))
    );
    // What the gateway has no API for.
    for (request, message) in [
        (
            "GET /test/shows",
            "There is no api match default env_mapping 'test'",
        ),
        ("GET /", "There is no api match default env_mapping ''"),
        ("GET /release/showsx", "There is no api match uri '/showsx'"),
    ] {
        let missing = ask(&client, &shown, request, "", b"");
        assert_eq!(
            (missing.status, missing.json()),
            (404, json!({"message": message})),
            "{request}"
        );
    }
    for host in [
        format!("{service}-1250000001.ap-guangzhou.localhost"),
        "service-aaaaaaaa-1250000000.ap-guangzhou.localhost".to_owned(),
        format!("{service}.ap-guangzhou.localhost"),
    ] {
        assert_eq!(
            send(&client, &host, "GET /release/shows", "", b"").status,
            404,
            "{host}"
        );
    }
    // Closed, opened, and gone.
    let of_it = |more: Value| {
        let mut request =
            json!({"FunctionName": "shows", "TriggerName": "gateway", "Type": "apigw"});
        request
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("one").clone());
        request
    };
    for (enable, status) in [("CLOSE", 403), ("OPEN", 200)] {
        client.ok("UpdateTriggerStatus", &of_it(json!({"Enable": enable})));
        assert_eq!(
            ask(&client, &shown, "GET /release/shows", "", b"").status,
            status
        );
    }
    client.ok("DeleteTrigger", &of_it(json!({})));
    assert_eq!(
        ask(&client, &shown, "GET /release/shows", "", b"").status,
        404
    );
}

#[test]
fn api_accepts_only_its_configured_method_and_path_and_survives_a_restart() {
    let mut server = Server::with(VIRGA, Options::default());
    let client = server.client();
    client.create("shows", SHOWS, json!({}));
    let narrow = json!({
        "api": {"requestConfig": {"method": "POST", "path": "/shop/{item}"}, "IsBase64Encoded": "TRUE"},
        "release": {"environmentName": "prepub"},
    });
    let shown = api(&client, "shows", &narrow);
    let wrong = ask(&client, &shown, "GET /prepub/shop/7", "", b"");
    assert_eq!(
        (wrong.status, wrong.json()),
        (
            404,
            json!({"message": "There is no api match method 'GET'"})
        )
    );
    server.kill();
    server.restart();
    let client = server.client();
    let event = ask(&client, &shown, "POST /prepub/shop/7", "", b"text").json();
    assert_eq!(
        (
            &event["body"],
            &event["isBase64Encoded"],
            &event["pathParameters"]
        ),
        (&json!("dGV4dA=="), &json!(true), &json!({"item": "7"}))
    );
    assert_eq!(
        (
            &event["requestContext"]["path"],
            &event["requestContext"]["httpMethod"]
        ),
        (&json!("/shop/{item}"), &json!("POST"))
    );
    // An update leaves what it does not name, and its address.
    update(
        &client,
        &json!({"api": {"requestConfig": {"method": "GET"}}}),
    );
    let event = ask(&client, &shown, "GET /prepub/shop/7", "", b"").json();
    assert_eq!(event["requestContext"]["stage"], "prepub");
    let larger = vec![b'x'; (6 << 20) + 1];
    update(
        &client,
        &json!({"api": {"requestConfig": {"method": "ANY"}}}),
    );
    assert_eq!(
        ask(&client, &shown, "POST /prepub/shop/7", "", &larger).status,
        413
    );
}

#[test]
fn replies_are_passed_on_or_integrated() {
    let server = server();
    let client = server.client();
    client.create("shows", SHOWS, json!({}));
    let shown = api(&client, "shows", &json!({}));
    let get = |how: &str| {
        ask(
            &client,
            &shown,
            &format!("GET /release/shows?how={how}"),
            "",
            b"",
        )
    };
    let full = get("full");
    assert_eq!(
        (full.status, &full.json()["statusCode"]),
        (200, &json!(418))
    );
    assert_eq!(
        (get("text").status, get("text").body.as_slice()),
        (200, b"\"text\"".as_slice())
    );
    let failed = get("raise");
    assert_eq!(
        (failed.status, &failed.json()["statusCode"]),
        (200, &json!(430))
    );
    update(&client, &json!({"api": {"isIntegratedResponse": "TRUE"}}));
    let full = get("full");
    assert_eq!(
        (full.status, full.body.as_slice()),
        (418, [0xff, 0xd8, 0xff, 0xe0].as_slice())
    );
    assert_eq!(full.header("set-cookie"), ["a=1", "b=2"]);
    for how in ["text", "event"] {
        let wrong = get(how);
        assert_eq!(
            (wrong.status, wrong.json()),
            (
                403,
                json!({"errno": 403, "error": "Invalid scf response format. please check your scf response format."})
            )
        );
    }
    assert_eq!(get("raise").status, 430);
}

/// Signs as users of the API gateway do.
fn signed(client: &Client, age: i64, algorithm: &str) -> String {
    let now = jiff::Timestamp::now().as_second() - age;
    let at = jiff::Timestamp::from_second(now).expect("a time");
    let date = at.strftime("%a, %d %b %Y %H:%M:%S GMT");
    let text = format!("x-date: {date}\nsource: here");
    let mac = Hmac::<Sha256>::new_from_slice(client.key.reveal().as_bytes()).expect("a key");
    let signature = STANDARD.encode(mac.chain_update(text).finalize().into_bytes());
    format!(
        "Source: here\r\nX-Date: {date}\r\nAuthorization: hmac id=\"{}\", algorithm=\"{algorithm}\", headers=\"x-date source\", signature=\"{signature}\"\r\n",
        client.id
    )
}

#[test]
fn an_api_with_authentication_takes_requests_of_the_account_s_key_pairs() {
    let server = server();
    let client = server.client();
    client.create("shows", SHOWS, json!({}));
    let shown = api(&client, "shows", &json!({"api": {"authRequired": "TRUE"}}));
    assert_eq!(shown["api"]["authType"], "SECRET");
    let attempt = |headers: &str| ask(&client, &shown, "GET /release/shows", headers, b"");
    let event = attempt(&signed(&client, 0, "hmac-sha256")).json();
    assert_eq!(
        event["requestContext"]["identity"],
        json!({"secretId": client.id})
    );
    assert_eq!(event["headers"].get("x-anonymous-consumer"), None);
    // Of the account's keys, those whose policy lets them; another account's not.
    let key = |action: &str| {
        let policy = json!({"version": "2.0", "statement": [{"effect": "allow", "action": action, "resource": "*"}]});
        let key = client.operate("CreateKey", &json!({"Policy": policy}));
        client.with_new_key(&key.expect("a key"))
    };
    let by = |other: &Client| attempt(&signed(other, 0, "hmac-sha256")).status;
    assert_eq!(by(&key("scf:InvokeFunctionUrl")), 200);
    assert_eq!(by(&key("scf:InvokeFunction")), 403);
    let other = client.operate("CreateAccount", &json!({"Name": "other"}));
    assert_eq!(
        by(&client.with_new_key(&other.expect("an account")["Key"])),
        401
    );
    let mut unknown = client.clone();
    unknown.id = "nobody".into();
    let stranger = Client::new(&client.endpoint, &client.id, "another key");
    for (headers, message) in [
        (String::new(), "a validate authorization header is required"),
        (signed(&client, 3600, "hmac-sha256"), "out of date"),
        (signed(&client, 0, "hmac-sha1"), "does not match"),
        (signed(&client, 0, "hmac-md5"), "hmac-md5 not supported"),
        (signed(&unknown, 0, "hmac-sha256"), "cannot be verified"),
        (signed(&stranger, 0, "hmac-sha256"), "does not match"),
    ] {
        let refused = attempt(&headers);
        assert_eq!(refused.status, 401, "{headers}");
        let document = refused.json();
        assert!(
            document["message"]
                .as_str()
                .is_some_and(|text| text.contains(message)),
            "{document}"
        );
    }
}

#[test]
fn api_with_cors_allows_pages_of_every_origin() {
    let server = server();
    let client = server.client();
    client.create("shows", SHOWS, json!({}));
    let shown = api(
        &client,
        "shows",
        &json!({"api": {"enableCORS": "TRUE", "requestConfig": {"method": "PUT"}}}),
    );
    let asks = "Origin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\n";
    let before = ask(&client, &shown, "OPTIONS /release/shows", asks, b"");
    assert_eq!(
        (before.status, before.header("access-control-allow-origin")),
        (204, vec!["*"])
    );
    let sent = ask(
        &client,
        &shown,
        "PUT /release/shows",
        "Origin: https://a.example\r\n",
        b"",
    );
    assert_eq!(
        (sent.status, sent.header("access-control-allow-origin")),
        (200, vec!["*"])
    );
    assert_eq!(
        ask(&client, &shown, "OPTIONS /release/shows", "", b"").status,
        404
    );
    update(&client, &json!({"api": {"enableCORS": "FALSE"}}));
    assert_eq!(
        ask(&client, &shown, "OPTIONS /release/shows", asks, b"").status,
        404
    );
}

#[test]
fn a_web_function_s_api_passes_requests_on() {
    let server = server();
    let client = server.client();
    let serves = b"#!/bin/bash\nexec python3 serve.py\n";
    let source = b"from http.server import *\nclass H(BaseHTTPRequestHandler):\n    def do_GET(self):\n        body = self.path.encode()\n        self.send_response(200)\n        self.send_header('Content-Length', str(len(body)))\n        self.end_headers()\n        self.wfile.write(body)\nHTTPServer(('0.0.0.0', 9000), H).serve_forever()\n";
    let package = programs(&[("scf_bootstrap", serves), ("serve.py", source)]);
    let request = json!({"FunctionName": "web", "Type": "HTTP", "Runtime": "Python3.9", "Code": {"ZipFile": package}});
    client.ok("CreateFunction", &request);
    let shown = api(&client, "web", &json!({}));
    assert_eq!(shown["api"]["requestConfig"]["path"], "/");
    let reply = ask(&client, &shown, "GET /release/a/b?x=1", "", b"");
    assert_eq!(
        (reply.status, reply.body.as_slice()),
        (200, b"/a/b?x=1".as_slice())
    );
}

#[test]
fn invalid_api_settings_are_refused_with_a_reason() {
    let server = server();
    let client = server.client();
    client.create("shows", SHOWS, json!({}));
    let (wrong, missing) = ("InvalidParameterValue.TriggerDesc", "UnsupportedOperation");
    for (desc, code, part) in [
        ("ANY", wrong, "an object is"),
        (r#"{"api": 7}"#, wrong, "not as expected"),
        (
            r#"{"api": {"authRequired": "YES"}}"#,
            wrong,
            "true and false",
        ),
        (
            r#"{"api": {"authType": "OAUTH"}}"#,
            missing,
            "NONE and SECRET",
        ),
        (
            r#"{"api": {"requestConfig": {"method": "PATCH"}}}"#,
            wrong,
            "ANY, GET",
        ),
        (
            r#"{"api": {"requestConfig": {"path": "shows"}}}"#,
            wrong,
            "path",
        ),
        (
            r#"{"release": {"environmentName": "dev"}}"#,
            wrong,
            "release, prepub, test",
        ),
        (
            r#"{"service": {"serviceId": "service-abcdefgh"}}"#,
            missing,
            "serviceId",
        ),
        (
            r#"{"service": {"serviceName": "a b"}}"#,
            wrong,
            "serviceName",
        ),
    ] {
        let request = json!({"FunctionName": "shows", "TriggerName": "x", "Type": "apigw", "TriggerDesc": desc});
        let refused = client
            .call("CreateTrigger", &request)
            .expect_err("a refusal");
        assert_eq!(refused.code, code, "{desc}");
        assert!(
            refused.message.contains(part),
            "{desc}: {}",
            refused.message
        );
    }
    let dotted = json!({"FunctionName": "shows", "TriggerName": "a.b", "Type": "apigw"});
    assert_eq!(
        client.code("CreateTrigger", &dotted),
        "InvalidParameterValue.TriggerName"
    );
}
