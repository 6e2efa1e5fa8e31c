//! Aliases, which split traffic between versions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Field, Invalid, Timestamp, Version};

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
    /// [`Invalid`] for [`Field::RuleMethod`] and [`Field::RuleExpression`].
    pub fn parse(method: &str, expression: &str) -> Result<Self, Invalid> {
        match method {
            "exact" => Ok(Self::Exact(expression.to_owned())),
            "range" => range(expression).ok_or_else(|| {
                Invalid::new(
                    Field::RuleExpression,
                    expression,
                    "two whole numbers such as (1,5) or [1,5]",
                )
            }),
            other => Err(Invalid::new(Field::RuleMethod, other, "exact and range")),
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
