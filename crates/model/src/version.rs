//! Versions, which never change, and aliases, which say what share of requests each serves.

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
    /// What can still change.
    #[default]
    Latest,
    /// A published one.
    Number(u64),
}

impl Version {
    /// Reads `$LATEST`, in any case, or a number.
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

/// Code and configuration as they were published, and what is kept ready of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// What was said of it when it was published.
    pub description: String,
    /// The settings.
    pub config: FunctionConfig,
    /// The code.
    pub code: CodeRef,
    /// When it was published.
    pub added: Timestamp,
    /// Instances of it that are kept ready, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioned: Option<Provisioned>,
}

/// What serves a request: a version with what it is made from.
#[derive(Clone, Copy, Debug)]
pub struct Serving<'a> {
    /// Whose version it is.
    pub function: &'a Function,
    /// Which.
    pub version: Version,
    /// Its settings.
    pub config: &'a FunctionConfig,
    /// Its code; none before the first is ready.
    pub code: Option<&'a CodeRef>,
    /// Counts changes; always the same for a published version.
    pub revision: u64,
}

impl Serving<'_> {
    /// Requests that one instance serves at a time.
    pub fn slots(&self) -> u32 {
        let concurrency = self
            .config
            .web
            .concurrency
            .filter(|_| self.function.kind == FunctionKind::Http);
        concurrency.map_or(1, |concurrency| concurrency.most)
    }
}

impl Function {
    /// What a version is made from, if there is such a version.
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

    /// Keeps code and configuration as they are under the next number, which it gives; none without code.
    pub fn publish(&mut self, description: String, now: Timestamp) -> Option<u64> {
        let code = self.code.clone()?;
        self.last_version += 1;
        let published = Published {
            description,
            config: self.config.clone(),
            code,
            added: now,
            provisioned: None,
        };
        self.versions.insert(self.last_version, published);
        Some(self.last_version)
    }

    /// An alias. `$DEFAULT` is always there, and all of it `$LATEST` until that is changed.
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

    /// The version that an alias has for a request. `draw` is a random number from 0 to below 1.
    pub fn route(&self, alias: &str, key: &RoutingKey, draw: f64) -> Option<Version> {
        match self.aliases.get(alias) {
            Some(alias) => Some(alias.route(key, draw)),
            None => (alias == Alias::DEFAULT).then_some(Version::Latest),
        }
    }

    /// The aliases that send requests to a version, by name.
    pub fn aliases_of(&self, version: Version) -> Vec<&str> {
        let using = self.aliases.iter().filter(|(_, alias)| alias.uses(version));
        using.map(|(name, _)| name.as_str()).collect()
    }

    /// Takes a published version away, and out of all aliases: what one of them sent there by chance or rule stays with
    /// its own version. An alias whose own version it was goes with it; `$DEFAULT` goes back to `$LATEST`. Triggers of what
    /// goes go, too.
    pub fn unpublish(&mut self, number: u64) {
        let version = Version::Number(number);
        self.versions.remove(&number);
        for (name, alias) in &mut self.aliases {
            alias
                .routing
                .shares
                .retain(|share| share.version != version);
            alias.routing.rules.retain(|rule| rule.version != version);
            if name == Alias::DEFAULT && alias.version == version {
                alias.version = Version::Latest;
            }
        }
        self.aliases.retain(|_, alias| alias.version != version);
        let mut triggers = std::mem::take(&mut self.triggers);
        triggers.retain(|trigger| self.knows(&trigger.qualifier));
        self.triggers = triggers;
    }
}

/// A name for a version, or for two that share its requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alias {
    /// For people.
    pub description: String,
    /// The version that serves what no other is chosen for.
    pub version: Version,
    /// What goes elsewhere.
    pub routing: Routing,
    /// When it was made.
    pub added: Timestamp,
    /// When it was last changed.
    pub modified: Timestamp,
}

impl Alias {
    /// The alias that every function has.
    pub const DEFAULT: &str = "$DEFAULT";

    /// The version for a request.
    pub fn route(&self, key: &RoutingKey, draw: f64) -> Version {
        let rule = self.routing.rules.iter().find(|rule| rule.matches(key));
        if let Some(rule) = rule {
            return rule.version;
        }
        let mut below = 0.0;
        for share in &self.routing.shares {
            below += share.weight;
            if draw < below {
                return share.version;
            }
        }
        self.version
    }

    /// Whether any request goes to a version.
    pub fn uses(&self, version: Version) -> bool {
        let elsewhere = self.routing.versions().any(|one| one == version);
        self.version == version || elsewhere
    }
}

/// Requests of an alias that go elsewhere: by what they say of themselves, or by chance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Routing {
    /// By chance.
    pub shares: Vec<Share>,
    /// By what they say; these are looked at first.
    pub rules: Vec<Rule>,
}

impl Routing {
    /// The versions that it names.
    pub fn versions(&self) -> impl Iterator<Item = Version> {
        let shares = self.shares.iter().map(|share| share.version);
        shares.chain(self.rules.iter().map(|rule| rule.version))
    }
}

/// A version and its part of all requests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Which.
    pub version: Version,
    /// From 0 to 1.
    pub weight: f64,
}

/// What a request says of itself, by name: `{"User": "Bob"}`.
pub type RoutingKey = BTreeMap<String, String>;

/// A version, and which requests it serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Which.
    pub version: Version,
    /// The name in the routing key.
    pub name: String,
    /// What its value must be.
    pub test: Test,
}

impl Rule {
    /// Before a rule's name, as SCF writes it.
    pub const PREFIX: &str = "invoke.headers.";

    fn matches(&self, key: &RoutingKey) -> bool {
        key.get(&self.name)
            .is_some_and(|value| self.test.accepts(value))
    }
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Expression", try_from = "Expression")]
pub enum Test {
    /// This text.
    Exact(String),
    /// A whole number between two.
    Range {
        /// The lower, and whether it is one itself.
        from: (i64, bool),
        /// The upper, and whether it is one itself.
        to: (i64, bool),
    },
}

/// A test as it is written: `exact` with a text, or `range` with `[1,5)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expression {
    /// `exact` or `range`.
    pub method: String,
    /// What it is compared with.
    pub expression: String,
}

impl Test {
    fn accepts(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => value == text,
            Self::Range { from, to } => value.trim().parse::<i64>().is_ok_and(|number| {
                let above = number > from.0 || (from.1 && number == from.0);
                above && (number < to.0 || (to.1 && number == to.0))
            }),
        }
    }

    /// Reads SCF's notation.
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

fn range(text: &str) -> Option<Test> {
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
    (low <= high).then_some(Test::Range {
        from: (low, from),
        to: (high, to),
    })
}

impl From<Test> for Expression {
    fn from(test: Test) -> Self {
        let (method, expression) = match test {
            Test::Exact(text) => ("exact", text),
            Test::Range { from, to } => {
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

impl TryFrom<Expression> for Test {
    type Error = Invalid;

    fn try_from(written: Expression) -> Result<Self, Invalid> {
        Self::parse(&written.method, &written.expression)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alias(shares: Vec<Share>, rules: Vec<Rule>) -> Alias {
        Alias {
            description: String::new(),
            version: Version::Number(1),
            routing: Routing { shares, rules },
            added: 0,
            modified: 0,
        }
    }

    fn key(name: &str, value: &str) -> RoutingKey {
        [(name.to_owned(), value.to_owned())].into()
    }

    #[test]
    fn a_share_is_chosen_below_its_weight_and_the_rest_stays() {
        let alias = alias(
            vec![Share {
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
    fn a_rule_wins_over_chance_and_what_matches_none_stays() {
        let rule = |test| Rule {
            version: Version::Number(3),
            name: "User".into(),
            test,
        };
        let share = Share {
            version: Version::Number(2),
            weight: 1.0,
        };
        let exact = alias(vec![share], vec![rule(Test::Exact("Bob".into()))]);
        assert_eq!(exact.route(&key("User", "Bob"), 0.5), Version::Number(3));
        assert_eq!(exact.route(&key("User", "bob"), 0.5), Version::Number(2));
        let range = alias(
            vec![],
            vec![rule(Test::parse("range", "[1,5)").expect("a range"))],
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
    fn expressions_are_written_back_as_they_were_read_and_wrong_ones_refused() {
        for text in ["(1,5)", "[1,5]", "[-3,0)"] {
            let test = Test::parse("range", text).expect("a range");
            assert_eq!(Expression::from(test).expression, text);
        }
        for text in ["", "1,5", "(5,1)", "(1,2,3)", "(a,b)", "(", "é"] {
            assert!(Test::parse("range", text).is_err(), "{text}");
        }
        assert!(Test::parse("regex", ".*").is_err());
    }
}
