//! Aliases: names for versions, with weighted and rule-based routing.

use model::{Alias, Function, Qualifier, Routing, RoutingRule, RuleTest, Version, WeightedVersion};
use scf::action::{CreateAlias, DeleteAlias, GetAlias, ListAliases, UpdateAlias};
use scf::types as t;
use scf::{Code, Error};

use super::error;
use super::functions::{change, description, find, key, page};
use super::{Caller, Gateway, Serve, triggers};

/// Source: SCF routes between two versions.
const WEIGHTS_MAX: usize = 1;
/// SCF documents no limit; every request evaluates all rules.
const RULES_MAX: usize = 10;

impl Serve for CreateAlias {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::CreateAliasRequest,
    ) -> Result<t::Empty, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        let name = user_defined_name(&request.name)?;
        let config = request.routing_config.unwrap_or_default();
        change(gateway, &key, |function| {
            if name == Alias::DEFAULT || function.aliases.contains_key(name) {
                let message = format!("Name: function {} has an alias {name}; update it", key.name);
                return Err(Error::new(Code::AliasInUse, message));
            }
            let most = gateway.limits.aliases_per_function as usize;
            if function.aliases.len() >= most {
                let message =
                    format!("the function has its {most} aliases already; delete some first");
                return Err(Error::new(Code::LimitExceededAlias, message));
            }
            let now = clock::now_ms();
            let alias = Alias {
                description: description(request.description.as_deref(), &gateway.limits)?,
                version: version(function, &request.function_version)?,
                routing: routing(function, config.clone())?,
                added: now,
                modified: now,
            };
            function.aliases.insert(name.to_owned(), alias);
            Ok(())
        })
        .await?;
        Ok(t::Empty {})
    }
}

impl Serve for UpdateAlias {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::UpdateAliasRequest,
    ) -> Result<t::Empty, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        change(gateway, &key, |function| {
            let mut alias = existing(function, &request.name)?;
            alias.version = version(function, &request.function_version)?;
            if let Some(config) = &request.routing_config {
                alias.routing = routing(function, config.clone())?;
            }
            if request.description.is_some() {
                alias.description = description(request.description.as_deref(), &gateway.limits)?;
            }
            alias.modified = clock::now_ms();
            function.aliases.insert(request.name.clone(), alias);
            Ok(())
        })
        .await?;
        Ok(t::Empty {})
    }
}

impl Serve for GetAlias {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::GetAliasRequest,
    ) -> Result<t::GetAliasResponse, Error> {
        let space = request.namespace.as_deref();
        let stored = find(gateway, caller, &request.function_name, space)?;
        let alias = existing(&stored.value, &request.name)?;
        let shown = show(&request.name, alias);
        Ok(t::GetAliasResponse {
            function_version: shown.function_version,
            name: shown.name,
            routing_config: shown.routing_config,
            description: shown.description,
            add_time: shown.add_time,
            mod_time: shown.mod_time,
        })
    }
}

impl Serve for ListAliases {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::ListAliasesRequest,
    ) -> Result<t::ListAliasesResponse, Error> {
        let space = request.namespace.as_deref();
        let stored = find(gateway, caller, &request.function_name, space)?;
        let function = &stored.value;
        let offset = number("Offset", request.offset.as_deref())?;
        let (offset, limit) = page(offset, number("Limit", request.limit.as_deref())?)?;
        let wanted = request.function_version.as_deref();
        let wanted = wanted
            .filter(|text| !text.is_empty())
            .map(|text| version(function, text))
            .transpose()?;
        let implied = (!function.aliases.contains_key(Alias::DEFAULT)).then_some(Alias::DEFAULT);
        let names = implied
            .into_iter()
            .chain(function.aliases.keys().map(String::as_str));
        let aliases: Vec<_> = names
            .filter_map(|name| Some((name, function.alias(name)?)))
            .filter(|(_, alias)| wanted.is_none_or(|version| alias.uses(version)))
            .map(|(name, alias)| show(name, alias))
            .collect();
        Ok(t::ListAliasesResponse {
            total_count: aliases.len() as i64,
            aliases: aliases.into_iter().skip(offset).take(limit).collect(),
        })
    }
}

impl Serve for DeleteAlias {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::DeleteAliasRequest,
    ) -> Result<t::Empty, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        change(gateway, &key, |function| {
            if request.name == Alias::DEFAULT {
                let message = "Name: $DEFAULT belongs to every function and cannot be deleted";
                return Err(Error::new(Code::DeleteAliasFailed, message));
            }
            existing(function, &request.name)?;
            triggers::check_unbound(function, &Qualifier::Alias(request.name.clone()), "")?;
            function.aliases.remove(&request.name);
            Ok(())
        })
        .await?;
        Ok(t::Empty {})
    }
}

/// Checks a user-defined alias name.
fn user_defined_name(text: &str) -> Result<&str, Error> {
    match Qualifier::parse(text) {
        Ok(Qualifier::Alias(_)) => Ok(text),
        _ => {
            let message = format!(
                "Name: {text:?} is not allowed; 2 to 60 letters, digits, '-' and '_' are, first a letter, last a letter or digit"
            );
            Err(Error::new(Code::InvalidAlias, message))
        }
    }
}

fn existing(function: &Function, name: &str) -> Result<Alias, Error> {
    function.alias(name).ok_or_else(|| {
        let shown: String = name.chars().take(64).collect();
        // The Serverless tool-kit looks for this text of the cloud's to decide that it must create the alias.
        let message = format!(
            "Name: function {} has no alias {shown:?} (未找到指定的Alias)",
            function.key.name
        );
        Error::new(Code::AliasNotFound, message)
    })
}

/// Parses the name of an existing version.
fn version(function: &Function, text: &str) -> Result<Version, Error> {
    let version = Version::parse(text).map_err(error::invalid)?;
    match function.serving(version) {
        Some(_) => Ok(version),
        None => {
            let message = format!(
                "FunctionVersion: function {} has no version {version}",
                function.key.name
            );
            Err(Error::new(Code::FunctionVersionNotFound, message))
        }
    }
}

fn routing(function: &Function, config: t::RoutingConfig) -> Result<Routing, Error> {
    let weights = config.additional_version_weights.unwrap_or_default();
    let rules = config.addtion_version_matchs.unwrap_or_default();
    if weights.len() > WEIGHTS_MAX || rules.len() > RULES_MAX {
        let message = format!(
            "RoutingConfig: {} weights and {} rules are not allowed; up to {WEIGHTS_MAX} and {RULES_MAX} are",
            weights.len(),
            rules.len()
        );
        return Err(Error::new(Code::InvalidRoutingConfig, message));
    }
    let weighted = |one: t::VersionWeight| {
        if !(0.0..=1.0).contains(&one.weight) {
            let message = format!("Weight: {} is not allowed; 0 to 1 is", one.weight);
            return Err(Error::new(Code::InvalidAdditionalVersionWeights, message));
        }
        Ok(WeightedVersion {
            version: version(function, &one.version)?,
            weight: one.weight,
        })
    };
    let rule = |one: t::VersionMatch| {
        let name = one
            .key
            .strip_prefix(RoutingRule::PREFIX)
            .filter(|name| !name.is_empty());
        let Some(name) = name else {
            let message = format!(
                "Key: {:?} is not allowed; {}NAME is, where NAME stands in the RoutingKey",
                one.key,
                RoutingRule::PREFIX
            );
            return Err(Error::new(Code::InvalidRoutingConfig, message));
        };
        Ok(RoutingRule {
            version: version(function, &one.version)?,
            name: name.to_owned(),
            test: RuleTest::parse(&one.method, &one.expression)
                .map_err(|e| Error::new(Code::InvalidRoutingConfig, error::rejection(&e)))?,
        })
    };
    Ok(Routing {
        weights: weights
            .into_iter()
            .map(weighted)
            .collect::<Result<_, _>>()?,
        rules: rules.into_iter().map(rule).collect::<Result<_, _>>()?,
    })
}

fn show(name: &str, alias: Alias) -> t::Alias {
    let Routing { weights, rules } = alias.routing;
    let weights = weights.into_iter().map(|weighted| t::VersionWeight {
        version: weighted.version.to_string(),
        weight: weighted.weight,
    });
    let matches = rules.into_iter().map(|rule| {
        let written = model::Expression::from(rule.test);
        t::VersionMatch {
            version: rule.version.to_string(),
            key: format!("{}{}", RoutingRule::PREFIX, rule.name),
            method: written.method,
            expression: written.expression,
        }
    });
    t::Alias {
        function_version: alias.version.to_string(),
        name: name.to_owned(),
        routing_config: t::RoutingConfig {
            additional_version_weights: Some(weights.collect()),
            addtion_version_matchs: Some(matches.collect()),
        },
        description: alias.description,
        add_time: clock::format(alias.added),
        mod_time: clock::format(alias.modified),
    }
}

/// Parses a number that the API transmits as text.
fn number(field: &str, text: Option<&str>) -> Result<Option<i64>, Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| {
        let message = format!("{field}: {text:?} is not allowed; a number is");
        Error::new(Code::InvalidParameterValue, message)
    })
}
