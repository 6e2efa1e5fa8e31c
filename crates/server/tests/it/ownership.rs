//! Whose a custom domain is: what a real DNS server says, and what the operator allows.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::{Value, json};
use testkit::{ApiError, Client, Server, eventually};

use crate::VIRGA;
use crate::urls::send;

const SAYS: &str = "def main_handler(e, c):\n    return c['tencentcloud_appid']\n";
const OPERATOR: &str = "\"1250000000\"";

/// A DNS server that knows all of `example.org`, which has these texts.
struct Dns {
    child: Child,
    port: u16,
    /// Held, so that the server can write.
    _log: BufReader<ChildStderr>,
}

impl Dns {
    fn start(port: Option<u16>, texts: &[(String, String)]) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let port = port.unwrap_or_else(|| free().expect("a port").port());
        let mut command = Command::new("dnsmasq");
        command
            .args([
                "--no-daemon",
                "--user=root",
                "--conf-file=/dev/null",
                "--no-resolv",
                "--no-hosts",
            ])
            .args([
                "--listen-address=127.0.0.1",
                "--bind-interfaces",
                "--local=/example.org/",
            ])
            .arg(format!("--port={port}"))
            .args(
                texts
                    .iter()
                    .map(|(name, text)| format!("--txt-record={name},{text}")),
            )
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("dnsmasq");
        let mut log = BufReader::new(child.stderr.take().expect("its log"));
        let mut line = String::new();
        while !line.contains("started") {
            line.clear();
            assert_ne!(
                log.read_line(&mut line).expect("text"),
                0,
                "dnsmasq did not start"
            );
        }
        Self {
            child,
            port,
            _log: log,
        }
    }

    /// The same with other texts.
    fn replace(self, texts: &[(String, String)]) -> Self {
        let port = self.port;
        drop(self);
        Self::start(Some(port), texts)
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn create(client: &Client, name: &str) -> Result<Value, ApiError> {
    let to = json!([{"FunctionName": "says", "PathMatch": "/*"}]);
    let request = json!({"Domain": name, "Protocol": "HTTP", "EndpointsConfig": to});
    client.call("CreateCustomDomain", &request)
}

/// The record that a refusal asks for.
fn record(refused: Result<Value, ApiError>) -> (String, String) {
    let refused = refused.expect_err("refused");
    assert_eq!(refused.code, "FailedOperation", "{}", refused.message);
    let word = |after: &str| {
        let (_, rest) = refused.message.split_once(after).expect(&refused.message);
        rest.split(' ').next().unwrap_or_default().to_owned()
    };
    (word("the DNS record "), word("with the value "))
}

/// An account of its own, with a function.
fn account(operator: &Client, name: &str) -> Client {
    let created = operator.operate("CreateAccount", &json!({"Name": name}));
    let client = operator.with_new_key(&created.expect("an account")["Key"]);
    client.create("says", SAYS, json!({}));
    client
}

fn get(client: &Client, host: &str) -> (u16, String) {
    let reply = send(client, host, "GET /", "", b"");
    (reply.status, String::from_utf8(reply.body).expect("text"))
}

/// Waits until a domain is answered with a status.
fn answers(client: &Client, host: &str, status: u16) {
    eventually("the domain opens or closes", || {
        get(client, host).0 == status
    });
}

#[test]
fn domain_belongs_to_the_account_whose_record_it_publishes() {
    let dns = Dns::start(None, &[]);
    let server = Server::flags(
        VIRGA,
        &["--domain-allow", "", "--domain-resolvers", &dns.address()],
    );
    let operator = server.client();
    operator.create("says", SAYS, json!({}));
    let tenant = account(&operator, "tenant");
    let (name, value) = record(create(&operator, "Shop.example.org"));
    assert_eq!(name, "_virga-challenge.shop.example.org");
    let (same, others) = record(create(&tenant, "shop.example.org"));
    assert_eq!(same, name);
    assert_ne!(others, value, "a record proves one account's");
    assert_ne!(record(create(&operator, "other.example.org")).1, value);
    // Without a domain the host is the API's.
    assert_eq!(get(&operator, "shop.example.org").0, 200);

    let near = |text: &str| (name.clone(), text.to_owned());
    let dns = dns.replace(&[
        near("v=spf1 -all"),
        near(&value.to_uppercase()),
        near(&value[..30]),
    ]);
    record(create(&operator, "shop.example.org"));
    let dns = dns.replace(&[
        near("v=spf1 -all"),
        near(&value),
        ("_virga-challenge.other.example.org".into(), value.clone()),
        ("shop.example.org".into(), others.clone()),
    ]);
    // Neither another account nor another name is proved by it.
    record(create(&tenant, "shop.example.org"));
    record(create(&operator, "other.example.org"));
    create(&operator, "shop.example.org").expect("proved");
    assert_eq!(get(&operator, "shop.example.org").1, OPERATOR);
    // Another account that proves it, too, comes too late.
    let dns = dns.replace(&[near(&value), near(&others)]);
    assert_eq!(
        create(&tenant, "shop.example.org").expect_err("taken").code,
        "ResourceInUse"
    );
    // DNS that does not answer proves nothing.
    drop(dns);
    let refused = create(&operator, "third.example.org").expect_err("refused");
    assert!(
        refused.message.contains("could not be checked"),
        "{}",
        refused.message
    );
}

#[test]
fn domain_stops_without_its_record_and_serves_again_with_it() {
    let dns = Dns::start(None, &[]);
    let address = dns.address();
    let mut flags = vec![
        "--domain-allow",
        "",
        "--domain-resolvers",
        &address,
        "--domain-check",
        "1",
    ];
    flags.extend(["--domain-grace", "1"]);
    let server = Server::flags(VIRGA, &flags);
    server.expect("a custom domain is not proved");
    let operator = server.client();
    operator.create("says", SAYS, json!({}));
    let own = record(create(&operator, "shop.example.org"));
    let dns = dns.replace(std::slice::from_ref(&own));
    create(&operator, "shop.example.org").expect("proved");

    // A server that is silent closes nothing.
    let port = dns.port;
    drop(dns);
    eventually("checks find no DNS", || {
        server.log().matches("could not be checked").count() >= 3
    });
    assert_eq!(get(&operator, "shop.example.org").1, OPERATOR);

    let dns = Dns::start(Some(port), &[]);
    answers(&operator, "shop.example.org", 403);
    assert!(
        server.log().contains(&own.1),
        "the log says what to publish"
    );
    let refused = operator.call(
        "UpdateCustomDomain",
        &json!({"Domain": "shop.example.org", "Protocol": "HTTP"}),
    );
    assert_eq!(record(refused), own);
    let dns = dns.replace(std::slice::from_ref(&own));
    answers(&operator, "shop.example.org", 200);
    operator.ok(
        "UpdateCustomDomain",
        &json!({"Domain": "shop.example.org", "Protocol": "HTTP"}),
    );

    // Once it is closed, the next account that proves it gets it.
    let tenant = account(&operator, "tenant");
    let dns = dns.replace(&[]);
    answers(&operator, "shop.example.org", 403);
    let theirs = record(create(&tenant, "shop.example.org"));
    let _dns = dns.replace(&[theirs]);
    create(&tenant, "shop.example.org").expect("proved");
    assert_eq!(get(&operator, "shop.example.org").1, "\"1250000001\"");
    let gone = operator.code("GetCustomDomain", &json!({"Domain": "shop.example.org"}));
    assert_eq!(gone, "FailedOperation.Domain.UnExist");
}

#[test]
fn operator_allows_domains_by_pattern_and_stored_ones_have_a_grace_period() {
    let dns = Dns::start(None, &[]);
    let address = dns.address();
    let resolvers = ["--domain-resolvers", &address, "--domain-check", "1"];
    let with = |more: &[&'static str]| {
        let mut flags: Vec<&str> = resolvers.to_vec();
        flags.extend(more);
        flags.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let flags = with(&["--domain-allow", "one.example.org,*.Team.example.org"]);
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let mut server = Server::flags(VIRGA, &flags);
    server.expect("a custom domain is not proved");
    let operator = server.client();
    operator.create("says", SAYS, json!({}));
    for name in [
        "one.example.org",
        "a.team.example.org",
        "a.b.TEAM.example.org",
    ] {
        create(&operator, name).expect(name);
    }
    for name in ["team.example.org", "two.example.org", "x.one.example.org"] {
        record(create(&operator, name));
    }
    // A domain that is no longer allowed is served for the grace period, as one without proof from an older version is.
    server.terminate();
    let flags = with(&["--domain-allow", ""]);
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    server.restart_with(&flags);
    let operator = server.client();
    eventually("it is logged", || {
        server
            .log()
            .matches("a custom domain is not proved")
            .count()
            == 3
    });
    assert_eq!(get(&operator, "one.example.org").1, OPERATOR);
    server.terminate();
    let flags = with(&["--domain-allow", "*.example.org", "--domain-grace", "1"]);
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    server.restart_with(&flags);
    let operator = server.client();
    answers(&operator, "one.example.org", 200);
}
