//! Immutable versions, and aliases, which split traffic between versions.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{CodeRef, Function, FunctionConfig, FunctionKind, Invalid, Provisioned, Timestamp};

/// A version of a function.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub enum Version {
    /// `$LATEST`, which can still change.
    #[default]
    Latest,
    /// A published version.
    Number(u64),
}

impl Version {
    /// Parses `$LATEST`, in any case, or a number.
    ///
    /// # Errors
    /// [`Invalid`] for the field `FunctionVersion`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.eq_ignore_ascii_case("$LATEST") {
            return Ok(Self::Latest);
        }
        match text.parse::<u64>() {
            Ok(number @ 1..) if text.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(Self::Number(number))
            }
            _ => Err(Invalid::new(
                "FunctionVersion",
                text,
                "$LATEST and the numbers of published versions",
            )),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("$LATEST"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

/// A published version: immutable code and configuration, and its provisioned concurrency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PublishedVersion {
    /// Description given at publication.
    pub description: String,
    /// Settings.
    pub config: FunctionConfig,
    /// Code.
    pub code: CodeRef,
    /// Publication time.
    pub added: Timestamp,
    /// Provisioned concurrency, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioned: Option<Provisioned>,
}

/// A resolved version with the code and settings that serve its requests.
#[derive(Clone, Copy, Debug)]
pub struct Serving<'a> {
    /// The function.
    pub function: &'a Function,
    /// Version.
    pub version: Version,
    /// Settings.
    pub config: &'a FunctionConfig,
    /// Code; none until the first package is prepared.
    pub code: Option<&'a CodeRef>,
    /// Revision of code and configuration; 0 for a published version.
    pub revision: u64,
}

impl Serving<'_> {
    /// Returns the number of concurrent requests per instance.
    pub fn slots(&self) -> u32 {
        let concurrency = self
            .config
            .web
            .concurrency
            .filter(|_| self.function.kind == FunctionKind::Http);
        concurrency.map_or(1, |concurrency| concurrency.max)
    }
}

impl Function {
    /// Resolves a version; returns `None` if it does not exist.
    pub fn serving(&self, version: Version) -> Option<Serving<'_>> {
        let (config, code, revision) = match version {
            Version::Latest => (&self.config, self.code.as_ref(), self.revision),
            Version::Number(number) => {
                let published = self.versions.get(&number)?;
                (&published.config, Some(&published.code), 0)
            }
        };
        Some(Serving {
            function: self,
            version,
            config,
            code,
            revision,
        })
    }

    /// Publishes the current code and configuration as the next version and returns its number; `None` without code.
    pub fn publish(&mut self, description: String, now: Timestamp) -> Option<u64> {
        let code = self.code.clone()?;
        self.last_version += 1;
        let published = PublishedVersion {
            description,
            config: self.config.clone(),
            code,
            added: now,
            provisioned: None,
        };
        self.versions.insert(self.last_version, published);
        Some(self.last_version)
    }

    /// Finds an alias. `$DEFAULT` always exists and points at `$LATEST` unless it was changed.
    pub fn alias(&self, name: &str) -> Option<Alias> {
        let implied = || {
            (name == Alias::DEFAULT).then(|| Alias {
                description: String::new(),
                version: Version::Latest,
                routing: Routing::default(),
                added: self.added,
                modified: self.added,
            })
        };
        self.aliases.get(name).cloned().or_else(implied)
    }

    /// Resolves an alias for a request. `draw` is a random number in [0, 1).
    pub fn route(&self, alias: &str, key: &RoutingKey, draw: f64) -> Option<Version> {
        match self.aliases.get(alias) {
            Some(alias) => Some(alias.route(key, draw)),
            None => (alias == Alias::DEFAULT).then_some(Version::Latest),
        }
    }

    /// Returns the names of the aliases that route requests to a version.
    pub fn aliases_of(&self, version: Version) -> Vec<&str> {
        let using = self.aliases.iter().filter(|(_, alias)| alias.uses(version));
        using.map(|(name, _)| name.as_str()).collect()
    }

    /// Deletes a published version, and removes it from the routing of all aliases.
    ///
    /// An alias whose main version it was is deleted too, except `$DEFAULT`, which is reset to `$LATEST`. Triggers of the
    /// deleted version and aliases are deleted.
    pub fn unpublish(&mut self, number: u64) {
        let version = Version::Number(number);
        self.versions.remove(&number);
        for (name, alias) in &mut self.aliases {
            alias
                .routing
                .weights
                .retain(|weighted| weighted.version != version);
            alias.routing.rules.retain(|rule| rule.version != version);
            if name == Alias::DEFAULT && alias.version == version {
                alias.version = Version::Latest;
            }
        }
        self.aliases.retain(|_, alias| alias.version != version);
        let mut triggers = std::mem::take(&mut self.triggers);
        triggers.retain(|trigger| self.has_qualifier(&trigger.qualifier));
        self.triggers = triggers;
    }
}

/// An alias: a name for a version, with optional routing of some requests to other versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alias {
    /// Free-form description.
    pub description: String,
    /// Main version, which serves the requests that are not routed to another.
    pub version: Version,
    /// Routing to other versions.
    pub routing: Routing,
    /// Creation time.
    pub added: Timestamp,
    /// Last modification time.
    pub modified: Timestamp,
}

impl Alias {
    /// Name of the alias that every function has.
    pub const DEFAULT: &str = "$DEFAULT";

    /// Resolves the version for a request: by rule, then by weight, then the main version.
    pub fn route(&self, key: &RoutingKey, draw: f64) -> Version {
        let rule = self.routing.rules.iter().find(|rule| rule.matches(key));
        if let Some(rule) = rule {
            return rule.version;
        }
        let mut below = 0.0;
        for weighted in &self.routing.weights {
            below += weighted.weight;
            if draw < below {
                return weighted.version;
            }
        }
        self.version
    }

    /// Returns whether some requests are routed to a version.
    pub fn uses(&self, version: Version) -> bool {
        let routed = self.routing.versions().any(|one| one == version);
        self.version == version || routed
    }
}

/// The routing of an alias: rules on the routing key, which take precedence, and weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Routing {
    /// Weighted versions. Stored as `shares`.
    #[serde(rename = "shares")]
    pub weights: Vec<WeightedVersion>,
    /// Rules on the routing key.
    pub rules: Vec<RoutingRule>,
}

impl Routing {
    /// Returns the versions that it routes to.
    pub fn versions(&self) -> impl Iterator<Item = Version> {
        let weighted = self.weights.iter().map(|weighted| weighted.version);
        weighted.chain(self.rules.iter().map(|rule| rule.version))
    }
}

/// A version and its weight in random routing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightedVersion {
    /// Version.
    pub version: Version,
    /// Fraction of requests, 0 to 1.
    pub weight: f64,
}

/// Routing attributes of a request by name, such as `{"User": "Bob"}`.
pub type RoutingKey = BTreeMap<String, String>;

/// A rule that routes matching requests to a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoutingRule {
    /// Version.
    pub version: Version,
    /// Name in the routing key.
    pub name: String,
    /// Condition on the value.
    pub test: RuleTest,
}

impl RoutingRule {
    /// Prefix of a rule's name in SCF's notation.
    pub const PREFIX: &str = "invoke.headers.";

    fn matches(&self, key: &RoutingKey) -> bool {
        key.get(&self.name)
            .is_some_and(|value| self.test.accepts(value))
    }
}

/// The condition of a routing rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Expression", try_from = "Expression")]
pub enum RuleTest {
    /// Equals a text.
    Exact(String),
    /// Is an integer within a range.
    Range {
        /// Lower bound, and whether it is inclusive.
        from: (i64, bool),
        /// Upper bound, and whether it is inclusive.
        to: (i64, bool),
    },
}

/// The stored notation of a [`RuleTest`]: `exact` with a text, or `range` with `[1,5)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expression {
    /// `exact` or `range`.
    pub method: String,
    /// Operand of the comparison.
    pub expression: String,
}

impl RuleTest {
    fn accepts(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => value == text,
            Self::Range { from, to } => value.trim().parse::<i64>().is_ok_and(|number| {
                let above = number > from.0 || (from.1 && number == from.0);
                above && (number < to.0 || (to.1 && number == to.0))
            }),
        }
    }

    /// Parses SCF's notation.
    ///
    /// # Errors
    /// [`Invalid`] for the fields `Method` and `Expression`.
    pub fn parse(method: &str, expression: &str) -> Result<Self, Invalid> {
        match method {
            "exact" => Ok(Self::Exact(expression.to_owned())),
            "range" => range(expression).ok_or_else(|| {
                Invalid::new(
                    "Expression",
                    expression,
                    "two whole numbers such as (1,5) or [1,5]",
                )
            }),
            other => Err(Invalid::new("Method", other, "exact and range")),
        }
    }
}

fn range(text: &str) -> Option<RuleTest> {
    let text = text.trim();
    let included = |bracket: Option<char>, open, closed| match bracket {
        Some(one) if one == open => Some(false),
        Some(one) if one == closed => Some(true),
        _ => None,
    };
    let from = included(text.chars().next(), '(', '[')?;
    let to = included(text.chars().last(), ')', ']')?;
    let (low, high) = text.get(1..text.len() - 1)?.split_once(',')?;
    let (low, high) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
    (low <= high).then_some(RuleTest::Range {
        from: (low, from),
        to: (high, to),
    })
}

impl From<RuleTest> for Expression {
    fn from(test: RuleTest) -> Self {
        let (method, expression) = match test {
            RuleTest::Exact(text) => ("exact", text),
            RuleTest::Range { from, to } => {
                let open = if from.1 { '[' } else { '(' };
                let close = if to.1 { ']' } else { ')' };
                ("range", format!("{open}{},{}{close}", from.0, to.0))
            }
        };
        Self {
            method: method.to_owned(),
            expression,
        }
    }
}

impl TryFrom<Expression> for RuleTest {
    type Error = Invalid;

    fn try_from(written: Expression) -> Result<Self, Invalid> {
        Self::parse(&written.method, &written.expression)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alias(weights: Vec<WeightedVersion>, rules: Vec<RoutingRule>) -> Alias {
        Alias {
            description: String::new(),
            version: Version::Number(1),
            routing: Routing { weights, rules },
            added: 0,
            modified: 0,
        }
    }

    fn key(name: &str, value: &str) -> RoutingKey {
        [(name.to_owned(), value.to_owned())].into()
    }

    #[test]
    fn weighted_version_is_chosen_by_draw_and_main_version_otherwise() {
        let alias = alias(
            vec![WeightedVersion {
                version: Version::Number(2),
                weight: 0.25,
            }],
            vec![],
        );
        let version = |draw| alias.route(&RoutingKey::new(), draw);
        assert_eq!(version(0.0), Version::Number(2));
        assert_eq!(version(0.2499), Version::Number(2));
        assert_eq!(version(0.25), Version::Number(1));
        assert_eq!(version(0.9999), Version::Number(1));
    }

    #[test]
    fn rule_wins_over_weight_and_unmatched_key_falls_through() {
        let rule = |test| RoutingRule {
            version: Version::Number(3),
            name: "User".into(),
            test,
        };
        let weighted = WeightedVersion {
            version: Version::Number(2),
            weight: 1.0,
        };
        let exact = alias(vec![weighted], vec![rule(RuleTest::Exact("Bob".into()))]);
        assert_eq!(exact.route(&key("User", "Bob"), 0.5), Version::Number(3));
        assert_eq!(exact.route(&key("User", "bob"), 0.5), Version::Number(2));
        let range = alias(
            vec![],
            vec![rule(RuleTest::parse("range", "[1,5)").expect("a range"))],
        );
        let rows = [("1", 3), ("4", 3), ("5", 1), ("0", 1), ("x", 1)];
        for (value, version) in rows {
            assert_eq!(
                range.route(&key("User", value), 0.5),
                Version::Number(version),
                "{value}"
            );
        }
    }

    #[test]
    fn range_expressions_round_trip_and_invalid_ones_are_rejected() {
        for text in ["(1,5)", "[1,5]", "[-3,0)"] {
            let test = RuleTest::parse("range", text).expect("a range");
            assert_eq!(Expression::from(test).expression, text);
        }
        for text in ["", "1,5", "(5,1)", "(1,2,3)", "(a,b)", "(", "é"] {
            assert!(RuleTest::parse("range", text).is_err(), "{text}");
        }
        assert!(RuleTest::parse("regex", ".*").is_err());
    }
}
