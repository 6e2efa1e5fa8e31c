//! The bucket server. The secret of an external S3 is in a file, so that neither a command line nor an environment shows it.

use std::net::SocketAddr;
use std::path::PathBuf;

use gateway_cos::{BucketSettings, ExternalStorage};

use super::option::options;
use super::parse::{Parsed, base_url, host_name, items, number, optional, parsed, text};
use super::raw::RawConfig;

options! {
    /// Options of the bucket server.
    BucketOptions {
        /// Address of the bucket API (COS and S3); off = no buckets
        bucket_listen: Option<SocketAddr> = "ADDRESS", "127.0.0.1:9401" => listen;

        /// Address of the bucket API over TLS, with the API's certificate; empty = no TLS
        bucket_tls_listen: Option<SocketAddr> = "ADDRESS", "" => optional(parsed("an address and port, such as 127.0.0.1:9444"));

        /// Domains of bucket host names, <bucket>.cos.<domain> and <bucket>.<domain>, separated by commas
        bucket_domain: Vec<String> = "NAMES", "localhost" => items(host_name("hosts' names, such as objects.example.com"));

        /// Maximum size of all objects and their index (MB); when full, writes are rejected
        bucket_store_mb: u64 = "MB", "102400" => number(1..=1 << 40);

        /// External S3 that stores the bytes of objects, as https://s3.example.com; empty = files in the data directory
        bucket_s3_endpoint: Option<String> = "URL", "" => optional(base_url);

        /// Bucket of the external S3; virga stores below its own prefix
        bucket_s3_bucket: String = "NAME", "" => |text| Ok(text.to_owned());

        /// Region of the external S3
        bucket_s3_region: String = "NAME", "us-east-1" => text;

        /// JSON file with access_key_id and secret_access_key of the external S3
        bucket_s3_credentials: PathBuf = "FILE", "" => |text| Ok(text.into());
    }
}

impl BucketOptions {
    /// Returns the settings; `None` if buckets are disabled.
    pub(super) fn settings(&self, raw: &mut RawConfig) -> Option<BucketSettings> {
        let secure = raw.is_set("bucket_tls_listen");
        if secure && (self.bucket_listen.is_none() || !raw.is_set("tls_listen")) {
            let problem = "bucket_tls_listen: it needs bucket_listen, and tls_listen, whose certificate it uses; set both";
            raw.problems.push(problem.to_owned());
        }
        Some(BucketSettings {
            listen: self.bucket_listen?,
            tls_listen: self.bucket_tls_listen,
            domains: self.bucket_domain.clone(),
            store_bytes: self.bucket_store_mb << 20,
            external_storage: self.external_storage(raw),
        })
    }

    fn external_storage(&self, raw: &mut RawConfig) -> Option<ExternalStorage> {
        const REQUIRED_TOGETHER: [&str; 3] = [
            "bucket_s3_endpoint",
            "bucket_s3_bucket",
            "bucket_s3_credentials",
        ];
        let missing = REQUIRED_TOGETHER
            .into_iter()
            .filter(|name| !raw.is_set(name));
        let missing: Vec<_> = missing.collect();
        if !missing.is_empty() && missing.len() < REQUIRED_TOGETHER.len() {
            raw.problems.push(format!(
                "{}: missing; set {} together, or none of them",
                missing.join(", "),
                REQUIRED_TOGETHER.join(", ")
            ));
        }
        Some(ExternalStorage {
            endpoint: self.bucket_s3_endpoint.clone()?,
            bucket: self.bucket_s3_bucket.clone(),
            region: self.bucket_s3_region.clone(),
            credentials: self.bucket_s3_credentials.clone(),
        })
    }
}

fn listen(text: &str) -> Parsed<Option<SocketAddr>> {
    match text {
        "" | "off" => Ok(None),
        text => parsed("an address and port, such as 127.0.0.1:9401, or off")(text).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::resolve;
    use super::*;

    fn configured(line: &[&str]) -> Result<Option<BucketSettings>, Vec<String>> {
        resolve(line).map(|config| config.buckets)
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
