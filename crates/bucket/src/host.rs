//! Bucket names in host names.
//!
//! COS's hosts are `<bucket>-<appid>.cos.<region>.myqcloud.com`, and S3's `<bucket>.s3.<region>.<domain>`. Below the
//! operator's domains both forms are accepted, with and without the region, as is `<bucket>.<domain>`.

use std::net::{IpAddr, SocketAddr};

use s3s::S3Result;
use s3s::host::{S3Host, VirtualHost};

/// The domains below which host names carry bucket names.
#[derive(Clone, Debug)]
pub struct Hosts {
    domains: Vec<String>,
}

/// A parsed host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Host<'a> {
    /// Bucket in the host name; `None` if the path carries it.
    pub(crate) bucket: Option<&'a str>,
    /// Whether the host name has COS's form.
    pub(crate) cos: bool,
}

/// COS's own domains.
const OF_COS: [&str; 2] = ["myqcloud.com", "tencentcos.cn"];
/// COS's service labels, in front of the region.
const COS: [&str; 2] = ["cos", "cos-internal"];
const S3: &str = "s3";
const SERVICE: &str = "service";

impl Hosts {
    /// Sets the operator's domains, in lower case.
    pub fn new(domains: impl IntoIterator<Item = String>) -> Self {
        Self {
            domains: domains.into_iter().collect(),
        }
    }

    /// Parses a `Host` header. An IP address or an unknown name carries no bucket.
    pub(crate) fn read<'a>(&self, host: &'a str) -> Host<'a> {
        let none = Host {
            bucket: None,
            cos: false,
        };
        if host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok() {
            return none;
        }
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let domains = OF_COS
            .into_iter()
            .chain(self.domains.iter().map(String::as_str));
        for domain in domains {
            if name == domain {
                return none;
            }
            let below = name
                .strip_suffix(domain)
                .and_then(|rest| rest.strip_suffix('.'));
            if let Some(below) = below {
                let theirs = OF_COS.contains(&domain);
                return read_below(below, theirs);
            }
        }
        none
    }
}

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let virtual_host = VirtualHost::new(host);
        Ok(match self.read(host).bucket {
            Some(bucket) => virtual_host.with_bucket(bucket),
            None => virtual_host,
        })
    }
}

/// Parses the labels in front of the domain: a bucket, `cos` or `s3`, and a region, each optional.
fn read_below(name: &str, theirs: bool) -> Host<'_> {
    let labels: Vec<_> = name.split('.').collect();
    // The service is the last label, or the last but one with a region behind it.
    let at = labels
        .iter()
        .rposition(|label| *label == S3 || COS.contains(label))
        .filter(|at| labels.len() - at <= 2);
    let Some(at) = at else {
        // COS once had hosts with only the region: `<bucket>.cn-south.myqcloud.com`.
        let bucket = if theirs {
            name.rsplit_once('.').map(|(bucket, _)| bucket)
        } else {
            Some(name)
        };
        return Host {
            bucket: bucket.filter(|bucket| *bucket != SERVICE),
            cos: theirs,
        };
    };
    let length: usize = labels[..at].iter().map(|label| label.len() + 1).sum();
    let bucket = name
        .get(..length.saturating_sub(1))
        .filter(|bucket| !bucket.is_empty());
    Host {
        bucket: bucket.filter(|bucket| *bucket != SERVICE),
        cos: labels[at] != S3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_is_read_from_cos_and_s3_hosts() {
        let hosts = Hosts::new(["localhost".to_owned(), "objects.example.com".to_owned()]);
        let rows = [
            (
                "photos-125.cos.ap-guangzhou.myqcloud.com",
                Some("photos-125"),
                true,
            ),
            (
                "photos-125.cos.ap-guangzhou.myqcloud.com:9401",
                Some("photos-125"),
                true,
            ),
            (
                "photos-125.cos-internal.ap-guangzhou.tencentcos.cn",
                Some("photos-125"),
                true,
            ),
            ("photos-125.cn-south.myqcloud.com", Some("photos-125"), true),
            ("cos.ap-guangzhou.myqcloud.com", None, true),
            ("service.cos.myqcloud.com", None, true),
            ("photos-125.cos.localhost:9401", Some("photos-125"), true),
            (
                "photos-125.cos.ap-guangzhou.localhost",
                Some("photos-125"),
                true,
            ),
            ("cos.localhost:9401", None, true),
            ("cos.ap-guangzhou.localhost", None, true),
            ("service.cos.localhost", None, true),
            ("photos.localhost:9401", Some("photos"), false),
            ("my.photos.localhost", Some("my.photos"), false),
            ("photos.s3.localhost", Some("photos"), false),
            (
                "my.photos.s3.us-east-1.objects.example.com",
                Some("my.photos"),
                false,
            ),
            ("s3.localhost", None, false),
            ("localhost:9401", None, false),
            ("127.0.0.1:9401", None, false),
            ("[::1]:9401", None, false),
            ("::1", None, false),
            ("virga.internal:9401", None, false),
            ("photos.elsewhere.com", None, false),
        ];
        for (host, bucket, cos) in rows {
            assert_eq!(hosts.read(host), Host { bucket, cos }, "{host}");
        }
    }
}
