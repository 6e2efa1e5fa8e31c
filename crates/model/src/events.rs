//! Settings of asynchronous invocation: retries, event age and dead letters.

use serde::{Deserialize, Serialize};

use crate::{Field, FunctionName, Invalid, Limits, Namespace};

/// Retry policy of a function's asynchronous events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventConfig {
    /// Retries after a failed run.
    pub retries: u32,
    /// Maximum event age (s).
    pub ttl_s: u32,
}

impl EventConfig {
    /// Returns the policy of a function without settings of its own.
    pub fn default_for(limits: &Limits) -> Self {
        Self {
            retries: limits.retry_num_max,
            ttl_s: limits.msg_ttl_max_s,
        }
    }

    /// Validates a retry policy.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::Retries`] and [`Field::EventAge`].
    pub fn parse(retries: i64, ttl_s: i64, limits: &Limits) -> Result<Self, Invalid> {
        let most = limits.retry_num_max;
        let retries = u32::try_from(retries).ok().filter(|n| *n <= most);
        let retries =
            retries.ok_or_else(|| Invalid::new(Field::Retries, retries, format!("0 to {most}")));
        let span = limits.msg_ttl_min_s..=limits.msg_ttl_max_s;
        let ttl = u32::try_from(ttl_s).ok().filter(|s| span.contains(s));
        let (min, max) = span.into_inner();
        let ttl = ttl.ok_or_else(|| {
            Invalid::new(Field::EventAge, ttl_s, format!("{min} to {max} (seconds)"))
        });
        Ok(Self {
            retries: retries?,
            ttl_s: ttl?,
        })
    }
}

/// The destination of events that failed permanently.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeadLetter {
    /// Another function of the account, invoked asynchronously.
    Function {
        /// Namespace.
        namespace: Namespace,
        /// Name.
        name: FunctionName,
    },
    /// An HTTP endpoint, called with POST.
    Http {
        /// Endpoint URL.
        url: String,
        /// Type in the API, `queue` or `topic`.
        kind: String,
    },
}

impl DeadLetter {
    /// Maximum URL length (bytes).
    const URL_MAX: usize = 2048;

    /// Parses the API's `Type` and `Name`. A function name without a namespace is resolved in `own`. An empty pair means no
    /// destination.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::DeadLetter`].
    pub fn parse(kind: &str, name: &str, own: &Namespace) -> Result<Option<Self>, Invalid> {
        match kind {
            "" if name.is_empty() => Ok(None),
            "function" => {
                let (namespace, name) = match name.split_once('/') {
                    Some((space, name)) => (Namespace::parse(space), name),
                    None => (Ok(own.clone()), name),
                };
                let wrong = |_| {
                    Invalid::new(
                        Field::DeadLetter,
                        name,
                        "the Name of a function, or namespace/name",
                    )
                };
                Ok(Some(Self::Function {
                    namespace: namespace.map_err(wrong)?,
                    name: FunctionName::parse(name).map_err(wrong)?,
                }))
            }
            "queue" | "topic" => {
                let host = name.strip_prefix("http://").unwrap_or_default();
                let plain = name.bytes().all(|byte| {
                    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'<' | b'>')
                });
                if host.is_empty() || host.starts_with('/') || !plain || name.len() > Self::URL_MAX
                {
                    let allowed = "the Name of a queue or topic is the URL of an endpoint, such as http://host:8080/path";
                    return Err(Invalid::new(Field::DeadLetter, name, allowed));
                }
                Ok(Some(Self::Http {
                    url: name.to_owned(),
                    kind: kind.to_owned(),
                }))
            }
            other => {
                let allowed = "the Types function, queue and topic are";
                Err(Invalid::new(Field::DeadLetter, other, allowed))
            }
        }
    }

    /// Returns the API's `Type`.
    pub fn kind(&self) -> &str {
        match self {
            Self::Function { .. } => "function",
            Self::Http { kind, .. } => kind,
        }
    }

    /// Returns the API's `Name`.
    pub fn name(&self) -> String {
        match self {
            Self::Function { namespace, name } if namespace.is_default() => name.to_string(),
            Self::Function { namespace, name } => format!("{namespace}/{name}"),
            Self::Http { url, .. } => url.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letter_target_round_trips() {
        let own = Namespace::default();
        for (kind, name) in [
            ("function", "last"),
            ("function", "other/last"),
            ("queue", "http://127.0.0.1:8080/failed?a=b"),
            ("topic", "http://host"),
        ] {
            let target = DeadLetter::parse(kind, name, &own).expect("allowed");
            let target = target.expect("a target");
            assert_eq!((target.kind(), target.name().as_str()), (kind, name));
        }
        assert_eq!(DeadLetter::parse("", "", &own), Ok(None));
        for (kind, name) in [
            ("function", ""),
            ("function", "1"),
            ("function", "a/b/c"),
            ("queue", "failed"),
            ("queue", "https://host/x"),
            ("queue", "http://"),
            ("queue", "http:///x"),
            ("queue", "http://a b"),
            ("", "failed"),
            ("cmq", "failed"),
        ] {
            assert!(
                DeadLetter::parse(kind, name, &own).is_err(),
                "{kind} {name}"
            );
        }
    }

    #[test]
    fn retry_policy_outside_limits_is_rejected() {
        let limits = Limits::default();
        assert!(EventConfig::parse(0, 60, &limits).is_ok());
        assert!(EventConfig::parse(2, 21_600, &limits).is_ok());
        for (retries, ttl) in [(-1, 60), (3, 60), (0, 59), (0, 21_601)] {
            assert!(EventConfig::parse(retries, ttl, &limits).is_err());
        }
    }
}
