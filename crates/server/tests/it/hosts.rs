//! Hosts of the API, of buckets and of URLs: they are never custom domains, also not stored ones.

use serde_json::{Value, json};
use testkit::{Client, Server};

use crate::VIRGA;
use crate::urls::send;

const TAKES: &str = "def main_handler(e, c):\n    return 'the function took it'\n";

fn create(client: &Client, name: &str) -> Result<Value, testkit::ApiError> {
    let to = json!([{"FunctionName": "takes", "PathMatch": "/*"}]);
    let request = json!({"Domain": name, "Protocol": "HTTP", "EndpointsConfig": to});
    client.call("CreateCustomDomain", &request)
}

/// What a plain request to a host gets.
fn answer(client: &Client, host: &str) -> String {
    let reply = send(client, host, "GET /healthz", "", b"");
    String::from_utf8(reply.body).expect("text")
}

#[test]
fn no_host_of_the_installation_can_be_registered_in_any_spelling() {
    let directory = tempfile::tempdir().expect("a directory");
    let (cert, key) = (
        directory.path().join("cert.pem"),
        directory.path().join("key.pem"),
    );
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            "/CN=x",
            "-addext",
            "subjectAltName=DNS:Tls.corp.example,DNS:*.wild.example",
        ])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{made:?}");
    let server = Server::flags(
        VIRGA,
        &[
            "--api-hosts",
            "Api.corp.example:9400,*.edge.example,bücher.example",
            "--public-url",
            "https://public.corp.example:8443",
            "--url-domain",
            "fn.example.net",
            "--bucket-domain",
            "objects.example.net,localhost",
            "--tls-listen",
            "127.0.0.1:0",
            "--tls-cert",
            cert.to_str().expect("a path"),
            "--tls-key",
            key.to_str().expect("a path"),
        ],
    );
    let client = server.client();
    client.create("takes", TAKES, json!({}));
    for own in [
        "api.corp.example",
        "API.CORP.EXAMPLE",
        "a.b.edge.example",
        "xn--bcher-kva.example",
        "XN--BCHER-KVA.example",
        "public.corp.example",
        "tls.corp.example",
        "any.wild.example",
        "fn.example.net",
        "1-x.ap-guangzhou.fn.example.net",
        "photos.objects.example.net",
        "objects.example.net",
        "a.localhost",
        "virga.internal",
        "x.virga.internal",
        "scf.tencentcloudapi.com",
        "scf.ap-guangzhou.tencentcloudapi.com",
        "photos-1.cos.ap-guangzhou.myqcloud.com",
        "photos-1.cos.ap-guangzhou.tencentcos.cn",
        "metadata.tencentyun.com",
        "127.0.0.0x1",
    ] {
        let refused = create(&client, own).expect_err(own);
        assert_eq!(refused.code, "ResourceInUse", "{own}: {}", refused.message);
        assert!(
            refused.message.contains("cannot be a custom domain: "),
            "{}",
            refused.message
        );
    }
    for strange in [
        "api.corp.example.",
        "api.corp.example:9400",
        "*.corp.example",
        "bücher.example",
        "xn--api-.corp.example",
        "127.0.0.1",
    ] {
        let refused = create(&client, strange).expect_err(strange);
        assert_eq!(refused.code, "InvalidParameterValue.Domain", "{strange}");
    }
    // Others are free, also when they look alike.
    for free in ["corp.example", "notapi.corp.example", "wild.example"] {
        create(&client, free).expect(free);
    }
}

#[test]
fn api_host_wins_over_a_stored_domain() {
    let mut server = Server::flags(VIRGA, &[]);
    let client = server.client();
    client.create("takes", TAKES, json!({}));
    for name in ["scf.corp.example", "a.edge.example", "shop.corp.example"] {
        create(&client, name).expect("free so far");
        assert!(answer(&client, name).contains("took it"), "{name}");
    }
    server.terminate();
    server.restart_with(&["--api-hosts", "SCF.corp.example,*.edge.example"]);
    let client = server.client();
    for host in [
        "scf.corp.example",
        "SCF.Corp.Example:9400",
        "scf.corp.example.",
        "http://scf.corp.example:80",
        "a.edge.example",
    ] {
        assert_eq!(answer(&client, host), "ok\n", "{host}");
    }
    assert!(answer(&client, "shop.corp.example").contains("took it"));
    // Its owner may remove it and not change it.
    let update = json!({"Domain": "scf.corp.example", "Protocol": "HTTP"});
    assert_eq!(client.code("UpdateCustomDomain", &update), "ResourceInUse");
    client.ok("DeleteCustomDomain", &json!({"Domain": "scf.corp.example"}));
}

#[test]
fn the_api_wins_over_urls_where_its_host_lies_below_their_domain() {
    let flags = [
        "--url-domain",
        "example.net",
        "--public-url",
        "http://scf.ap-guangzhou.example.net",
    ];
    let server = Server::flags(VIRGA, &flags);
    let client = server.client();
    assert_eq!(answer(&client, "scf.ap-guangzhou.example.net"), "ok\n");
    assert!(answer(&client, "1-abc.ap-guangzhou.example.net").contains("no function has this URL"));
}
