//! The actions on aliases.

use control::aliases::{AliasSettings, RoutingSettings, RuleSettings, existing, list};
use model::{Alias, Routing, RoutingRule};
use scf::Error;
use scf::action::{CreateAlias, DeleteAlias, GetAlias, ListAliases, UpdateAlias};
use scf::types as t;

use super::error;
use super::functions::{find, key};
use super::page::page;
use super::{Caller, Gateway, Serve};

impl Serve for CreateAlias {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::CreateAliasRequest,
    ) -> Result<t::Empty, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        let routing = request.routing_config.map(routing);
        let settings = AliasSettings {
            version: &request.function_version,
            description: request.description.as_deref(),
            routing: routing.as_ref(),
        };
        let created = gateway.control.create_alias(&key, &request.name, settings);
        created.await.map_err(error::control)?;
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
        let routing = request.routing_config.map(routing);
        let settings = AliasSettings {
            version: &request.function_version,
            description: request.description.as_deref(),
            routing: routing.as_ref(),
        };
        let updated = gateway.control.update_alias(&key, &request.name, settings);
        updated.await.map_err(error::control)?;
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
        let alias = existing(&stored.value, &request.name).map_err(error::control)?;
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
        let offset = number("Offset", request.offset.as_deref())?;
        let (offset, limit) = page(offset, number("Limit", request.limit.as_deref())?)?;
        let version = request.function_version.as_deref();
        let version = version.filter(|text| !text.is_empty());
        let aliases = list(&stored.value, version).map_err(error::control)?;
        Ok(t::ListAliasesResponse {
            total_count: aliases.len() as i64,
            aliases: aliases
                .into_iter()
                .skip(offset)
                .take(limit)
                .map(|(name, alias)| show(name, alias))
                .collect(),
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
        let deleted = gateway.control.delete_alias(&key, &request.name);
        deleted.await.map_err(error::control)?;
        Ok(t::Empty {})
    }
}

fn routing(given: t::RoutingConfig) -> RoutingSettings {
    let weights = given.additional_version_weights.unwrap_or_default();
    let rules = given.addtion_version_matchs.unwrap_or_default();
    let rule = |given: t::VersionMatch| RuleSettings {
        version: given.version,
        key: given.key,
        method: given.method,
        expression: given.expression,
    };
    RoutingSettings {
        weights: weights
            .into_iter()
            .map(|given| (given.version, given.weight))
            .collect(),
        rules: rules.into_iter().map(rule).collect(),
    }
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
        error::parameter(message)
    })
}
