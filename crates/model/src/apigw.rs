//! An API of the API gateway, as a trigger makes one: where it is, what it takes, and how it answers.

use serde::{Deserialize, Serialize};

use crate::trigger::characters;
use crate::{Invalid, TriggerName};

/// An API whose requests run a version or an alias. It is the one of its service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayApi {
    /// The service's id, which is part of the API's host.
    pub service: TriggerName,
    /// The service's name, for people.
    pub service_name: String,
    /// The service's type, which says nothing here.
    pub service_type: String,
    /// The API's own id.
    pub id: String,
    /// Which methods it takes.
    pub method: ApiMethod,
    /// Which paths.
    pub path: ApiPath,
    /// The stage that it is released to.
    pub stage: Stage,
    /// Whether it takes signed requests alone.
    pub signed: bool,
    /// Whether the function's answer is a reply in full.
    pub integrated: bool,
    /// Whether bodies come in base64, whatever they are.
    pub base64: bool,
    /// Whether pages of every origin may call it.
    pub cors: bool,
}

impl GatewayApi {
    /// An API's id from eight characters' worth of randomness.
    pub fn fresh_id(random: u64) -> String {
        format!("api-{}", characters(random, 8))
    }
}

/// A method of an API's, or every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ApiMethod {
    /// Every one.
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

    /// SCF's name of it.
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

    /// Reads SCF's name.
    ///
    /// # Errors
    /// [`Invalid`] for the field `method`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let known = Self::ALL.into_iter().find(|one| one.as_str() == text);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            Invalid::new("requestConfig.method", text, format!("{names} are"))
        })
    }

    /// Whether it takes requests of a method.
    pub fn takes(self, method: &str) -> bool {
        self == Self::Any || self.as_str() == method
    }
}

/// Where a release can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// For tests.
    Test,
    /// Before a release.
    Prepub,
    /// The release.
    Release,
}

impl Stage {
    const ALL: [Self; 3] = [Self::Release, Self::Prepub, Self::Test];

    /// SCF's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Prepub => "prepub",
            Self::Release => "release",
        }
    }

    /// Reads SCF's name.
    ///
    /// # Errors
    /// [`Invalid`] for the field `environmentName`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let known = Self::ALL.into_iter().find(|one| one.as_str() == text);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            Invalid::new("release.environmentName", text, format!("{names} are"))
        })
    }
}

/// The paths of an API: those that begin with its own segments, of which one in braces stands for any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ApiPath(String);

impl ApiPath {
    /// Checks and keeps a path.
    ///
    /// # Errors
    /// [`Invalid`] for the field `path`.
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
            let allowed = "a path of up to 200 letters, digits, '-', '_', '.', '~' and '/' is, whose segments may be names in braces";
            Err(Invalid::new("requestConfig.path", text, allowed))
        }
    }

    /// It as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a request's path is one of these, and what stands where it has names.
    pub fn read<'a>(&'a self, path: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
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

fn named(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_takes_what_begins_with_it_segment_by_segment() {
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
            assert_eq!(own.read(path), expected, "{own:?} {path}");
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
    fn methods_and_stages_are_scf_s() {
        for method in ApiMethod::ALL {
            assert_eq!(ApiMethod::parse(method.as_str()), Ok(method));
        }
        for stage in Stage::ALL {
            assert_eq!(Stage::parse(stage.as_str()), Ok(stage));
        }
        assert!(ApiMethod::parse("PATCH").is_err() && Stage::parse("dev").is_err());
        assert!(ApiMethod::Any.takes("PATCH") && ApiMethod::Get.takes("GET"));
        assert!(!ApiMethod::Get.takes("HEAD"));
    }
}
