//! A server on its own port, and a signing client.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bucket::s3::{self, RequestContext};
use bucket::{
    AccessRequest, Authorizer, BucketName, Change, ChangeObserver, Hosts, Key, Notice, ObjectKey,
    Principal, Settings, Store,
};
use bytes::Bytes;
use futures_util::stream;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

pub(crate) const OWNER: &str = "AKIDowner";
pub(crate) const STRANGER: &str = "AKIDstranger";
/// A user of the owner's account with read permission only.
pub(crate) const READER: &str = "AKIDreader";
/// A temporary key of the owner's account, with `TOKEN`.
pub(crate) const TEMPORARY: &str = "AKIDtemporary";
pub(crate) const TOKEN: &str = "a-session-token";
pub(crate) const APP: u64 = 1_250_000_000;

/// Test authorizer. Each key's secret is its id reversed.
#[derive(Debug)]
struct Keys;

impl Authorizer for Keys {
    fn key(&self, id: &str, token: Option<&str>) -> Option<Key> {
        let app_id = match id {
            OWNER | READER if token.is_none() => APP,
            TEMPORARY if token == Some(TOKEN) => APP,
            STRANGER if token.is_none() => APP + 1,
            _ => return None,
        };
        Some(Key {
            secret: secret(id),
            principal: Principal {
                key_id: id.to_owned(),
                app_id,
                depth: 0,
                identity: Arc::new(()),
            },
        })
    }

    fn allows(&self, principal: &Principal, access: &AccessRequest<'_>) -> bool {
        principal.key_id != READER
            || access.action.starts_with("Get")
            || access.action.starts_with("Head")
    }

    fn region(&self) -> String {
        "ap-guangzhou".to_owned()
    }
}

fn secret(id: &str) -> String {
    id.chars().rev().collect()
}

/// Causes a notice of every change, with the text `kind key size`.
#[derive(Debug)]
pub(crate) struct ObserveAll;

impl ChangeObserver for ObserveAll {
    fn notices_of(&self, change: &Change) -> Vec<Notice> {
        let said = format!("{} {} {}", change.kind.as_str(), change.key, change.size);
        vec![Notice {
            id: format!("{}-{}", change.key, change.kind.as_str()),
            to: "all".to_owned(),
            body: Bytes::from(said),
        }]
    }
}

pub(crate) struct World {
    pub(crate) store: Store,
    address: SocketAddr,
    pub(crate) directory: TempDir,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A request.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestRequest<'a> {
    /// Signing key; empty for an anonymous request.
    pub(crate) key: &'a str,
    pub(crate) method: &'a str,
    /// Path as sent, with its query.
    pub(crate) path: &'a str,
    pub(crate) headers: Vec<(&'a str, String)>,
    pub(crate) body: Vec<u8>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path(), settings, Arc::new(ObserveAll)).expect("a store");
        Self::over(store, directory).await
    }

    pub(crate) async fn over(store: Store, directory: TempDir) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let service = s3::service(store.clone(), Arc::new(Keys), Hosts::new([]));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let serve = service_fn(move |mut request: Request<Incoming>| {
                        request.extensions_mut().insert(RequestContext {
                            request: "request-1".to_owned(),
                            source_ip: "127.0.0.1".to_owned(),
                            ..RequestContext::default()
                        });
                        let service = service.clone();
                        async move { service.call(request.map(s3s::Body::from)).await }
                    });
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), serve);
                    // A client may disconnect.
                    let _ = connection.await;
                });
            }
        });
        Self {
            store,
            address,
            directory,
        }
    }

    /// Restarts the store on its data.
    pub(crate) async fn restart(self, settings: Settings) -> Self {
        self.store.close().await;
        let store =
            Store::open(self.directory.path(), settings, Arc::new(ObserveAll)).expect("a store");
        Self::over(store, self.directory).await
    }

    pub(crate) async fn send(&self, ask: TestRequest<'_>) -> Reply {
        let body = Bytes::from(ask.body.clone());
        let mut request = Request::builder().method(ask.method).uri(ask.path);
        for (name, value) in sign(&ask, &self.address.to_string()) {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).expect("a request");
        let stream = TcpStream::connect(self.address)
            .await
            .expect("a connection");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("a handshake");
        let connection = tokio::spawn(connection);
        let reply = sender.send_request(request).await.expect("an answer");
        let (parts, body) = reply.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        drop(sender);
        let _ = connection.await;
        Reply {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    /// Sends a request as the owner.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        self.with_headers(method, path, &[], body).await
    }

    /// Sends a request as the owner, with headers.
    pub(crate) async fn with_headers(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        self.send(TestRequest {
            key: OWNER,
            method,
            path,
            headers: headers
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
            body: body.to_vec(),
        })
        .await
    }

    /// Returns the text of all pending notices.
    pub(crate) async fn notices(&self) -> Vec<String> {
        let notices = self.store.outbox().next(0, 10_000).await.expect("notices");
        let said = notices
            .into_iter()
            .map(|(_, notice)| String::from_utf8(notice.body.to_vec()).expect("text"));
        said.collect()
    }

    /// Appends to an object. Returns the position of the next append.
    pub(crate) async fn append(&self, key: &str, position: u64, bytes: &[u8]) -> u64 {
        let bytes = Bytes::copy_from_slice(bytes);
        let body = stream::iter([Ok::<_, std::io::Error>(bytes)]);
        let staged = self.store.stage(body, &[]).await.expect("taken in");
        let (put, origin) = (Default::default(), Default::default());
        let appended = self
            .store
            .append(&photos(), &object(key), position, staged, put, origin)
            .await;
        appended.expect("appended").next_position
    }

    /// Counts the inline rows in the index.
    pub(crate) fn rows(&self) -> u64 {
        let index = self.directory.path().join("index.sqlite");
        let index = rusqlite::Connection::open(index).expect("the index");
        let count = index.query_row("SELECT COUNT(*) FROM inline", [], |row| {
            row.get::<_, i64>(0)
        });
        count.expect("a number") as u64
    }

    /// Counts the blob files.
    pub(crate) fn files(&self) -> usize {
        files(&self.directory.path().join("blobs"))
    }
}

/// The bucket of most tests.
pub(crate) fn photos() -> BucketName {
    BucketName::new("photos", APP).expect("a name")
}

pub(crate) fn object(key: &str) -> ObjectKey {
    ObjectKey::parse(key).expect("a key")
}

/// Waits for an effect that follows a response.
pub(crate) async fn eventually(what: &str, check: impl Fn() -> bool) {
    let begun = Instant::now();
    while !check() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not yet: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn files(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let counts = entries.map(|entry| {
        if entry.path().is_dir() {
            files(&entry.path())
        } else {
            1
        }
    });
    counts.sum()
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("text"))
    }

    /// Returns the texts of all elements of a name.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let text = self.text();
        let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
        let pieces = text.split(&begin).skip(1);
        let inner = pieces.map(|piece| piece.split(&end).next().unwrap_or_default().to_owned());
        inner.collect()
    }

    pub(crate) fn one(&self, name: &str) -> String {
        self.all(name).first().cloned().unwrap_or_default()
    }

    /// Returns the status, and an error's code.
    pub(crate) fn code(&self) -> (u16, String) {
        (self.status.as_u16(), self.one("Code"))
    }

    pub(crate) fn ok(self) -> Self {
        assert!(self.status.is_success(), "{}: {}", self.status, self.text());
        self
    }
}

/// Signs a request with AWS version 4. Returns all headers.
fn sign(ask: &TestRequest<'_>, host: &str) -> Vec<(String, String)> {
    let mut headers = BTreeMap::new();
    headers.insert("host".to_owned(), host.to_owned());
    for (name, value) in &ask.headers {
        headers.insert(name.to_lowercase(), value.clone());
    }
    if ask.key.is_empty() {
        return headers.into_iter().collect();
    }
    let hash = hex::encode(Sha256::digest(&ask.body));
    headers
        .entry("x-amz-content-sha256".to_owned())
        .or_insert(hash);
    let at = jiff::Timestamp::now()
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string();
    headers.insert("x-amz-date".to_owned(), at.clone());
    let (path, query) = ask.path.split_once('?').unwrap_or((ask.path, ""));
    let mut pairs: Vec<String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            if pair.contains('=') {
                pair.to_owned()
            } else {
                format!("{pair}=")
            }
        })
        .collect();
    pairs.sort();
    let mut canonical = format!("{}\n{path}\n{}\n", ask.method, pairs.join("&"));
    for (name, value) in &headers {
        let _ = writeln!(canonical, "{name}:{}", value.trim());
    }
    let signed = headers.keys().cloned().collect::<Vec<_>>().join(";");
    let _ = write!(canonical, "\n{signed}\n{}", headers["x-amz-content-sha256"]);
    let scope = format!("{}/ap-guangzhou/s3/aws4_request", &at[..8]);
    let digest = hex::encode(Sha256::digest(canonical.as_bytes()));
    let text = format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{digest}");
    let mut key = format!("AWS4{}", secret(ask.key)).into_bytes();
    for part in [&at[..8], "ap-guangzhou", "s3", "aws4_request"] {
        key = mac(&key, part);
    }
    let signature = hex::encode(mac(&key, &text));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, Signature={signature}",
        ask.key
    );
    headers.insert("authorization".to_owned(), authorization);
    headers.into_iter().collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}
