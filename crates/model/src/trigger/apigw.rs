//! APIs of the API gateway that triggers create.

use serde::{Deserialize, Serialize};

use super::TriggerName;
use super::description::{EventSource, TriggerDescription};
use super::name::characters;
use crate::{Field, Invalid};

/// APIs of the API gateway.
pub(super) const APIGW: TriggerDescription = TriggerDescription {
    name: "apigw",
    origin: "APIGW",
    sends_requests: true,
    ..TriggerDescription::EVENTS
};

/// An API that invokes a version or an alias. Each gateway service has exactly one API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayApi {
    /// Service id, which is part of the host name.
    pub service: TriggerName,
    /// Service name, for display.
    pub service_name: String,
    /// Service type; stored and returned, without effect.
    pub service_type: String,
    /// API id.
    pub id: String,
    /// Accepted methods.
    pub method: ApiMethod,
    /// Accepted paths.
    pub path: ApiPath,
    /// Release stage.
    pub stage: Stage,
    /// Whether requests must be signed.
    pub signed: bool,
    /// Whether the function returns a complete HTTP response (integrated response).
    pub integrated: bool,
    /// Whether all request bodies are base64-encoded.
    pub base64: bool,
    /// Whether pages of any origin may call it (CORS).
    pub cors: bool,
}

impl GatewayApi {
    /// Generates an API id from 40 random bits.
    pub fn fresh_id(random: u64) -> String {
        format!("api-{}", characters(random, 8))
    }
}

impl EventSource for GatewayApi {
    fn http_id<'a>(&'a self, _name: &'a TriggerName) -> Option<&'a TriggerName> {
        Some(&self.service)
    }
}

/// An HTTP method of an API, or any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ApiMethod {
    /// Any method.
    Any,
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `DELETE`.
    Delete,
}

impl ApiMethod {
    const ALL: [Self; 6] = [
        Self::Any,
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Delete,
    ];

    /// Returns the SCF name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "ANY",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }

    /// Parses the SCF name.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::ApiMethod`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let known = Self::ALL.into_iter().find(|one| one.as_str() == text);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            Invalid::new(Field::ApiMethod, text, format!("{names} are"))
        })
    }

    /// Returns whether it accepts requests with `method`.
    pub fn accepts(self, method: &str) -> bool {
        self == Self::Any || self.as_str() == method
    }
}

/// A release stage of an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Test stage.
    Test,
    /// Pre-release stage.
    Prepub,
    /// Production stage.
    Release,
}

impl Stage {
    const ALL: [Self; 3] = [Self::Release, Self::Prepub, Self::Test];

    /// Returns the SCF name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Prepub => "prepub",
            Self::Release => "release",
        }
    }

    /// Parses the SCF name.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::Stage`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let known = Self::ALL.into_iter().find(|one| one.as_str() == text);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            Invalid::new(Field::Stage, text, format!("{names} are"))
        })
    }
}

/// A path prefix of an API, matched segment by segment. A segment in braces is a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ApiPath(String);

impl ApiPath {
    /// Parses a path.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::ApiPath`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
        let segment = |segment: &str| {
            let name = named(segment).unwrap_or(segment);
            name.bytes().all(plain) && (name == segment || !name.is_empty())
        };
        let fits = (1..=200).contains(&text.len())
            && text
                .strip_prefix('/')
                .is_some_and(|rest| rest.split('/').all(segment));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            let allowed = "a path of up to 200 letters, digits, '-', '_', '.', '~' and '/' is; a segment may be a name in braces";
            Err(Invalid::new(Field::ApiPath, text, allowed))
        }
    }

    /// Returns the path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Matches a request path. Returns the path parameters, or `None` if it does not match.
    pub fn match_path<'a>(&'a self, path: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
        let mut given = path.trim_start_matches('/').split('/');
        let mut found = Vec::new();
        for own in self.0.split('/').filter(|own| !own.is_empty()) {
            let given = given.next()?;
            match named(own) {
                Some(_) if given.is_empty() => return None,
                Some(name) => found.push((name, given)),
                None if own == given => {}
                None => return None,
            }
        }
        Some(found)
    }
}

impl TryFrom<String> for ApiPath {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<ApiPath> for String {
    fn from(path: ApiPath) -> Self {
        path.0
    }
}

/// Returns the name of a path parameter.
fn named(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_matches_prefix_by_segments() {
        type Found<'a> = Option<Vec<(&'a str, &'a str)>>;
        let rows: [(&str, &str, Found<'_>); 12] = [
            ("/", "/", Some(vec![])),
            ("/", "/a/b", Some(vec![])),
            ("/greet", "/greet", Some(vec![])),
            ("/greet", "/greet/", Some(vec![])),
            ("/greet", "/greet/x", Some(vec![])),
            ("/greet", "/greetings", None),
            ("/greet", "/", None),
            ("/a/{b}", "/a/x%20y", Some(vec![("b", "x%20y")])),
            ("/a/{b}", "/a/", None),
            ("/a/{b}", "/a", None),
            ("/{a}/b/{c}", "/1/b/2/3", Some(vec![("a", "1"), ("c", "2")])),
            ("/{a}/b", "/1/c", None),
        ];
        for (own, path, expected) in rows {
            let own = ApiPath::parse(own).expect("a path");
            assert_eq!(own.match_path(path), expected, "{own:?} {path}");
        }
        for bad in [
            "",
            "a",
            "/a b",
            "/{}",
            "/{a",
            "/=a",
            "/a?b",
            &format!("/{}", "a".repeat(200)),
        ] {
            assert!(ApiPath::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn methods_and_stages_round_trip() {
        for method in ApiMethod::ALL {
            assert_eq!(ApiMethod::parse(method.as_str()), Ok(method));
        }
        for stage in Stage::ALL {
            assert_eq!(Stage::parse(stage.as_str()), Ok(stage));
        }
        assert!(ApiMethod::parse("PATCH").is_err() && Stage::parse("dev").is_err());
        assert!(ApiMethod::Any.accepts("PATCH") && ApiMethod::Get.accepts("GET"));
        assert!(!ApiMethod::Get.accepts("HEAD"));
    }
}
