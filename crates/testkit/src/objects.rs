//! A client of the bucket server that uses the COS signature.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use hmac::{Hmac, KeyInit, Mac};
use scf::SecretKey;
use sha1::{Digest, Sha1};

use crate::HttpResponse;
use crate::client::{agent, now};

/// A client of a server's buckets. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Objects {
    agent: ureq::Agent,
    /// `http://host:port`.
    pub endpoint: String,
    id: String,
    key: SecretKey,
}

impl Objects {
    pub(crate) fn new(endpoint: &str, id: &str, key: &str) -> Self {
        Self {
            agent: agent(),
            endpoint: endpoint.to_owned(),
            id: id.to_owned(),
            key: SecretKey::new(key),
        }
    }

    /// Sends a signed request for a path that starts with the full bucket name.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> HttpResponse {
        self.attempt(method, path, headers, body)
            .expect("an answer")
    }

    /// Sends a signed request to a server that may exit; returns `None` without a complete response.
    pub fn attempt(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<HttpResponse> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.endpoint))
            .header("Authorization", self.authorization(method, path, headers));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).expect("a request");
        let mut answer = self.agent.run(request).ok()?;
        let content_type = answer.headers().get("content-type");
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(1 << 30);
        let body = body.read_to_vec().ok()?;
        Some(HttpResponse {
            status,
            content_type,
            body,
        })
    }

    /// Sends a truncated body, shorter than the announced length. Returns when the server has closed the connection.
    pub fn send_truncated(&self, method: &str, path: &str, announced: usize, body: &[u8]) {
        let host = self.endpoint.trim_start_matches("http://");
        let mut connection = TcpStream::connect(host).expect("a connection");
        let authorization = self.authorization(method, path, &[]);
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {authorization}\r\n\
             Content-Length: {announced}\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).expect("sent");
        connection.write_all(body).expect("sent");
        connection.shutdown(Shutdown::Write).expect("ended");
        // The server responds with an error or closes the connection once it sees the end of the body.
        let _ = connection.read_to_end(&mut Vec::new());
    }

    /// Sends a signed request that must succeed; returns the body as text.
    pub fn ok(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
        let answer = self.send(method, path, headers, body);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let status = answer.status;
        assert!(status < 300, "{method} {path}: {status} {text}");
        text
    }

    /// Signs the parts that determine the effect of a request: the host, COS and S3 headers, and the query.
    fn authorization(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        let time = format!("{};{}", now() - 60, now() + 600);
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let (names, query) = listed(pairs.map(|(name, value)| (name, decoded(value))));
        let host = self.endpoint.trim_start_matches("http://");
        let of_cos = |name: &str| name.starts_with("x-cos-") || name.starts_with("x-amz-");
        let given = headers
            .iter()
            .filter(|(name, _)| of_cos(&name.to_lowercase()));
        let given = given.map(|(name, value)| (*name, (*value).to_owned()));
        let (headers, signed) = listed(given.chain([("host", host.to_owned())]));
        let request = format!("{}\n{path}\n{query}\n{signed}\n", method.to_lowercase());
        let text = format!("sha1\n{time}\n{}\n", hex::encode(Sha1::digest(request)));
        let key = mac(self.key.reveal().as_bytes(), &time);
        let signature = mac(key.as_bytes(), &text);
        format!(
            "q-sign-algorithm=sha1&q-ak={}&q-sign-time={time}&q-key-time={time}&q-header-list={headers}&q-url-param-list={names}\
             &q-signature={signature}",
            self.id
        )
    }
}

/// Returns the names of a signed list, and its canonical form.
fn listed<'a>(pairs: impl Iterator<Item = (&'a str, String)>) -> (String, String) {
    let pairs = pairs.map(|(name, value)| (name.to_lowercase(), encoded(&value)));
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort();
    let names: Vec<_> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    let list: Vec<_> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    (names.join(";"), list.join("&"))
}

fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    let one = |b: u8| match plain(b) {
        true => char::from(b).to_string(),
        false => format!("%{b:02X}"),
    };
    text.bytes().map(one).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let escaped = more.get(..2).filter(|_| *first == b'%');
        let escaped =
            escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &more[2..] } else { more };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn mac(key: &[u8], text: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("a key of any length");
    mac.update(text.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}
