//! A client of the bucket server that signs as COS's do.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use hmac::{Hmac, KeyInit, Mac};
use scf::SecretKey;
use sha1::{Digest, Sha1};

use crate::Answer;
use crate::client::{agent, now};

/// A client of one server's buckets. Cheap to clone.
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

    /// Asks for something at a path with a bucket's full name; the query is not signed.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.attempt(method, path, headers, body)
            .expect("an answer")
    }

    /// The same of a server that may end meanwhile; nothing where no whole answer comes.
    pub fn attempt(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<Answer> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.endpoint))
            .header("Authorization", self.authorization(method, path));
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
        Some(Answer {
            status,
            content_type,
            body,
        })
    }

    /// Sends a body that breaks off: less of it than is announced. Returns when the server is done with it.
    pub fn break_off(&self, method: &str, path: &str, announced: usize, body: &[u8]) {
        let host = self.endpoint.trim_start_matches("http://");
        let mut connection = TcpStream::connect(host).expect("a connection");
        let authorization = self.authorization(method, path);
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {authorization}\r\n\
             Content-Length: {announced}\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).expect("sent");
        connection.write_all(body).expect("sent");
        connection.shutdown(Shutdown::Write).expect("ended");
        // It is refused, or the connection ends, once the server has seen that no more comes.
        let _ = connection.read_to_end(&mut Vec::new());
    }

    /// Asks for something that must succeed; gives the answer as text.
    pub fn ok(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
        let answer = self.send(method, path, headers, body);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let status = answer.status;
        assert!(status < 300, "{method} {path}: {status} {text}");
        text
    }

    fn authorization(&self, method: &str, path: &str) -> String {
        let time = format!("{};{}", now() - 60, now() + 600);
        let path = path.split('?').next().unwrap_or(path);
        let host = self.endpoint.trim_start_matches("http://");
        let host = host.replace(':', "%3A");
        let request = format!("{}\n{path}\n\nhost={host}\n", method.to_lowercase());
        let text = format!("sha1\n{time}\n{}\n", hex::encode(Sha1::digest(request)));
        let key = mac(self.key.reveal().as_bytes(), &time);
        let signature = mac(key.as_bytes(), &text);
        format!(
            "q-sign-algorithm=sha1&q-ak={}&q-sign-time={time}&q-key-time={time}&q-header-list=host&q-url-param-list=\
             &q-signature={signature}",
            self.id
        )
    }
}

fn mac(key: &[u8], text: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("a key of any length");
    mac.update(text.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}
