//! Custom domains: hosts whose requests are routed to functions by path.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::text;
use crate::{AccountId, Field, FunctionName, Invalid, Namespace, Qualifier, Timestamp};

/// A custom domain, as the catalog stores it. Its name is unique across accounts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Domain {
    /// Host name.
    pub name: DomainName,
    /// Owner of the domain and of the functions that it routes to.
    pub account: AccountId,
    /// Accepted protocols.
    pub protocol: Protocol,
    /// Routes to functions.
    pub routes: Vec<Route>,
    /// Certificate id, for the proxy that terminates TLS in front of virga.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Web application firewall; stored and returned, without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firewall: Option<Firewall>,
    /// Tags, key and value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Value of the DNS record that proved ownership. None if the operator does not require proof, or an older version created
    /// the domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// Time since which ownership checks have failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unproved_since: Option<Timestamp>,
    /// Creation time.
    pub added: Timestamp,
    /// Last modification time.
    pub modified: Timestamp,
}

/// Settings of a web application firewall (WAF).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firewall {
    /// Whether it is enabled.
    pub open: bool,
    /// Id.
    pub id: String,
}

/// Protocols that a domain accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP.
    Http,
    /// HTTPS, terminated in front of virga.
    Https,
    /// Both.
    Both,
}

impl Protocol {
    /// SCF's names.
    const NAMES: [(Self, &'static str); 3] = [
        (Self::Http, "HTTP"),
        (Self::Https, "HTTPS"),
        (Self::Both, "HTTP&HTTPS"),
    ];

    /// Parses the SCF name.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::Protocol`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let known = Self::NAMES.iter().find(|(_, name)| *name == text);
        known
            .map(|(protocol, _)| *protocol)
            .ok_or_else(|| Invalid::new(Field::Protocol, text, "HTTP, HTTPS and HTTP&HTTPS are"))
    }

    /// Returns the SCF name.
    pub fn as_str(self) -> &'static str {
        let own = Self::NAMES.iter().find(|(protocol, _)| *protocol == self);
        own.map_or("HTTP", |(_, name)| name)
    }
}

/// A host name in lower case: two or more labels of letters, digits and `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainName(String);
text!(DomainName);

impl DomainName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::Domain`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        // An IPv4 address is not a host name.
        let named = text
            .rsplit('.')
            .next()
            .is_some_and(|last| !last.bytes().all(|b| b.is_ascii_digit()));
        if text.len() <= 253 && text.contains('.') && named && text.split('.').all(label) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            let allowed = "a host's name, such as api.example.com, without wildcards, is";
            Err(Invalid::new(Field::Domain, text, allowed))
        }
    }
}

/// A route from paths of a domain to a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Namespace of the function.
    pub namespace: Namespace,
    /// Function.
    pub function: FunctionName,
    /// Version or alias.
    pub qualifier: Qualifier,
    /// Matching paths.
    pub path: PathPattern,
    /// Path rewrites; the first match applies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rewrites: Vec<Rewrite>,
}

impl Route {
    /// Rewrites a request path; returns `None` if no rewrite matches.
    pub fn rewrite(&self, path: &str) -> Option<String> {
        self.rewrites.iter().find_map(|rewrite| {
            let rest = rewrite.path.rest(path)?;
            Some(match rewrite.path.is_wildcard() {
                true => rewrite.to.replacen('$', rest, 1),
                false => rewrite.to.clone(),
            })
        })
    }
}

/// A path rewrite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    /// Matching paths.
    pub path: PathPattern,
    /// Replacement, in which `$` stands for the text that `*` matched.
    pub to: String,
}

/// A path pattern: an exact path such as `/a/b`, or everything below a path, such as `/a/*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern(String);
text!(PathPattern);

impl PathPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::PathPattern`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let plain = text.strip_suffix("/*").unwrap_or(text);
        let fine = text.starts_with('/')
            && text.len() <= 256
            && plain
                .bytes()
                .all(|b| b.is_ascii_graphic() && !matches!(b, b'*' | b'?' | b'#'));
        if fine {
            Ok(Self(text.to_owned()))
        } else {
            let allowed = "a path such as /, /*, /a, /a/b or /a/* is";
            Err(Invalid::new(Field::PathPattern, text, allowed))
        }
    }

    /// Returns whether it ends with a wildcard.
    pub fn is_wildcard(&self) -> bool {
        self.0.ends_with("/*")
    }

    /// Returns the text that `*` matches in a path, empty without a `*`; `None` if the path does not match.
    pub fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        match self.0.strip_suffix('*') {
            Some(above) => path.strip_prefix(above),
            None => (path == self.0).then_some(""),
        }
    }
}

impl Domain {
    /// Finds the route for a path: an exact match, or else the longest wildcard match.
    pub fn route(&self, path: &str) -> Option<&Route> {
        let fits = self
            .routes
            .iter()
            .filter(|route| route.path.rest(path).is_some());
        fits.max_by_key(|route| (!route.path.is_wildcard(), route.path.as_str().len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str, rewrites: &[(&str, &str)]) -> Route {
        let rewrite = |(path, to): &(&str, &str)| Rewrite {
            path: PathPattern::parse(path).expect("a pattern"),
            to: (*to).to_owned(),
        };
        Route {
            namespace: Namespace::default(),
            function: FunctionName::parse("some").expect("a name"),
            qualifier: Qualifier::Latest,
            path: PathPattern::parse(path).expect("a pattern"),
            rewrites: rewrites.iter().map(rewrite).collect(),
        }
    }

    #[test]
    fn invalid_names_and_patterns_are_rejected() {
        for good in ["a.b", "Api.Example.com", "x-1.localhost"] {
            assert_eq!(
                DomainName::parse(good).map(|name| name.to_string()),
                Ok(good.to_lowercase())
            );
        }
        for bad in [
            "",
            "localhost",
            "*.a.b",
            "a..b",
            "-a.b",
            "a.b.",
            "1.2.3.4",
            "a_b.c",
            "a.b:80",
        ] {
            assert!(DomainName::parse(bad).is_err(), "{bad}");
        }
        for good in ["/", "/*", "/a", "/a/b", "/a/*"] {
            assert!(PathPattern::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "*", "/a*", "/*/a", "/a b", "/a?b"] {
            assert!(PathPattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn exact_route_wins_over_longest_wildcard_route() {
        let domain = Domain {
            name: DomainName::parse("a.b").expect("a name"),
            account: AccountId(1),
            protocol: Protocol::Http,
            routes: ["/*", "/api/*", "/api/one", "/api/deep/*"]
                .map(|path| route(path, &[]))
                .to_vec(),
            certificate: None,
            firewall: None,
            tags: BTreeMap::new(),
            proof: None,
            unproved_since: None,
            added: 0,
            modified: 0,
        };
        let rows = [
            ("/", "/*"),
            ("/api", "/*"),
            ("/api/", "/api/*"),
            ("/api/one", "/api/one"),
            ("/api/one/two", "/api/*"),
            ("/api/deep/x", "/api/deep/*"),
        ];
        for (path, expected) in rows {
            assert_eq!(
                domain.route(path).map(|route| route.path.as_str()),
                Some(expected),
                "{path}"
            );
        }
        let narrow = Domain {
            routes: vec![route("/only", &[])],
            ..domain
        };
        assert_eq!(narrow.route("/other"), None);
    }

    #[test]
    fn first_matching_rewrite_applies() {
        let route = route(
            "/*",
            &[("/old", "/new"), ("/api/*", "/$"), ("/fixed/*", "/one")],
        );
        let rows = [
            ("/old", Some("/new")),
            ("/api/a/b", Some("/a/b")),
            ("/api/", Some("/")),
            ("/fixed/a", Some("/one")),
            ("/other", None),
        ];
        for (path, expected) in rows {
            assert_eq!(route.rewrite(path).as_deref(), expected, "{path}");
        }
    }
}
