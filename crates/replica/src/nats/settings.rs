//! Whether the servers are configured so that an acknowledged record is not lost.
//!
//! A server reports its settings to the request `$SYS.REQ.SERVER.PING.VARZ`, which only its system account may send unless it exports the
//! request to virga's account. Exporting it gives virga no other right of the system account.

use std::fmt;
use std::time::Duration;

use async_nats::{Client, StatusCode};
use futures_util::StreamExt;
use serde::Deserialize;
use thiserror::Error;
use tracing::warn;

use crate::record::MAX_RECORD;

/// The request to all servers for their settings.
pub const REQUEST: &str = "$SYS.REQ.SERVER.PING.VARZ";
/// Oldest version that syncs a replicated stream once per Raft append, and has the fixes to membership.
const OLDEST: [u64; 3] = [2, 15, 1];
/// The prefix of the server tag that names a zone.
pub const ZONE_TAG: &str = "az:";
/// Bytes of a message beside its record.
const OVERHEAD: usize = 4096;
/// How long further servers are waited for.
const WAIT: Duration = Duration::from_secs(2);

/// The settings of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Largest message that it takes (bytes).
    pub max_payload: usize,
    /// Its tags.
    pub tags: Vec<String>,
    /// JetStream's settings; none if it is not enabled there.
    pub jetstream: Option<JetStream>,
}

/// The settings of a server's JetStream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JetStream {
    /// Whether each write is on stable storage before it is acknowledged.
    pub sync_always: bool,
    /// The prefix of the tag in which the servers of a stream differ.
    pub unique_tag: Option<String>,
    /// Number of servers in the cluster; 1 for one that is alone.
    pub cluster_size: usize,
}

/// A reason why acknowledged records may be lost, with the line that fixes it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Problem {
    /// The servers do not report their settings.
    #[error(
        "the NATS servers do not report their settings to virga ({0}). Add to their configuration, with the names of your accounts:\n  \
         SYS {{ exports: [{{ service: \"$SYS.REQ.SERVER.PING.VARZ\", response: stream, accounts: [VIRGA] }}] }}\n  \
         VIRGA {{ imports: [{{ service: {{ account: SYS, subject: \"$SYS.REQ.SERVER.PING.VARZ\" }} }}] }}"
    )]
    Unknown(String),
    /// A server is too old.
    #[error("the NATS server {server} is version {version}: install nats-server 2.15.1 or newer")]
    Version {
        /// The server.
        server: String,
        /// Its version.
        version: String,
    },
    /// A server acknowledges before it syncs.
    #[error(
        "the NATS server {server} acknowledges records before they are on its disk. Add to its configuration:\n  jetstream {{ sync_interval: always }}"
    )]
    Sync {
        /// The server.
        server: String,
    },
    /// No server has JetStream.
    #[error(
        "no NATS server stores anything. Add to their configuration:\n  jetstream {{ store_dir: \"/var/lib/nats\", sync_interval: always }}"
    )]
    Storage,
    /// A server refuses records of the greatest size.
    #[error(
        "the NATS server {server} takes messages of {bytes} bytes, and a record may have {needed}. Add to its configuration:\n  max_payload: 1MB"
    )]
    Payload {
        /// The server.
        server: String,
        /// What it takes.
        bytes: usize,
        /// The needed size.
        needed: usize,
    },
    /// There are fewer servers than replicas.
    #[error(
        "there is a cluster of {servers} NATS servers, and each record is to be stored by {replicas}. Start {replicas} servers, each with:\n  \
         cluster {{ name: virga, listen: \"0.0.0.0:6222\", routes: [\"nats-route://HOST:6222\", …] }}"
    )]
    Replicas {
        /// Servers that store.
        servers: usize,
        /// Servers that are needed.
        replicas: usize,
    },
    /// The servers are in several zones, and a stream may have all its replicas in one.
    #[error(
        "the NATS server {server} does not keep replicas in different zones. Add to its configuration:\n  jetstream {{ unique_tag: \"az:\" }}"
    )]
    Zones {
        /// The server.
        server: String,
    },
}

/// All problems of the servers' settings.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct Unsafe(pub Vec<Problem>);

impl fmt::Display for Unsafe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the NATS servers may lose what they have acknowledged")?;
        self.0
            .iter()
            .try_for_each(|problem| write!(f, "\n- {problem}"))
    }
}

/// Checks the servers' settings. With `allow_unsafe`, which is for trying out, problems are warnings.
///
/// # Errors
/// Fails with all problems.
pub async fn check(client: &Client, replicas: usize, allow_unsafe: bool) -> Result<(), Unsafe> {
    let problems = match read(client).await {
        Ok(servers) => problems(&servers, replicas),
        Err(reason) => vec![Problem::Unknown(reason)],
    };
    if problems.is_empty() {
        return Ok(());
    }
    if !allow_unsafe {
        return Err(Unsafe(problems));
    }
    for problem in &problems {
        warn!("UNSAFE LOG: acknowledged changes may be lost, as was allowed: {problem}");
    }
    Ok(())
}

/// Decides whether servers are configured well enough.
pub fn problems(servers: &[Server], replicas: usize) -> Vec<Problem> {
    let stores = servers
        .iter()
        .filter_map(|server| Some((server, server.jetstream.as_ref()?)));
    let stores: Vec<_> = stores.collect();
    let Some(size) = stores.iter().map(|(_, stored)| stored.cluster_size).max() else {
        return vec![Problem::Storage];
    };
    let mut zones: Vec<_> = stores
        .iter()
        .filter_map(|(server, _)| zone(server))
        .collect();
    zones.sort_unstable();
    zones.dedup();
    let mut problems = Vec::new();
    for (server, jetstream) in stores {
        let name = || server.name.clone();
        if version(&server.version).is_none_or(|version| version < OLDEST) {
            problems.push(Problem::Version {
                server: name(),
                version: server.version.clone(),
            });
        }
        if !jetstream.sync_always {
            problems.push(Problem::Sync { server: name() });
        }
        if zones.len() > 1 && jetstream.unique_tag.as_deref() != Some(ZONE_TAG) {
            problems.push(Problem::Zones { server: name() });
        }
    }
    let needed = MAX_RECORD + OVERHEAD;
    // A message may come by any server.
    let small = servers.iter().filter(|server| server.max_payload < needed);
    problems.extend(small.map(|server| Problem::Payload {
        server: server.name.clone(),
        bytes: server.max_payload,
        needed,
    }));
    if size < replicas {
        problems.push(Problem::Replicas {
            servers: size,
            replicas,
        });
    }
    problems
}

fn zone(server: &Server) -> Option<&str> {
    server
        .tags
        .iter()
        .find_map(|tag| tag.strip_prefix(ZONE_TAG))
}

/// Reads `MAJOR.MINOR.PATCH`; a pre-release is older than its release.
fn version(text: &str) -> Option<[u64; 3]> {
    let (release, pre) = match text.split_once('-') {
        Some((release, _)) => (release, true),
        None => (text, false),
    };
    let mut numbers = release.trim_start_matches('v').split('.');
    let mut next = || numbers.next()?.parse().ok();
    let mut version: [u64; 3] = [next()?, next()?, next()?];
    if pre {
        version[2] = version[2].saturating_sub(1);
    }
    Some(version)
}

/// Asks all servers for their settings.
///
/// # Errors
/// Fails with the reason if none answers.
pub async fn read(client: &Client) -> Result<Vec<Server>, String> {
    let inbox = client.new_inbox();
    let failed = |error: &dyn fmt::Display| error.to_string();
    let mut answers = client
        .subscribe(inbox.clone())
        .await
        .map_err(|error| failed(&error))?;
    let sent = client.publish_with_reply(REQUEST, inbox, "".into());
    sent.await.map_err(|error| failed(&error))?;
    let mut servers: Vec<Server> = Vec::new();
    let until = tokio::time::Instant::now() + WAIT;
    while let Ok(Some(answer)) = tokio::time::timeout_at(until, answers.next()).await {
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(format!(
                "the request {REQUEST} is not exported to virga's account"
            ));
        }
        let answer: Answer = serde_json::from_slice(&answer.payload)
            .map_err(|error| format!("an answer to {REQUEST} cannot be read: {error}"))?;
        servers.push(answer.data.into());
        let sizes = servers
            .iter()
            .filter_map(|server| server.jetstream.as_ref());
        let size = sizes.map(|jetstream| jetstream.cluster_size).max();
        if size.is_some_and(|size| servers.len() >= size) {
            break;
        }
    }
    if servers.is_empty() {
        return Err(format!(
            "none answers the request {REQUEST}; a permission may be missing"
        ));
    }
    Ok(servers)
}

#[derive(Deserialize)]
struct Answer {
    data: Varz,
}

#[derive(Deserialize)]
struct Varz {
    server_name: String,
    version: String,
    max_payload: usize,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    jetstream: JetStreamVarz,
}

#[derive(Default, Deserialize)]
struct JetStreamVarz {
    config: Option<JetStreamConfig>,
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct JetStreamConfig {
    #[serde(default)]
    sync_always: bool,
    unique_tag: Option<String>,
}

#[derive(Deserialize)]
struct Meta {
    cluster_size: usize,
}

impl From<Varz> for Server {
    fn from(varz: Varz) -> Self {
        let cluster_size = varz.jetstream.meta.map_or(1, |meta| meta.cluster_size);
        Self {
            name: varz.server_name,
            version: varz.version,
            max_payload: varz.max_payload,
            tags: varz.tags,
            jetstream: varz.jetstream.config.map(|config| JetStream {
                sync_always: config.sync_always,
                unique_tag: config.unique_tag,
                cluster_size,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str) -> Server {
        Server {
            name: name.to_owned(),
            version: "2.15.1".to_owned(),
            max_payload: 1 << 20,
            tags: vec![format!("az:{name}")],
            jetstream: Some(JetStream {
                sync_always: true,
                unique_tag: Some("az:".to_owned()),
                cluster_size: 3,
            }),
        }
    }

    fn servers(change: impl Fn(&mut Server)) -> Vec<Server> {
        let mut servers = vec![server("a"), server("b"), server("c")];
        change(&mut servers[1]);
        servers
    }

    #[test]
    fn each_setting_that_may_lose_records_is_named_with_its_line() {
        assert!(problems(&servers(|_| {}), 3).is_empty());
        type Change = fn(&mut Server);
        let cases: [(Change, &str); 6] = [
            (
                |server| server.jetstream.as_mut().unwrap().sync_always = false,
                "sync_interval: always",
            ),
            (
                |server| server.version = "2.15.0".to_owned(),
                "2.15.1 or newer",
            ),
            (
                |server| server.version = "2.15.1-RC.2".to_owned(),
                "2.15.1 or newer",
            ),
            (
                |server| server.version = "devel".to_owned(),
                "2.15.1 or newer",
            ),
            (
                |server| server.jetstream.as_mut().unwrap().unique_tag = None,
                "unique_tag: \"az:\"",
            ),
            (|server| server.max_payload = 65_536, "max_payload: 1MB"),
        ];
        for (change, line) in cases {
            let found = problems(&servers(change), 3);
            assert_eq!(found.len(), 1, "{found:?}");
            let message = Unsafe(found).to_string();
            assert!(
                message.contains(line) && message.contains("server b"),
                "{message}"
            );
        }
    }

    #[test]
    fn newer_versions_servers_without_zones_and_ones_that_are_down_are_no_problem() {
        for version in ["2.15.1", "2.15.12", "2.16.0-RC.1", "3.0.0", "v2.15.2"] {
            let found = problems(&servers(|server| server.version = version.to_owned()), 3);
            assert!(found.is_empty(), "{version}: {found:?}");
        }
        let one_zone = servers(|_| {}).into_iter().map(|mut server| {
            server.tags.clear();
            server.jetstream.as_mut().unwrap().unique_tag = None;
            server
        });
        assert!(problems(&one_zone.collect::<Vec<_>>(), 3).is_empty());
        assert!(problems(&servers(|_| {})[..2], 3).is_empty());
        let plain = |server: &mut Server| server.jetstream = None;
        assert!(
            problems(&servers(plain), 3).is_empty(),
            "b only passes messages on"
        );
    }

    #[test]
    fn fewer_servers_than_replicas_are_refused() {
        let mut alone = server("a");
        alone.jetstream.as_mut().unwrap().cluster_size = 1;
        assert_eq!(
            problems(std::slice::from_ref(&alone), 3),
            [Problem::Replicas {
                servers: 1,
                replicas: 3
            }]
        );
        assert!(problems(&[alone.clone()], 1).is_empty());
        alone.jetstream = None;
        assert_eq!(problems(&[alone], 1), [Problem::Storage]);
    }
}
