//! Aliases: names for versions, with weighted and rule-based routing.

use model::{
    Alias, Field, Function, FunctionKey, Qualifier, Routing, RoutingRule, RuleTest, Timestamp,
    WeightedVersion,
};

use crate::{Control, Error, Limit, Reason, text, triggers, versions};

/// Source: SCF routes between two versions.
const WEIGHTS_MAX: usize = 1;
/// SCF documents no limit; every request evaluates all rules.
const RULES_MAX: usize = 10;

/// The settings of an alias in a request.
#[derive(Clone, Copy, Debug)]
pub struct AliasSettings<'a> {
    /// Main version.
    pub version: &'a str,
    /// Description; a change without one keeps it.
    pub description: Option<&'a str>,
    /// Routing to other versions; a change without it keeps it.
    pub routing: Option<&'a RoutingSettings>,
}

/// The routing of an alias in a request.
#[derive(Clone, Debug, Default)]
pub struct RoutingSettings {
    /// Versions with their fractions of the requests.
    pub weights: Vec<(String, f64)>,
    /// Rules on the routing key.
    pub rules: Vec<RuleSettings>,
}

/// A routing rule in a request.
#[derive(Clone, Debug)]
pub struct RuleSettings {
    /// Version.
    pub version: String,
    /// Name in the routing key, behind [`RoutingRule::PREFIX`].
    pub key: String,
    /// Kind of comparison.
    pub method: String,
    /// What the value is compared with.
    pub expression: String,
}

impl Control {
    /// Creates an alias.
    ///
    /// # Errors
    /// The function or a version does not exist, the alias exists, a value is not allowed, or the quota is used up.
    pub async fn create_alias(
        &self,
        key: &FunctionKey,
        name: &str,
        settings: AliasSettings<'_>,
    ) -> Result<(), Error> {
        check_name(name)?;
        self.change(key, |function| {
            if name == Alias::DEFAULT || function.aliases.contains_key(name) {
                let message = format!("function {} has an alias {name}; update it", key.name);
                return Err(Error::of(Field::AliasName, Reason::AliasExists, message));
            }
            let most = self.limits.aliases_per_function as usize;
            if function.aliases.len() >= most {
                let message =
                    format!("the function has its {most} aliases already; delete some first");
                return Err(Error::new(Reason::LimitReached(Limit::Aliases), message));
            }
            let alias = self.new_alias(function, settings, clock::now_ms())?;
            function.aliases.insert(name.to_owned(), alias);
            Ok(())
        })
        .await
    }

    fn new_alias(
        &self,
        function: &Function,
        settings: AliasSettings<'_>,
        now: Timestamp,
    ) -> Result<Alias, Error> {
        Ok(Alias {
            description: text::description(settings.description, &self.limits)?,
            version: versions::existing(function, settings.version)?,
            routing: match settings.routing {
                Some(given) => routing(function, given)?,
                None => Routing::default(),
            },
            added: now,
            modified: now,
        })
    }

    /// Changes an alias.
    ///
    /// # Errors
    /// The function, the alias or a version does not exist, or a value is not allowed.
    pub async fn update_alias(
        &self,
        key: &FunctionKey,
        name: &str,
        settings: AliasSettings<'_>,
    ) -> Result<(), Error> {
        self.change(key, |function| {
            let mut alias = existing(function, name)?;
            alias.version = versions::existing(function, settings.version)?;
            if let Some(given) = settings.routing {
                alias.routing = routing(function, given)?;
            }
            if settings.description.is_some() {
                alias.description = text::description(settings.description, &self.limits)?;
            }
            alias.modified = clock::now_ms();
            function.aliases.insert(name.to_owned(), alias);
            Ok(())
        })
        .await
    }

    /// Deletes an alias.
    ///
    /// # Errors
    /// The function or the alias does not exist, triggers are bound to it, or it is [`Alias::DEFAULT`].
    pub async fn delete_alias(&self, key: &FunctionKey, name: &str) -> Result<(), Error> {
        self.change(key, |function| {
            if name == Alias::DEFAULT {
                let message = "$DEFAULT belongs to every function and cannot be deleted";
                return Err(Error::of(Field::AliasName, Reason::AliasPermanent, message));
            }
            existing(function, name)?;
            triggers::check_unbound(function, &Qualifier::Alias(name.to_owned()), false)?;
            function.aliases.remove(name);
            Ok(())
        })
        .await
    }
}

/// Finds an alias of a function.
///
/// # Errors
/// The function has no such alias.
pub fn existing(function: &Function, name: &str) -> Result<Alias, Error> {
    function.alias(name).ok_or_else(|| {
        let shown = text::shortened(name);
        let message = format!("function {} has no alias {shown:?}", function.key.name);
        Error::of(Field::AliasName, Reason::AliasMissing, message)
    })
}

/// Lists the aliases of a function by name; with a version, those that use it.
///
/// # Errors
/// The function has no such version.
pub fn list<'a>(
    function: &'a Function,
    version: Option<&str>,
) -> Result<Vec<(&'a str, Alias)>, Error> {
    let wanted = version
        .map(|text| versions::existing(function, text))
        .transpose()?;
    let implied = (!function.aliases.contains_key(Alias::DEFAULT)).then_some(Alias::DEFAULT);
    let names = implied
        .into_iter()
        .chain(function.aliases.keys().map(String::as_str));
    let all = names.filter_map(|name| Some((name, function.alias(name)?)));
    Ok(all
        .filter(|(_, alias)| wanted.is_none_or(|version| alias.uses(version)))
        .collect())
}

/// Checks a user-defined alias name.
fn check_name(text: &str) -> Result<(), Error> {
    match Qualifier::parse(text) {
        Ok(Qualifier::Alias(_)) => Ok(()),
        _ => {
            let message = format!(
                "{text:?} is not allowed; 2 to 60 letters, digits, '-' and '_' are, first a letter, last a letter or digit"
            );
            Err(Error::invalid(Field::AliasName, message))
        }
    }
}

fn routing(function: &Function, given: &RoutingSettings) -> Result<Routing, Error> {
    let RoutingSettings { weights, rules } = given;
    if weights.len() > WEIGHTS_MAX || rules.len() > RULES_MAX {
        let message = format!(
            "{} weights and {} rules are not allowed; up to {WEIGHTS_MAX} and {RULES_MAX} are",
            weights.len(),
            rules.len()
        );
        return Err(Error::invalid(Field::Routing, message));
    }
    let weights = weights.iter().map(|given| weighted(function, given));
    let weights = weights.collect::<Result<_, _>>()?;
    let rules = rules.iter().map(|given| rule(function, given));
    Ok(Routing {
        weights,
        rules: rules.collect::<Result<_, _>>()?,
    })
}

fn weighted(
    function: &Function,
    (version, weight): &(String, f64),
) -> Result<WeightedVersion, Error> {
    if !(0.0..=1.0).contains(weight) {
        let message = format!("{weight} is not allowed; 0 to 1 is");
        return Err(Error::invalid(Field::Weight, message));
    }
    Ok(WeightedVersion {
        version: versions::existing(function, version)?,
        weight: *weight,
    })
}

fn rule(function: &Function, given: &RuleSettings) -> Result<RoutingRule, Error> {
    let prefix = RoutingRule::PREFIX;
    let name = given.key.strip_prefix(prefix);
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        let message = format!(
            "{:?} is not allowed; {prefix}NAME is, where NAME stands in the RoutingKey",
            given.key
        );
        return Err(Error::invalid(Field::RuleKey, message));
    };
    Ok(RoutingRule {
        version: versions::existing(function, &given.version)?,
        name: name.to_owned(),
        test: RuleTest::parse(&given.method, &given.expression)?,
    })
}
