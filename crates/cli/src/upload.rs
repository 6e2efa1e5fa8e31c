//! Upload of packages through a bucket, because they are too large for a request.

use ureq::http::{Method, StatusCode};

use super::client::{Client, ClientError};
use super::failure::Failure;
use super::output::Output;
use super::s3::{self, ToSign};

/// Maximum size of a package in a request, bytes. Source: SCF's limit, the default of `package_bytes`.
const DIRECT_MAX: usize = 50 << 20;
/// The default bucket. It is created on demand, and packages are deleted after the deployment.
const DEFAULT_BUCKET: &str = "virga-packages";
/// Default port of the buckets.
const BUCKET_PORT: u16 = 9401;

/// Options for packages that are too large for a request.
#[derive(clap::Args, Debug)]
pub(super) struct UploadArgs {
    /// Upload the package through this bucket, created if missing [default: virga-packages, over 50 MB only]
    #[arg(long, value_name = "NAME")]
    bucket: Option<String>,
    /// Address of the buckets [default: port 9401 of the API's host]
    #[arg(long, value_name = "URL", env = "VIRGA_BUCKETS")]
    buckets: Option<String>,
}

/// An uploaded package, until the server has stored it.
#[derive(Debug)]
pub(super) struct Uploaded {
    /// The bucket's name without the AppId.
    pub(super) bucket: String,
    pub(super) key: String,
    endpoint: String,
}

impl UploadArgs {
    /// Uploads a package to a bucket, if it is too large for a request or a bucket is given.
    pub(super) fn put(
        &self,
        client: &Client,
        zip: &[u8],
        output: &Output,
    ) -> Result<Option<Uploaded>, Failure> {
        if self.bucket.is_none() && zip.len() <= DIRECT_MAX {
            return Ok(None);
        }
        let bucket = self.bucket.as_deref().unwrap_or(DEFAULT_BUCKET);
        let endpoint = match &self.buckets {
            Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
            None => default_bucket_endpoint(client.endpoint()).ok_or_else(|| {
                let message = format!(
                    "the package has {} bytes, and a request carries up to {DIRECT_MAX}; larger ones are uploaded to a bucket: \
                     set the address of the buckets with --buckets URL",
                    zip.len()
                );
                Failure::Usage(message)
            })?,
        };
        let uploaded = Uploaded {
            bucket: bucket.to_owned(),
            key: format!("{}.zip", clock::new_request_id()),
            endpoint,
        };
        output.progress(&format!("uploading the package to bucket {bucket} …"));
        let refused = |why: String| {
            Failure::from(ClientError::NotUploaded {
                bytes: zip.len(),
                bucket: bucket.to_owned(),
                endpoint: uploaded.endpoint.clone(),
                why,
            })
        };
        let made = uploaded.send(client, &Method::PUT, "", b"");
        match made.map_err(refused)? {
            (status, _) if status.is_success() || status == StatusCode::CONFLICT => {}
            (status, why) => return Err(refused(format!("{status}: {why}"))),
        }
        let put = uploaded.send(client, &Method::PUT, &uploaded.key, zip);
        match put.map_err(refused)? {
            (status, _) if status.is_success() => Ok(Some(uploaded)),
            (status, why) => Err(refused(format!("{status}: {why}"))),
        }
    }
}

impl Uploaded {
    /// Deletes the package from the bucket.
    pub(super) fn remove(self, client: &Client, output: &Output) {
        let why = match self.send(client, &Method::DELETE, &self.key, b"") {
            Ok((status, _)) if status.is_success() => return,
            Ok((status, why)) => format!("{status}: {why}"),
            Err(why) => why,
        };
        let Self { bucket, key, .. } = self;
        output.note(&format!(
            "failed to delete {key} from bucket {bucket}: {why}; delete it by hand"
        ));
    }

    /// Sends a signed request. Returns the status and the text of an error document.
    fn send(
        &self,
        client: &Client,
        method: &Method,
        key: &str,
        body: &[u8],
    ) -> Result<(StatusCode, String), String> {
        let path = format!("/{}/{key}", self.bucket);
        let host = self.endpoint.split_once("://");
        let host = host.map_or(self.endpoint.as_str(), |(_, host)| host);
        let to_sign = ToSign {
            method: method.as_str(),
            host,
            path: &path,
            body,
        };
        let signed = s3::headers(&to_sign, client.credentials(), jiff::Timestamp::now());
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.endpoint))
            .header("host", host);
        let request = signed.into_iter().fold(request, |request, (name, value)| {
            request.header(name, value)
        });
        let request = request.body(body).map_err(|e| e.to_string())?;
        let mut answer = client.run(request).map_err(|e| e.to_string())?;
        let document = answer.body_mut().read_to_string().unwrap_or_default();
        Ok((answer.status(), error_text(&document)))
    }
}

/// Returns the default address of the buckets for an API without TLS.
fn default_bucket_endpoint(endpoint: &str) -> Option<String> {
    let host = endpoint.strip_prefix("http://")?;
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    Some(format!("http://{name}:{BUCKET_PORT}"))
}

/// Extracts the code and the message from an error document.
fn error_text(document: &str) -> String {
    let field = |name: &str| {
        let (_, rest) = document.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0)
    };
    let words = [field("Code"), field("Message")];
    let words = words.into_iter().flatten().collect::<Vec<_>>().join(": ");
    let escaped = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&amp;", "&"),
    ];
    escaped.iter().fold(words, |words, (escaped, plain)| {
        words.replace(escaped, plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_endpoint_defaults_to_port_9401_of_an_http_api() {
        for (endpoint, expected) in [
            ("http://127.0.0.1:9400", Some("http://127.0.0.1:9401")),
            (
                "http://scf.example.com",
                Some("http://scf.example.com:9401"),
            ),
            ("http://[::1]:9400", Some("http://[::1]:9401")),
            ("http://[::1]", Some("http://[::1]:9401")),
            ("https://scf.example.com", None),
        ] {
            assert_eq!(
                default_bucket_endpoint(endpoint).as_deref(),
                expected,
                "{endpoint}"
            );
        }
    }

    #[test]
    fn s3_error_document_is_decoded() {
        let document = "<Error><Code>AccessDenied</Code><Message>&lt;no&gt;</Message></Error>";
        assert_eq!(error_text(document), "AccessDenied: <no>");
        assert_eq!(error_text("gone"), "");
    }
}
