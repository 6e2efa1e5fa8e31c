//! The options of the bucket server.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Opt, RawConfig, opt, words};

/// The options. The secret of an external S3 is in a file, so that neither a command line nor an environment shows it.
pub(super) const OPTIONS: &[Opt] = &[
    opt(
        "bucket_listen",
        "ADDRESS",
        "127.0.0.1:9401",
        "Address of the bucket API (COS and S3); off = no buckets",
    ),
    opt(
        "bucket_tls_listen",
        "ADDRESS",
        "",
        "Address of the bucket API over TLS, with the API's certificate; empty = no TLS",
    ),
    opt(
        "bucket_domain",
        "NAMES",
        "localhost",
        "Domains of bucket host names, <bucket>.cos.<domain> and <bucket>.<domain>, separated by commas",
    ),
    opt(
        "bucket_store_mb",
        "MB",
        "102400",
        "Maximum size of all objects and their index (MB); when full, writes are rejected",
    ),
    opt(
        "bucket_s3_endpoint",
        "URL",
        "",
        "External S3 that stores the bytes of objects, as https://s3.example.com; empty = files in the data directory",
    ),
    opt(
        "bucket_s3_bucket",
        "NAME",
        "",
        "Bucket of the external S3; virga stores below its own prefix",
    ),
    opt(
        "bucket_s3_region",
        "NAME",
        "us-east-1",
        "Region of the external S3",
    ),
    opt(
        "bucket_s3_credentials",
        "FILE",
        "",
        "JSON file with access_key_id and secret_access_key of the external S3",
    ),
];

/// The validated settings.
#[derive(Clone, Debug)]
pub(crate) struct BucketSettings {
    pub(crate) listen: SocketAddr,
    pub(crate) tls_listen: Option<SocketAddr>,
    pub(crate) domains: Vec<String>,
    pub(crate) store_bytes: u64,
    pub(crate) external_storage: Option<ExternalStorage>,
}

/// An S3 that holds the bytes of objects.
#[derive(Clone, Debug)]
pub(crate) struct ExternalStorage {
    pub(crate) endpoint: String,
    pub(crate) bucket: String,
    pub(crate) region: String,
    pub(crate) credentials: PathBuf,
}

impl RawConfig {
    /// Reads the settings; `None` if buckets are disabled.
    pub(super) fn buckets(&mut self) -> Option<BucketSettings> {
        let listens = self.raw("bucket_listen").0;
        let off = listens.is_empty() || listens == "off";
        let secure = !self.raw("bucket_tls_listen").0.is_empty();
        if secure && (off || self.raw("tls_listen").0.is_empty()) {
            let problem = "bucket_tls_listen: it needs bucket_listen, and tls_listen, whose certificate it uses; set both";
            self.problems.push(problem.to_owned());
        }
        if off {
            return None;
        }
        Some(BucketSettings {
            listen: self.parse(
                "bucket_listen",
                "an address and port, such as 127.0.0.1:9401, or off",
            ),
            tls_listen: secure.then(|| {
                self.parse(
                    "bucket_tls_listen",
                    "an address and port, such as 127.0.0.1:9444",
                )
            }),
            domains: self.domains(),
            store_bytes: self.number("bucket_store_mb", 1, 1 << 40) << 20,
            external_storage: self.external_storage(),
        })
    }

    fn domains(&mut self) -> Vec<String> {
        let (text, source) = self.raw("bucket_domain");
        let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        let label = |label: &str| !label.is_empty() && label.bytes().all(fine);
        for name in words(&text).filter(|name| !name.split('.').all(label)) {
            self.problem(
                "bucket_domain",
                name,
                &source,
                "hosts' names, such as objects.example.com",
            );
        }
        words(&text).map(str::to_ascii_lowercase).collect()
    }

    fn external_storage(&mut self) -> Option<ExternalStorage> {
        const REQUIRED_TOGETHER: [&str; 3] = [
            "bucket_s3_endpoint",
            "bucket_s3_bucket",
            "bucket_s3_credentials",
        ];
        let missing: Vec<_> = REQUIRED_TOGETHER
            .into_iter()
            .filter(|name| self.raw(name).0.is_empty())
            .collect();
        if missing.len() == REQUIRED_TOGETHER.len() {
            return None;
        }
        if !missing.is_empty() {
            self.problems.push(format!(
                "{}: missing; set {} together, or none of them",
                missing.join(", "),
                REQUIRED_TOGETHER.join(", ")
            ));
        }
        let (endpoint, source) = self.raw(REQUIRED_TOGETHER[0]);
        if !endpoint.is_empty()
            && !endpoint.starts_with("http://")
            && !endpoint.starts_with("https://")
        {
            self.problem(
                REQUIRED_TOGETHER[0],
                &endpoint,
                &source,
                "a URL that starts with http:// or https://",
            );
        }
        Some(ExternalStorage {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            bucket: self.raw(REQUIRED_TOGETHER[1]).0,
            region: self.text("bucket_s3_region"),
            credentials: self.raw(REQUIRED_TOGETHER[2]).0.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::super::{args, resolve};
    use super::*;

    fn configured(line: &[&str]) -> Result<Option<BucketSettings>, Vec<String>> {
        let command = Command::new("up").args(args());
        let words = std::iter::once("up").chain(line.iter().copied());
        resolve(&command.try_get_matches_from(words).expect("flags")).map(|config| config.buckets)
    }

    #[test]
    fn buckets_are_served_by_default() {
        let usual = configured(&[]).expect("allowed").expect("served");
        assert_eq!(usual.listen.port(), 9401);
        assert_eq!(usual.domains, ["localhost"]);
        assert!(usual.external_storage.is_none());
        for off in ["off", ""] {
            assert!(
                configured(&["--bucket-listen", off])
                    .expect("allowed")
                    .is_none()
            );
        }
    }

    #[test]
    fn external_storage_options_require_each_other() {
        let rows: [(&[&str], &str); 5] = [
            (
                &["--bucket-s3-endpoint", "https://s3.example.com"],
                "bucket_s3_bucket, bucket_s3_credentials",
            ),
            (
                &[
                    "--bucket-s3-endpoint",
                    "s3",
                    "--bucket-s3-bucket",
                    "b",
                    "--bucket-s3-credentials",
                    "f",
                ],
                "http://",
            ),
            (&["--bucket-tls-listen", "127.0.0.1:9444"], "tls_listen"),
            (&["--bucket-domain", "a.b,c/d"], "\"c/d\""),
            (
                &["--bucket-listen", "here"],
                "bucket_listen (from --bucket-listen)",
            ),
        ];
        for (line, part) in rows {
            let problems = configured(line).expect_err("refused");
            assert!(
                problems.iter().any(|problem| problem.contains(part)),
                "{part}: {problems:?}"
            );
        }
    }
}
