//! The installation's own hosts: its API, its buckets and functions' URLs.
//!
//! They have precedence over custom domains, and no account can register one. The reserved hosts follow from the
//! configuration and the served certificate alone, so they also win over a domain that an older version stored.
//!
//! Owns the patterns of hosts, the list of reserved ones, and the addresses of functions' URLs. Never knows DNS, HTTP, or which domains accounts have.
#![forbid(unsafe_code)]

mod addresses;

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

use sandbox::network::API_NAME;

pub use self::addresses::{Addresses, is_service, read_path};

/// Domains of the cloud whose clients virga serves. SDKs, command lines and agents have names below them built in.
const CLOUD: &[&str] = &[
    "cloud.tencent.com",
    "myqcloud.com",
    "qcloud.com",
    "tencentcloud.com",
    "tencentcloudapi.com",
    "tencentcos.cn",
    "tencentcos.com",
    "tencentcs.com",
    "tencentscf.com",
    "tencentyun.com",
];

/// The installation's own hosts.
#[derive(Debug, Default)]
pub struct ApiHosts {
    /// Host names of the API that the operator configured by name.
    names: HashSet<String>,
    /// The configured patterns.
    patterns: Vec<HostPattern>,
    /// Domains of buckets and URLs, reserved with all their subdomains.
    zones: Vec<String>,
    certificate: CertificateNames,
}

/// The reason why a host cannot be a custom domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The operator named it for the API.
    Api,
    /// The API's certificate names it.
    Certificate,
    /// Functions reach the API by it.
    Inside,
    /// It is in a domain of buckets or URLs.
    Zone,
    /// Official clients have it built in.
    Cloud,
    /// It can be parsed as an IP address.
    Address,
}

impl fmt::Display for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Api => "it is a host of this installation's API",
            Self::Certificate => "the certificate of this installation's API names it",
            Self::Inside => "functions reach the API by it",
            Self::Zone => "it is in a domain of buckets or of functions' URLs",
            Self::Cloud => "it is a host of the cloud's APIs that is built into clients",
            Self::Address => "it can be parsed as an IP address",
        })
    }
}

impl ApiHosts {
    /// Collects the hosts: configured patterns, the public URL, the domains of buckets and URLs, and the certificate's
    /// names.
    pub fn new<'a>(
        patterns: &[HostPattern],
        public_url: Option<&str>,
        zones: impl IntoIterator<Item = &'a str>,
        certificate: CertificateNames,
    ) -> Self {
        let written = patterns.iter().filter_map(|pattern| match pattern {
            HostPattern::Exact(name) => Some(name.clone()),
            HostPattern::Below(_) | HostPattern::Any => None,
        });
        Self {
            names: written.chain(public_url.map(canonical)).collect(),
            patterns: patterns.to_vec(),
            zones: zones.into_iter().map(canonical).collect(),
            certificate,
        }
    }

    /// Returns whether the operator configured this host for the API by name. Such a host is not a function's URL
    /// either.
    pub fn names(&self, host: &str) -> bool {
        self.names.contains(host)
    }

    /// Returns why a host, in lower case and without a port, cannot be a custom domain; `None` if it can.
    pub fn reserves(&self, host: &str) -> Option<Reserved> {
        if is_address(host) {
            Some(Reserved::Address)
        } else if self.names(host) || self.patterns.iter().any(|pattern| pattern.covers(host)) {
            Some(Reserved::Api)
        } else if is_at_or_below(host, API_NAME) {
            Some(Reserved::Inside)
        } else if self.zones.iter().any(|zone| is_at_or_below(host, zone)) {
            Some(Reserved::Zone)
        } else if CLOUD.iter().any(|zone| is_at_or_below(host, zone)) {
            Some(Reserved::Cloud)
        } else if self.certificate.cover(host) {
            Some(Reserved::Certificate)
        } else {
            None
        }
    }
}

/// The DNS names of the served certificate. Clones share them; a renewed certificate replaces them.
#[derive(Clone, Debug, Default)]
pub struct CertificateNames(Arc<RwLock<Vec<HostPattern>>>);

impl CertificateNames {
    /// Replaces the names. Ignores those that are not host names.
    pub fn set<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let names = names.into_iter().filter_map(|name| name.parse().ok());
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = names.collect();
    }

    fn cover(&self, host: &str) -> bool {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        names.iter().any(|name| match name {
            // In a certificate `*` matches one label.
            HostPattern::Below(zone) => {
                is_at_or_below(host, zone)
                    && host
                        .split_once('.')
                        .is_some_and(|(_, parent)| parent == zone)
            }
            name => name.covers(host),
        })
    }
}

/// A host pattern of the operator: `example.com`, `*.example.com` for all subdomains, or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// One host.
    Exact(String),
    /// All subdomains of this host.
    Below(String),
    /// Every host.
    Any,
}

impl HostPattern {
    /// Returns whether the pattern matches a host, in lower case and without a port.
    pub fn covers(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => host == name,
            Self::Below(zone) => host != zone && is_at_or_below(host, zone),
            Self::Any => true,
        }
    }
}

impl FromStr for HostPattern {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        // A scheme and a port are ignored. A path is refused, since it would have no effect.
        let path = name
            .rsplit("://")
            .next()
            .is_some_and(|host| host.contains('/'));
        let name = canonical(name);
        let label = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if path || !name.split('.').all(label) {
            return Err(());
        }
        Ok(match below {
            true => Self::Below(name),
            false => Self::Exact(name),
        })
    }
}

/// Returns the canonical DNS form of a host: without scheme, port and trailing dots, in lower case, Unicode as `xn--…`.
fn canonical(host: &str) -> String {
    let name = host_name(host);
    idna::domain_to_ascii(&name).unwrap_or(name)
}

/// Returns whether each `xn--` label of a name is canonical. Another spelling would be taken for the same name.
pub fn is_canonical(name: &str) -> bool {
    idna::domain_to_ascii(name).is_ok_and(|ascii| ascii == name)
}

fn is_at_or_below(host: &str, zone: &str) -> bool {
    host.strip_suffix(zone)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Returns whether clients take a host for an address. Browsers do if its last label is a number, also in hexadecimal.
fn is_address(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    let hex = last
        .strip_prefix("0x")
        .is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    let decimal = !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit());
    hex || decimal || host.contains(['[', ':'])
}

/// Extracts the lower-case host name from a `Host` header or a URL, without port and scheme; some clients send a scheme.
pub fn host_name(header: &str) -> String {
    let host = header.rsplit("://").next().unwrap_or(header);
    let name = host.split([':', '/']).next().unwrap_or(host);
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::Reserved::{Address, Api, Certificate, Cloud, Inside, Zone};
    use super::*;

    #[test]
    fn host_name_ignores_scheme_port_and_case() {
        for header in [
            "Api.Example.com",
            "api.example.com:9400",
            "http://api.example.com:1",
            "api.example.com.",
            "https://api.example.com/x",
        ] {
            assert_eq!(host_name(header), "api.example.com");
        }
    }

    #[test]
    fn own_hosts_are_reserved_in_every_spelling() {
        let patterns = ["api.Corp.example:9400.", "*.edge.example", "BÜCHER.example"]
            .map(|text| text.parse().expect("a pattern"));
        let certificate = CertificateNames::default();
        certificate.set(["tls.example", "*.wild.example"]);
        let zones = ["fn.example.com", "localhost"];
        let hosts = ApiHosts::new(
            &patterns,
            Some("https://Public.example:8443"),
            zones,
            certificate.clone(),
        );
        let rows = [
            ("api.corp.example", Some(Api)),
            ("public.example", Some(Api)),
            ("a.b.edge.example", Some(Api)),
            ("xn--bcher-kva.example", Some(Api)),
            ("edge.example", None),
            ("notapi.corp.example", None),
            ("tls.example", Some(Certificate)),
            ("a.wild.example", Some(Certificate)),
            ("a.b.wild.example", None),
            ("wild.example", None),
            ("virga.internal", Some(Inside)),
            ("buckets.virga.internal", Some(Inside)),
            ("fn.example.com", Some(Zone)),
            ("1-x.ap-guangzhou.fn.example.com", Some(Zone)),
            ("anything.localhost", Some(Zone)),
            ("scf.tencentcloudapi.com", Some(Cloud)),
            ("photos-1.cos.ap-guangzhou.myqcloud.com", Some(Cloud)),
            ("metadata.tencentyun.com", Some(Cloud)),
            ("nottencentcloudapi.com", None),
            ("127.0.0.1", Some(Address)),
            ("127.0.0.0x1", Some(Address)),
            ("a.0x", Some(Address)),
            ("[::1]", Some(Address)),
            ("shop.example.com", None),
        ];
        for (host, expected) in rows {
            assert_eq!(hosts.reserves(host), expected, "{host}");
        }
        assert!(hosts.names("api.corp.example") && hosts.names("public.example"));
        assert!(!hosts.names("a.b.edge.example"));
        certificate.set(["renewed.example"]);
        assert_eq!(hosts.reserves("tls.example"), None);
        assert_eq!(hosts.reserves("renewed.example"), Some(Certificate));
    }

    #[test]
    fn host_patterns_are_names_with_an_optional_leading_star() {
        for bad in ["", "a..b", "a.*.b", "*x.b", "a/b", "b c", "*."] {
            assert_eq!(bad.parse::<HostPattern>(), Err(()), "{bad}");
        }
        let below: HostPattern = "*.Example.com".parse().expect("a pattern");
        assert!(below.covers("a.example.com") && below.covers("a.b.example.com"));
        assert!(!below.covers("example.com") && !below.covers("badexample.com"));
        assert!(HostPattern::Any.covers("anything.example"));
    }

    #[test]
    fn non_canonical_punycode_is_refused() {
        for good in ["shop.example.com", "xn--bcher-kva.example"] {
            assert!(is_canonical(good), "{good}");
        }
        for bad in ["xn--api-.example", "xn--a.example", "xn--.example"] {
            assert!(!is_canonical(bad), "{bad}");
        }
    }
}
