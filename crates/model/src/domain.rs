//! Custom domains: hosts whose requests go to functions, by their path.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::text;
use crate::{AccountId, FunctionName, Invalid, Namespace, Qualifier, Timestamp};

/// A custom domain as the catalog keeps it. Its name is its owner's alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Domain {
    /// The host.
    pub name: DomainName,
    /// Who owns it, and the functions that it leads to.
    pub account: AccountId,
    /// What it is reached by.
    pub protocol: Protocol,
    /// Where its paths lead.
    pub routes: Vec<Route>,
    /// The id of a certificate, which whoever ends TLS before virga may look up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// What stands before it: shown again, and without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firewall: Option<Firewall>,
    /// Tags, key and value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The value of the DNS record that proved who owns it; none where the operator allows it, or an older version made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// Since when checks have found no proof of who owns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unproved_since: Option<Timestamp>,
    /// When it was made.
    pub added: Timestamp,
    /// When it was last changed.
    pub modified: Timestamp,
}

/// A web application firewall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firewall {
    /// Whether it is open.
    pub open: bool,
    /// Its id.
    pub id: String,
}

/// What a domain is reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP.
    Http,
    /// HTTPS, which something before virga ends.
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

    /// Reads SCF's name.
    ///
    /// # Errors
    /// [`Invalid`] for the field `Protocol`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let known = Self::NAMES.iter().find(|(_, name)| *name == text);
        known
            .map(|(protocol, _)| *protocol)
            .ok_or_else(|| Invalid::new("Protocol", text, "HTTP, HTTPS and HTTP&HTTPS are"))
    }

    /// SCF's name.
    pub fn as_str(self) -> &'static str {
        let own = Self::NAMES.iter().find(|(protocol, _)| *protocol == self);
        own.map_or("HTTP", |(_, name)| name)
    }
}

/// A host's name, in lower case: labels of letters, digits and `-`, two or more of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainName(String);
text!(DomainName);

impl DomainName {
    /// Checks and keeps a name.
    ///
    /// # Errors
    /// [`Invalid`] for the field `Domain`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        // An address is no name.
        let named = text
            .rsplit('.')
            .next()
            .is_some_and(|last| !last.bytes().all(|b| b.is_ascii_digit()));
        if text.len() <= 253 && text.contains('.') && named && text.split('.').all(label) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            let allowed = "a host's name, such as api.example.com, without wildcards, is";
            Err(Invalid::new("Domain", text, allowed))
        }
    }
}

/// Paths of a domain, and the function that they lead to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The function's namespace.
    pub namespace: Namespace,
    /// The function.
    pub function: FunctionName,
    /// Its version or alias.
    pub qualifier: Qualifier,
    /// Which paths.
    pub path: PathPattern,
    /// What the function sees instead; the first that fits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rewrites: Vec<Rewrite>,
}

impl Route {
    /// A path as the function sees it.
    pub fn rewrite(&self, path: &str) -> Option<String> {
        self.rewrites.iter().find_map(|rewrite| {
            let rest = rewrite.path.rest(path)?;
            Some(match rewrite.path.is_wild() {
                true => rewrite.to.replacen('$', rest, 1),
                false => rewrite.to.clone(),
            })
        })
    }
}

/// Another path for some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    /// Which.
    pub path: PathPattern,
    /// What they become; `$` is what the pattern's `*` stood for.
    pub to: String,
}

/// A path, or all below one: `/a/b` or `/a/*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern(String);
text!(PathPattern);

impl PathPattern {
    /// Checks and keeps a pattern.
    ///
    /// # Errors
    /// [`Invalid`] for the field `PathMatch`.
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
            Err(Invalid::new("PathMatch", text, allowed))
        }
    }

    /// Whether it stands for all below a path.
    pub fn is_wild(&self) -> bool {
        self.0.ends_with("/*")
    }

    /// What its `*` stands for in a path, which is nothing where it has none; `None` when it does not fit.
    pub fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        match self.0.strip_suffix('*') {
            Some(above) => path.strip_prefix(above),
            None => (path == self.0).then_some(""),
        }
    }
}

impl Domain {
    /// Where a path leads: to the route of the path itself, else of the longest one above it.
    pub fn route(&self, path: &str) -> Option<&Route> {
        let fits = self
            .routes
            .iter()
            .filter(|route| route.path.rest(path).is_some());
        fits.max_by_key(|route| (!route.path.is_wild(), route.path.as_str().len()))
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
    fn names_and_patterns_are_checked() {
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
    fn a_path_leads_to_the_nearest_route() {
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
    fn paths_are_rewritten_by_the_first_rule_that_fits() {
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
