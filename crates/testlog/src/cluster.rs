//! Three NATS servers on ports of their own, with JetStream that syncs always.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nats_server::Configuration;
use replica::nats::{Connection, Layout, NatsLog, NatsStreams, connect};
use tempfile::TempDir;

/// Where `make test` installs the server.
const INSTALLED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../.tools/nats/bin/nats-server"
);
/// Names another server.
const SERVER: &str = "VIRGA_NATS_SERVER";
/// Of the user `virga`, and between servers.
const PASSWORD: &str = "testtesttesttest";
const LONGEST: Duration = Duration::from_secs(60);

/// A cluster. Its servers end with it.
#[derive(Debug)]
pub struct Cluster {
    directory: TempDir,
    servers: Vec<Option<Child>>,
    clients: Vec<u16>,
}

impl Cluster {
    /// Starts a cluster of some servers, and waits until its JetStream has a leader.
    pub async fn start(size: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (clients, routes) = (free_ports(size), free_ports(size));
        for index in 0..size {
            let file = directory.path().join(format!("s{index}.conf"));
            let configuration = Configuration {
                name: format!("s{index}"),
                listen: local(clients[index]),
                cluster: (size > 1).then(|| nats_server::Cluster {
                    listen: local(routes[index]),
                    peers: routes.iter().map(|port| local(*port).to_string()).collect(),
                    password: PASSWORD.to_owned(),
                }),
                zone: Some(format!("z{index}")),
                store: directory.path().join(format!("s{index}")),
                max_bytes: 1 << 30,
                prefix: "virga".to_owned(),
                password: PASSWORD.to_owned(),
                tls: None,
            };
            std::fs::write(file, configuration.render().unwrap()).unwrap();
        }
        let mut cluster = Self {
            directory,
            servers: (0..size).map(|_| None).collect(),
            clients,
        };
        for index in 0..size {
            cluster.restart(index);
        }
        cluster.log("probe", 1 << 20).await;
        cluster
    }

    /// Starts a server that does not run, and waits until it listens.
    pub fn restart(&mut self, index: usize) {
        let mut server = Command::new(nats_binary())
            .arg("-c")
            .arg(self.directory.path().join(format!("s{index}.conf")))
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(server.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("Server is ready") {
            line.clear();
            assert!(
                log.read_line(&mut line).unwrap() > 0,
                "nats-server {index} ended"
            );
        }
        // A server whose log is not read would wait.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        self.servers[index] = Some(server);
    }

    /// Kills a server, as a loss of its machine does.
    pub fn kill(&mut self, index: usize) {
        let mut server = self.servers[index].take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Returns how a client connects, perhaps not to all servers at first.
    pub fn connection(&self) -> Connection {
        let servers = self.clients.iter();
        Connection {
            servers: servers
                .map(|port| format!("nats://virga:{PASSWORD}@127.0.0.1:{port}"))
                .collect(),
            name: "test".to_owned(),
            ..Connection::default()
        }
    }

    /// Opens the streams of an installation, as soon as the cluster can make them.
    pub async fn streams(&self, prefix: &str, max_bytes: u64) -> NatsStreams {
        let client = connect(&self.connection()).await.unwrap();
        let layout = Layout {
            prefix: format!("virga.{prefix}"),
            replicas: self.servers.len(),
            cluster_bytes: max_bytes,
            shard_bytes: max_bytes,
        };
        let begun = Instant::now();
        loop {
            match NatsStreams::open(client.clone(), layout.clone()).await {
                Ok(streams) => return streams,
                Err(error) => assert!(begun.elapsed() < LONGEST, "no stream: {error}"),
            }
            // JetStream says nowhere when it can make a stream.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Opens the log `cluster` of an installation.
    pub async fn log(&self, prefix: &str, max_bytes: u64) -> NatsLog {
        let streams = self.streams(prefix, max_bytes).await;
        streams.cluster().await.unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for server in self.servers.iter_mut().flatten() {
            // It may have ended, which the test has noticed.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Returns the program of the NATS server.
pub fn nats_binary() -> PathBuf {
    let path = std::env::var_os(SERVER).map_or_else(|| PathBuf::from(INSTALLED), PathBuf::from);
    assert!(
        Path::new(&path).exists(),
        "{} is not there: run scripts/setup nats .tools, or set {SERVER}",
        path.display()
    );
    path
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Returns ports that were free a moment ago.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().port())
        .collect()
}
