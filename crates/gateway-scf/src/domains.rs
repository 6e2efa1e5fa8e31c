//! The actions on custom domains. `urls` serves the requests to them.

use control::domains::{DomainSettings, RouteSettings, missing_domain};
use model::{Domain, Firewall, PathPattern, Protocol, Rewrite, Route};
use scf::action::{
    CreateCustomDomain, DeleteCustomDomain, GetCustomDomain, ListCustomDomains, UpdateCustomDomain,
};
use scf::types as t;
use scf::{Action, Error};

use super::error::{self, Refused};
use super::functions::tags;
use super::page::{descending, page};
use super::{Caller, Gateway, Serve};

impl Serve for CreateCustomDomain {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::CreateCustomDomainRequest,
    ) -> Result<t::Empty, Error> {
        let name = request.domain.as_str();
        let settings = || -> Result<_, Refused> {
            Ok(DomainSettings {
                protocol: protocol(&request.protocol)?,
                routes: routes(gateway, caller, &request.endpoints_config)?,
                certificate: certificate(request.cert_config),
                firewall: firewall(request.waf_config)?,
                tags: tags(request.tags.as_deref())?,
            })
        };
        let control = &gateway.control;
        let created = control.create_domain(caller.account, caller.host, name, settings);
        created.await?;
        Ok(t::Empty {})
    }
}

impl Serve for UpdateCustomDomain {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::UpdateCustomDomainRequest,
    ) -> Result<t::Empty, Error> {
        let name = request.domain.as_str();
        let edit = |domain: &mut Domain| -> Result<(), Refused> {
            if let Some(given) = request.protocol.as_deref().filter(|text| !text.is_empty()) {
                domain.protocol = protocol(given)?;
            }
            if let Some(endpoints) = &request.endpoints_config {
                domain.routes = routes(gateway, caller, endpoints)?;
            }
            if request.cert_config.is_some() {
                domain.certificate = certificate(request.cert_config);
            }
            if request.waf_config.is_some() {
                domain.firewall = firewall(request.waf_config)?;
            }
            Ok(())
        };
        let may = may_change(gateway, caller, Self::NAME);
        let control = &gateway.control;
        let updated = control.update_domain(caller.account, caller.host, name, may, edit);
        updated.await?;
        Ok(t::Empty {})
    }
}

impl Serve for DeleteCustomDomain {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::DeleteCustomDomainRequest,
    ) -> Result<t::Empty, Error> {
        let may = may_change(gateway, caller, Self::NAME);
        let control = &gateway.control;
        let deleted = control.delete_domain(caller.account, &request.domain, may);
        deleted.await?;
        Ok(t::Empty {})
    }
}

/// Returns the check that the caller may change a domain with its existing routes.
fn may_change(
    gateway: &Gateway,
    caller: Caller<'_>,
    action: &str,
) -> impl FnOnce(&Domain) -> Result<(), Refused> {
    move |domain| Ok(gateway.check_routes(caller, action, domain)?)
}

impl Serve for GetCustomDomain {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::GetCustomDomainRequest,
    ) -> Result<t::GetCustomDomainResponse, Error> {
        let stored = gateway.control.domain(caller.account, &request.domain);
        let stored = stored.map_err(error::control)?;
        let shown = gateway.shown_domain(caller, Self::NAME, &stored.value);
        let missing = || error::control(missing_domain(&stored.value.name));
        let shown = show(&shown.ok_or_else(missing)?);
        Ok(t::GetCustomDomainResponse {
            domain: shown.domain,
            protocol: shown.protocol,
            endpoints_config: shown.endpoints_config,
            cert_config: shown.cert_config,
            waf_config: shown.waf_config,
            tags: shown.tags,
        })
    }
}

impl Serve for ListCustomDomains {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::ListCustomDomainsRequest,
    ) -> Result<t::ListCustomDomainsResponse, Error> {
        let (offset, limit) = page(request.offset, request.limit)?;
        let domains = gateway.catalog.domains(caller.account);
        let mut domains: Vec<Domain> = domains
            .iter()
            .filter_map(|stored| gateway.shown_domain(caller, Self::NAME, &stored.value))
            .collect();
        for filter in request.filters.iter().flatten() {
            let fits = |value: &str| {
                filter
                    .values
                    .iter()
                    .any(|wanted| value.contains(wanted.as_str()))
            };
            match filter.name.as_str() {
                "Domain" => domains.retain(|domain| fits(domain.name.as_str())),
                "FunctionName" => domains.retain(|domain| {
                    let routes = &domain.routes;
                    routes.iter().any(|route| fits(route.function.as_str()))
                }),
                other => {
                    let message = format!("{other:?} is not allowed; Domain and FunctionName are");
                    return Err(error::wire_field("Filters", message));
                }
            }
        }
        match request.order_by.as_deref() {
            None | Some("" | "AddTime") => {
                domains.sort_by_key(|domain| (domain.added, domain.name.clone()));
            }
            Some("ModTime") => {
                domains.sort_by_key(|domain| (domain.modified, domain.name.clone()));
            }
            Some(other) => {
                let message = format!("{other:?} is not allowed; AddTime and ModTime are");
                return Err(error::wire_field("OrderBy", message));
            }
        }
        if descending(request.order.as_deref())? {
            domains.reverse();
        }
        let shown = domains.iter().skip(offset).take(limit);
        Ok(t::ListCustomDomainsResponse {
            total: domains.len() as i64,
            domains: shown.map(show).collect(),
        })
    }
}

fn protocol(given: &str) -> Result<Protocol, Error> {
    Protocol::parse(given).map_err(error::invalid)
}

fn routes(
    gateway: &Gateway,
    caller: Caller<'_>,
    endpoints: &[t::EndpointsConf],
) -> Result<Vec<Route>, Refused> {
    gateway.control.routes(endpoints, |endpoint| {
        let settings = RouteSettings {
            namespace: endpoint.namespace.as_deref(),
            function: endpoint.function_name.as_deref().unwrap_or_default(),
            qualifier: endpoint.qualifier.as_deref(),
            path: endpoint.path_match.as_deref().unwrap_or_default(),
        };
        let rewrites = || -> Result<_, Refused> {
            let rules = endpoint.path_rewrite.iter().flatten();
            Ok(rules.map(rewrite).collect::<Result<_, _>>()?)
        };
        gateway.control.route(caller.account, settings, rewrites)
    })
}

const WILDCARD_RULES: &str = "WildcardRules";
const EXACT_RULES: &str = "ExactRules";

fn rewrite(rule: &t::PathRewriteRule) -> Result<Rewrite, Error> {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let path = PathPattern::parse(&text(&rule.path));
    let path = path.map_err(|e| error::invalid_field("PathRewrite", e))?;
    let (kind, to) = (text(&rule.r#type), text(&rule.rewrite));
    let expected = if path.is_wildcard() {
        WILDCARD_RULES
    } else {
        EXACT_RULES
    };
    if !kind.is_empty() && kind != expected {
        let message =
            format!("PathRewrite: Type {kind:?} does not go with Path {path}; {expected} does");
        return Err(error::parameter(message));
    }
    let fine = to.starts_with('/')
        && to.len() <= 256
        && to
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#'));
    if !fine {
        let message =
            format!("PathRewrite: Rewrite {to:?} is not allowed; a path such as /a or /$ is");
        return Err(error::parameter(message));
    }
    Ok(Rewrite { path, to })
}

fn certificate(given: Option<t::CertConf>) -> Option<String> {
    given?.certificate_id.filter(|id| !id.is_empty())
}

fn firewall(given: Option<t::WafConf>) -> Result<Option<Firewall>, Error> {
    let Some(given) = given else {
        return Ok(None);
    };
    let open = match given.waf_open.as_deref() {
        None | Some("" | "CLOSE") => false,
        Some("OPEN") => true,
        Some(other) => {
            let message =
                format!("WafConfig.WafOpen: {other:?} is not allowed; OPEN and CLOSE are");
            return Err(error::parameter(message));
        }
    };
    let id = given.waf_instance_id.unwrap_or_default();
    Ok((open || !id.is_empty()).then_some(Firewall { open, id }))
}

fn show(domain: &Domain) -> t::DomainInfo {
    let endpoint = |route: &Route| t::EndpointsConf {
        namespace: Some(route.namespace.to_string()),
        function_name: Some(route.function.to_string()),
        qualifier: Some(route.qualifier.to_string()),
        path_match: Some(route.path.to_string()),
        path_rewrite: Some(route.rewrites.iter().map(rule).collect()),
    };
    let tag = |(key, value): (&String, &String)| t::Tag {
        key: key.clone(),
        value: value.clone(),
    };
    let firewall = domain.firewall.as_ref();
    t::DomainInfo {
        domain: domain.name.to_string(),
        protocol: domain.protocol.as_str().to_owned(),
        endpoints_config: domain.routes.iter().map(endpoint).collect(),
        cert_config: t::CertConf {
            certificate_id: Some(domain.certificate.clone().unwrap_or_default()),
        },
        waf_config: t::WafConf {
            waf_open: Some(
                if firewall.is_some_and(|wall| wall.open) {
                    "OPEN"
                } else {
                    "CLOSE"
                }
                .into(),
            ),
            waf_instance_id: Some(firewall.map(|wall| wall.id.clone()).unwrap_or_default()),
        },
        tags: domain.tags.iter().map(tag).collect(),
    }
}

fn rule(rewrite: &Rewrite) -> t::PathRewriteRule {
    t::PathRewriteRule {
        path: Some(rewrite.path.to_string()),
        r#type: Some(
            if rewrite.path.is_wildcard() {
                WILDCARD_RULES
            } else {
                EXACT_RULES
            }
            .into(),
        ),
        rewrite: Some(rewrite.to.clone()),
    }
}
