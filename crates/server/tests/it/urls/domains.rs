//! Custom domains.

use super::*;

#[test]
fn domain_routes_and_rewrites_paths_to_functions() {
    let server = server();
    let client = server.client();
    client.create("shows", SHOWS, json!({"Timeout": 1}));
    client.create("other", "def main_handler(e, c):\n    return {'other': e['path'], 'version': c['function_version']}\n", json!({}));
    client.ok("PublishVersion", &json!({"FunctionName": "other"}));
    let rewritten = json!({
        "FunctionName": "other", "Qualifier": "1", "PathMatch": "/other/*",
        "PathRewrite": [{"Path": "/other/old", "Type": "ExactRules", "Rewrite": "/new"}, {"Path": "/other/*", "Type": "WildcardRules", "Rewrite": "/$"}],
    });
    domain(
        &client,
        "api.example.com",
        json!([to("shows", "/*"), rewritten]),
    );
    let body = "{\"k\": \"\u{4f60}\"}".as_bytes();
    let sent = "X-Own: a\r\nx-own: b\r\nCookie: c=1\r\nX-Scf-Remote-Addr: 9.9.9.9\r\n";
    let reply = send(
        &client,
        "API.example.com:80",
        "PUT /a/b?x=1&x=2&y=%20",
        sent,
        body,
    );
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), ["application/json"]);
    assert_eq!(reply.header("x-scf-request-id").len(), 1);
    let expected = json!({
        "httpMethod": "PUT", "path": "/a/b", "queryString": {"x": ["1", "2"], "y": " "}, "body": "{\"k\": \"\u{4f60}\"}",
        "headers": {
            "host": "API.example.com:80", "connection": "close", "content-length": "12", "x-own": "a, b", "cookie": "c=1",
            "x-scf-remote-addr": "127.0.0.1", "x-real-ip": "127.0.0.1", "x-forwarded-for": "127.0.0.1",
            "x-forwarded-proto": "http", "x-forwarded-host": "API.example.com:80", "x-forwarded-port": "80",
        },
    });
    assert_eq!(reply.json(), expected);
    let binary = send(&client, "api.example.com", "POST /", "", &[0xff, 0xfe]).json();
    assert_eq!(
        (&binary["body"], &binary["isBase64Encoded"]),
        (&json!("//4="), &json!(true))
    );
    for (path, seen) in [
        ("/other/a/b", "/a/b"),
        ("/other/old", "/new"),
        ("/other/", "/"),
    ] {
        let reply = send(&client, "api.example.com", &format!("GET {path}"), "", b"").json();
        assert_eq!(reply, json!({"other": seen, "version": "1"}));
    }
    // The API is where it was, and so is a host that nobody has.
    assert_eq!(client.get("/healthz").status, 200);
    assert_eq!(
        send(&client, "nobody.example.com", "GET /healthz", "", b"").status,
        200
    );
    domain(&client, "narrow.example.com", json!([to("shows", "/only")]));
    let missing = send(&client, "narrow.example.com", "GET /healthz", "", b"");
    assert_eq!(
        (missing.status, &missing.json()["statusCode"]),
        (404, &json!(435))
    );
    client.ok("DeleteCustomDomain", &json!({"Domain": "api.example.com"}));
    assert_eq!(
        send(&client, "api.example.com", "GET /healthz", "", b"").status,
        200
    );
}

#[test]
fn an_alias_sends_requests_on_by_their_headers() {
    let server = server();
    let client = server.client();
    let source = "def main_handler(e, c):\n    return c['function_version']\n";
    client.create("shared", source, json!({}));
    client.ok("PublishVersion", &json!({"FunctionName": "shared"}));
    let routing = json!({"AddtionVersionMatchs": [{"Version": "1", "Key": "invoke.headers.User", "Method": "exact", "Expression": "Bob"}]});
    client.ok("CreateAlias", &json!({"FunctionName": "shared", "Name": "live", "FunctionVersion": "$LATEST", "RoutingConfig": routing}));
    let route = json!({"FunctionName": "shared", "Qualifier": "live", "PathMatch": "/*"});
    domain(&client, "api.example.com", json!([route]));
    for (headers, version) in [
        ("User: Bob\r\n", "1"),
        ("User: Eve\r\n", "$LATEST"),
        ("", "$LATEST"),
    ] {
        assert_eq!(
            send(&client, "api.example.com", "GET /", headers, b"").json(),
            version
        );
    }
}

#[test]
fn a_domain_outlives_a_restart_and_nobody_takes_the_api_s_own() {
    let mut server = Server::flags(VIRGA, &["--public-url", "https://scf.example.com"]);
    let client = server.client();
    client.create("shows", SHOWS, json!({}));
    domain(&client, "api.example.com", json!([to("shows", "/*")]));
    let create = |name: &str| {
        let request =
            json!({"Domain": name, "Protocol": "HTTP", "EndpointsConfig": [to("shows", "/*")]});
        client.code("CreateCustomDomain", &request)
    };
    for own in ["scf.example.com", "virga.internal", "api.example.com"] {
        assert_eq!(create(own), "ResourceInUse", "{own}");
    }
    server.kill();
    server.restart();
    let client = server.client();
    assert_eq!(
        send(&client, "api.example.com", "GET /", "", b"").json()["path"],
        "/"
    );
}
