//! A server as virga runs it.
#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use nats_server::{Configuration, NatsServer, StartError, State};

fn binary() -> PathBuf {
    const INSTALLED: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../.tools/nats/bin/nats-server"
    );
    std::env::var_os("VIRGA_NATS_SERVER").map_or_else(|| PathBuf::from(INSTALLED), PathBuf::from)
}

fn configuration(directory: &Path) -> Configuration {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    Configuration {
        name: "alone".to_owned(),
        listen: free.local_addr().unwrap(),
        cluster: None,
        zone: None,
        store: directory.join("data"),
        max_bytes: 1 << 28,
        prefix: "virga".to_owned(),
        password: "0123456789abcdef".to_owned(),
        tls: None,
    }
}

async fn start(directory: &Path, configuration: &Configuration) -> NatsServer {
    let server = NatsServer::start(&binary(), directory, configuration).await;
    server.unwrap()
}

fn listens(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

fn kill(pid: u32) {
    let killed = Command::new("kill").arg("-9").arg(pid.to_string()).status();
    assert!(killed.unwrap().success());
}

#[tokio::test]
async fn a_server_that_ends_is_started_again_and_stops_with_virga() {
    let directory = tempfile::tempdir().unwrap();
    let configuration = configuration(directory.path());
    let server = start(directory.path(), &configuration).await;
    let first = server.ready().await.unwrap();
    assert!(listens(configuration.listen));
    let mut state = server.state();
    kill(first);
    let ended = state.wait_for(|state| matches!(state, State::Ended { .. }));
    ended.await.unwrap();
    let second = server.ready().await.unwrap();
    assert_ne!(first, second);
    assert!(listens(configuration.listen));
    server.stop().await;
    assert!(!listens(configuration.listen));
    assert_eq!(*state.borrow(), State::Stopped);
}

#[tokio::test]
async fn a_server_that_a_killed_virga_left_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let configuration = configuration(directory.path());
    let server = start(directory.path(), &configuration).await;
    server.ready().await.unwrap();
    server.stop().await;
    let file = directory.path().join("nats-server.conf");
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "it has passwords");
    let mut left = Command::new(binary())
        .arg("-c")
        .arg(&file)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !listens(configuration.listen) {
        std::thread::yield_now();
    }
    // It is a child of this test, which has to be waited for.
    let waited = std::thread::spawn(move || left.wait().unwrap());
    let server = start(directory.path(), &configuration).await;
    waited.join().unwrap();
    server.ready().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_run_is_said_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let good = configuration(directory.path());
    let missing = NatsServer::start(Path::new("/nowhere/nats-server"), directory.path(), &good);
    assert!(matches!(missing.await, Err(StartError::Binary { .. })));
    let tls = nats_server::Tls {
        certificate: directory.path().join("none.pem"),
        key: directory.path().join("none.key"),
        authority: directory.path().join("none.ca"),
    };
    let bad = Configuration {
        tls: Some(tls),
        ..good.clone()
    };
    let refused = NatsServer::start(&binary(), directory.path(), &bad).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("none."), "{refused}");
    let named = Configuration {
        name: "a b".to_owned(),
        ..good
    };
    let refused = NatsServer::start(&binary(), directory.path(), &named).await;
    assert!(matches!(refused, Err(StartError::Invalid(_))));
}
