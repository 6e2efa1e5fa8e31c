//! A request without its body, as parsed for routing: its dialect, its client, and what its address names.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HOST, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method};

use crate::authorizer::{ConnectionPolicy, Principal};
use crate::cos::signature::{Authorization, TOKEN};
use crate::error_response::ErrorContext;
use crate::host::Hosts;
use crate::s3::{Dialect, RequestContext};
use crate::store;

/// The client of a connection.
#[derive(Clone, Debug)]
pub struct Client {
    /// Source address.
    pub from: IpAddr,
    /// Whether the connection uses TLS.
    pub secure: bool,
    /// Rules of the connection.
    pub connection: Arc<dyn ConnectionPolicy>,
}

/// A request without its body, as parsed for routing.
pub(crate) struct RequestHead {
    pub(crate) dialect: Dialect,
    pub(crate) client: Client,
    /// Call-chain depth of the source address.
    pub(crate) depth: u32,
    /// Request id.
    pub(crate) id: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    /// Bucket in the host name.
    pub(crate) host_bucket: Option<String>,
    /// Whether the host name has COS's form.
    cos_host: bool,
}

/// Parameters that select something other than the object's bytes.
const SUBRESOURCES: &[&str] = &[
    "acl",
    "attributes",
    "legal-hold",
    "retention",
    "tagging",
    "uploadId",
];

impl RequestHead {
    /// Parses the head. `depth` is the call-chain depth of the source address.
    pub(crate) fn read(parts: &Parts, client: Client, depth: u32, hosts: &Hosts) -> Self {
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host
            .or(parts.uri.authority().map(http::uri::Authority::as_str))
            .unwrap_or_default();
        let read = hosts.read(host);
        let query = parts.uri.query().unwrap_or_default().as_bytes();
        let query: Vec<_> = form_urlencoded::parse(query).into_owned().collect();
        let has = |wanted: &str| query.iter().any(|(name, _)| name == wanted);
        let signed = parts
            .headers
            .get(AUTHORIZATION)
            .map_or(&[][..], HeaderValue::as_bytes);
        let dialect = if signed.starts_with(b"q-sign-algorithm") || has("q-sign-algorithm") {
            Dialect::Cos
        } else if !signed.is_empty() || has("X-Amz-Signature") || has("Signature") {
            Dialect::S3
        } else if read.cos
            || parts
                .headers
                .keys()
                .any(|name| name.as_str().starts_with("x-cos-"))
        {
            Dialect::Cos
        } else {
            Dialect::S3
        };
        Self {
            dialect,
            depth,
            client,
            id: new_id(),
            host: host.to_owned(),
            path: parts.uri.path().to_owned(),
            query,
            host_bucket: read.bucket.map(str::to_owned),
            cos_host: read.cos,
        }
    }

    /// Returns the request data for an error document.
    pub(crate) fn error_context(&self) -> ErrorContext<'_> {
        ErrorContext {
            dialect: self.dialect,
            host: &self.host,
            path: &self.path,
            request: &self.id,
        }
    }

    /// Returns the context for S3's handlers.
    pub(crate) fn call(&self, method: &Method) -> RequestContext {
        let bucket = *method == Method::PUT && self.target().1.is_empty();
        RequestContext {
            dialect: self.dialect,
            full_names: self.cos_host,
            request: self.id.clone(),
            source_ip: self.client.from.to_string(),
            depth: self.depth,
            may_create: bucket,
            connection: self.client.connection.clone(),
        }
    }

    /// Returns the origin of the request's changes.
    pub(crate) fn change(&self, signer: Option<&Principal>) -> store::ChangeOrigin {
        store::ChangeOrigin {
            request: self.id.clone(),
            source_ip: self.client.from.to_string(),
            by: signer.map(|signer| signer.key_id.clone()),
            depth: signer.map_or(0, |signer| signer.depth).max(self.depth),
        }
    }

    /// Returns the request's URL.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.client.secure { "https" } else { "http" };
        format!("{scheme}://{}{}", self.host, self.path)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let pair = self.query.iter().find(|(given, _)| given == name);
        pair.map(|(_, value)| value.as_str())
    }

    /// Returns the bucket's name as given, and the key.
    pub(crate) fn target(&self) -> (Option<String>, String) {
        let path = crate::percent::decode(&self.path);
        let path = path.strip_prefix('/').unwrap_or(&path);
        match &self.host_bucket {
            Some(bucket) => (Some(bucket.clone()), path.to_owned()),
            None => {
                let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
                (
                    (!bucket.is_empty()).then(|| bucket.to_owned()),
                    key.to_owned(),
                )
            }
        }
    }

    /// Returns whether the request lists the account's buckets.
    pub(crate) fn is_service(&self, method: &Method) -> bool {
        *method == Method::GET && self.target() == (None, String::new())
    }

    pub(crate) fn bucket_name(&self) -> Option<String> {
        self.target().0
    }

    /// Returns whether the request reads an object's bytes.
    pub(crate) fn is_object(&self, method: &Method) -> bool {
        let about = SUBRESOURCES.iter().any(|name| self.has(name));
        *method == Method::GET && !self.target().1.is_empty() && !about
    }

    /// Returns the key id and session token that a request claims, unverified.
    pub(crate) fn signer(&self, headers: &HeaderMap) -> Option<(String, Option<String>)> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let given = text("authorization").filter(|text| !text.is_empty());
        let id = match given {
            Some(text) if text.starts_with("q-sign-algorithm") => {
                Authorization::parse(text).ok()?.key_id
            }
            Some(text) => match text.split_once("Credential=") {
                Some((_, rest)) => rest.split('/').next()?.to_owned(),
                None => text.strip_prefix("AWS ")?.split(':').next()?.to_owned(),
            },
            None => match Authorization::from_query(&self.query) {
                Some(read) => read.ok()?.key_id,
                None => {
                    let credential = self
                        .get("X-Amz-Credential")
                        .or(self.get("AWSAccessKeyId"))?;
                    credential.split('/').next()?.to_owned()
                }
            },
        };
        let token = text("x-amz-security-token").or(text(TOKEN));
        let token = token
            .or(self.get("X-Amz-Security-Token"))
            .or(self.get(TOKEN));
        Some((
            id,
            token.filter(|token| !token.is_empty()).map(str::to_owned),
        ))
    }
}

/// Returns a new request id in COS's form: base64 text.
fn new_id() -> String {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let mut random = [0; 12];
    // Ids need not be secret. Without random bytes the time still distinguishes them.
    let _ = getrandom::fill(&mut random);
    let now = jiff::Timestamp::now().as_second();
    let hex = hex::encode(random);
    STANDARD.encode(format!(
        "{now:x}_{}_{}_{}",
        &hex[..8],
        &hex[8..16],
        &hex[16..]
    ))
}
