//! Servers that ask for certificates, or users with keys of their own.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nats_server::{Configuration, NatsServer, State};
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, SanType};
use replica::nats::{ConnectError, Connection, Layout, NatsStreams, Tls, connect, settings};
use replica::{Header, Log, Record, Time, WriterId};
use serde_json::{Value, json};
use testlog::nats_binary;

use crate::bank::{Outcome, deposit};
use crate::world::{directory, start_node_with};

const PASSWORD: &str = "0123456789abcdef";

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Opens streams as the user of a connection, and appends a record.
async fn appends(connection: &Connection) {
    let client = connect(connection).await.unwrap();
    settings::check(&client, 1, false).await.unwrap();
    let layout = Layout {
        prefix: "virga".to_owned(),
        replicas: 1,
        cluster_bytes: 16 << 20,
        shard_bytes: 16 << 20,
    };
    let log = NatsStreams::open(client, layout).await.unwrap();
    let log = log.cluster().await.unwrap();
    let header = Header {
        writer: WriterId([1; 16]),
        number: 1,
        base: 1,
        time: Time(1),
    };
    log.append(Record::encode(&header, &[])).await.unwrap();
}

/// An authority with files that it signed.
struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new(directory: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        std::fs::write(directory.join("ca.pem"), own.pem()).unwrap();
        Self {
            directory: directory.to_owned(),
            issuer: Issuer::new(params, key),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Signs a certificate, and returns its file and the key's.
    fn sign(&self, name: &str) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let address = SanType::IpAddress(Ipv4Addr::LOCALHOST.into());
        params.subject_alt_names.push(address);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = (
            self.path(&format!("{name}.pem")),
            self.path(&format!("{name}.key")),
        );
        std::fs::write(&files.0, certificate.pem()).unwrap();
        std::fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_and_its_clients_prove_each_other_who_they_are() {
    let directory = directory();
    let authority = Authority::new(directory.path());
    let (certificate, key) = authority.sign("server");
    let port = free_port();
    let configuration = Configuration {
        name: "alone".to_owned(),
        listen: (Ipv4Addr::LOCALHOST, port).into(),
        cluster: None,
        zone: None,
        store: directory.path().join("data"),
        max_bytes: 1 << 28,
        prefix: "virga".to_owned(),
        password: PASSWORD.to_owned(),
        tls: Some(nats_server::Tls {
            certificate,
            key,
            authority: authority.path("ca.pem"),
        }),
    };
    let binary = nats_binary();
    let server = NatsServer::start(&binary, directory.path(), &configuration);
    let server = server.await.unwrap();
    server.ready().await.unwrap();
    let secured = Connection {
        servers: vec![format!("tls://virga:{PASSWORD}@127.0.0.1:{port}")],
        tls: Tls {
            required: true,
            authority: Some(authority.path("ca.pem")),
            certificate: Some(authority.sign("client")),
        },
        ..Connection::default()
    };
    appends(&secured).await;
    let other = tempfile::tempdir().unwrap();
    let other = Authority::new(other.path());
    let mut wrong = [secured.clone(), secured.clone(), secured];
    wrong[0].tls.authority = Some(other.path("ca.pem"));
    wrong[1].tls.certificate = None;
    wrong[2].tls.certificate = Some(other.sign("client"));
    for (index, wrong) in wrong.iter().enumerate() {
        assert!(connect(wrong).await.is_err(), "{index}");
    }
    server.stop().await;
}

/// Returns the configuration of a server in a cluster.
fn member(
    index: usize,
    directory: &Path,
    authority: &Authority,
    port: u16,
    routes: &[u16],
) -> Configuration {
    let name = format!("s{index}");
    let (certificate, key) = authority.sign(&name);
    Configuration {
        listen: (Ipv4Addr::LOCALHOST, port).into(),
        cluster: Some(nats_server::Cluster {
            listen: (Ipv4Addr::LOCALHOST, routes[index]).into(),
            peers: routes
                .iter()
                .map(|port| format!("127.0.0.1:{port}"))
                .collect(),
            password: PASSWORD.to_owned(),
        }),
        zone: Some(format!("z{index}")),
        store: directory.join("data"),
        name,
        max_bytes: 1 << 28,
        prefix: "virga".to_owned(),
        password: PASSWORD.to_owned(),
        tls: Some(nats_server::Tls {
            certificate,
            key,
            authority: authority.path("ca.pem"),
        }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_that_virga_looks_after_encrypt_between_each_other_and_one_comes_back() {
    let directory = directory();
    let authority = Authority::new(directory.path());
    let (ports, routes) = ([(); 3].map(|()| free_port()), [(); 3].map(|()| free_port()));
    let binary = nats_binary();
    let mut servers = Vec::new();
    for (index, port) in ports.into_iter().enumerate() {
        let own = directory.path().join(format!("s{index}"));
        std::fs::create_dir(&own).unwrap();
        let configuration = member(index, &own, &authority, port, &routes);
        let server = NatsServer::start(&binary, &own, &configuration).await;
        servers.push(server.unwrap());
    }
    let mut pids = Vec::new();
    for server in &servers {
        pids.push(server.ready().await.unwrap());
    }
    let connection = Connection {
        servers: ports
            .map(|port| format!("tls://virga:{PASSWORD}@127.0.0.1:{port}"))
            .to_vec(),
        tls: Tls {
            required: true,
            authority: Some(authority.path("ca.pem")),
            certificate: Some(authority.sign("client")),
        },
        ..Connection::default()
    };
    let client = connect(&connection).await.unwrap();
    let layout = Layout {
        prefix: "virga".to_owned(),
        replicas: 3,
        cluster_bytes: 16 << 20,
        shard_bytes: 16 << 20,
    };
    let begun = Instant::now();
    let streams = loop {
        match NatsStreams::open(client.clone(), layout.clone()).await {
            Ok(streams) => break streams,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{error}"),
        }
        // JetStream says nowhere when it can make a stream.
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    settings::check(&client, 3, false).await.unwrap();
    let log = streams.cluster().await.unwrap();
    let node = start_node_with(&directory.path().join("bank"), log, || Time(1));
    let paid = node.replica.submit(deposit(1, 0, 1)).await;
    assert_eq!(paid, Ok(Outcome::Balance(1)));

    let mut state = servers[0].state();
    let killed = Command::new("kill")
        .arg("-9")
        .arg(pids[0].to_string())
        .status();
    assert!(killed.unwrap().success());
    let again = state.wait_for(|state| matches!(state, State::Ready { pid } if *pid != pids[0]));
    drop(again.await.unwrap());
    let paid = node.replica.submit(deposit(2, 0, 1)).await;
    assert_eq!(paid, Ok(Outcome::Balance(2)));
    drop(node.close().await);
    for server in servers {
        server.stop().await;
    }
    assert!(
        ports
            .iter()
            .all(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_err())
    );
}

/// A server with a configuration of the operator's own. It ends with it.
struct Server(Child);

impl Server {
    fn start(directory: &Path, port: u16, more: &str) -> Self {
        let configuration = format!(
            "listen: \"127.0.0.1:{port}\"\n\
             jetstream {{ store_dir: \"{}\", sync_interval: always, max_mem: 16MB, max_file: 256MB }}\n{more}",
            directory.join("data").display()
        );
        let file = directory.join("operator.conf");
        std::fs::write(&file, configuration).unwrap();
        let server = Command::new(nats_binary())
            .arg("-c")
            .arg(&file)
            .stderr(Stdio::null())
            .spawn();
        Self(server.unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended, which the test has noticed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a connection with credentials, once the server listens.
async fn credentials(port: u16, directory: &Path, name: &str, text: &str) -> Connection {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    let connection = Connection {
        servers: vec![format!("nats://127.0.0.1:{port}")],
        credentials: Some(path),
        ..Connection::default()
    };
    let begun = Instant::now();
    while let Err(ConnectError::Unavailable { .. }) = connect(&connection).await {
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
    connection
}

const SETTINGS: &str = "$SYS.REQ.SERVER.PING.VARZ";

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_an_nkey_is_known_by_its_seed() {
    let (directory, port, user) = (directory(), free_port(), KeyPair::new_user());
    let accounts = format!(
        "accounts {{
           SYS {{ exports: [{{ service: \"{SETTINGS}\", response: stream, accounts: [VIRGA] }}] }}
           VIRGA {{ jetstream: enabled, users: [{{ nkey: {} }}], imports: [{{ service: {{ account: SYS, subject: \"{SETTINGS}\" }} }}] }}
           OTHER {{ users: [{{ user: other, password: other }}] }}
         }}
         system_account: SYS",
        user.public_key()
    );
    let _server = Server::start(directory.path(), port, &accounts);
    let seed = user.seed().unwrap();
    let own = credentials(port, directory.path(), "own", &format!("{seed}\n")).await;
    appends(&own).await;
    let stranger = KeyPair::new_user().seed().unwrap();
    let stranger = credentials(port, directory.path(), "stranger", &stranger).await;
    let refused = connect(&stranger).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Refused { .. }), "{refused}");

    // Another account neither reaches the streams nor reads the settings.
    let other = Connection {
        servers: vec![format!("nats://other:other@127.0.0.1:{port}")],
        ..Connection::default()
    };
    let client = connect(&other).await.unwrap();
    let unknown = settings::check(&client, 1, false)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        unknown.contains("exports:") && unknown.contains("imports:"),
        "{unknown}"
    );
    let jetstream = async_nats::jetstream::new(client);
    assert!(jetstream.get_stream("virga-cluster").await.is_err());
}

/// Returns a JWT as `nsc` makes it.
fn jwt(kind: &str, subject: &KeyPair, issuer: &KeyPair, mut claims: Value) -> String {
    claims["type"] = kind.into();
    claims["version"] = 2.into();
    let claims = json!({
        "jti": subject.public_key(),
        "iat": 1_700_000_000,
        "iss": issuer.public_key(),
        "name": kind,
        "sub": subject.public_key(),
        "nats": claims,
    });
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_as_nsc_writes_them_work_where_an_operator_signs_accounts() {
    let (directory, port) = (directory(), free_port());
    let (operator, user) = (KeyPair::new_operator(), KeyPair::new_user());
    let (system, virga) = (KeyPair::new_account(), KeyPair::new_account());
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
    });
    let mut system_limits = limits.clone();
    for storage in ["mem_storage", "disk_storage", "streams", "consumer"] {
        system_limits[storage] = 0.into();
    }
    let exports = json!([{ "name": "settings", "subject": SETTINGS, "type": "service", "response_type": "Stream" }]);
    let imports = json!([{
        "name": "settings", "subject": SETTINGS, "account": system.public_key(), "local_subject": SETTINGS, "type": "service",
    }]);
    let account = |key, claims| jwt("account", key, &operator, claims);
    let configuration = format!(
        "operator: \"{}\"\nsystem_account: {}\nresolver: MEMORY\nresolver_preload {{ {}: \"{}\", {}: \"{}\" }}\n",
        jwt(
            "operator",
            &operator,
            &operator,
            json!({ "system_account": system.public_key() })
        ),
        system.public_key(),
        system.public_key(),
        account(
            &system,
            json!({ "limits": system_limits, "exports": exports })
        ),
        virga.public_key(),
        account(&virga, json!({ "limits": limits, "imports": imports })),
    );
    let _server = Server::start(directory.path(), port, &configuration);
    let claims = json!({ "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {} });
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        jwt("user", &user, &virga, claims),
        user.seed().unwrap(),
    );
    let own = credentials(port, directory.path(), "virga.creds", &text).await;
    appends(&own).await;
}
