//! The actions on custom domains. `urls` serves the requests to them.

use std::sync::Arc;

use catalog::Stored;
use hosts::{Reserved, host_name, is_canonical};
use model::{
    Domain, DomainName, Firewall, FunctionKey, FunctionName, PathPattern, Protocol, Qualifier,
    Rewrite, Route,
};
use ownership::{Finding, Record};
use scf::action::{
    CreateCustomDomain, DeleteCustomDomain, GetCustomDomain, ListCustomDomains, UpdateCustomDomain,
};
use scf::types as t;
use scf::{Action, Code, Error};
use tracing::info;

use super::error;
use super::functions::{descending, page, tags};
use super::invoke::namespace;
use super::{Caller, Gateway, Serve};

impl Serve for CreateCustomDomain {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::CreateCustomDomainRequest,
    ) -> Result<t::Empty, Error> {
        let name = DomainName::parse(&request.domain).map_err(error::invalid)?;
        refuse_reserved(gateway, caller, &name)?;
        let lapsed = lapsed(gateway, caller, &name)?;
        let now = clock::now_ms();
        let domain = Domain {
            name,
            account: caller.account,
            protocol: Protocol::parse(&request.protocol).map_err(error::invalid)?,
            routes: routes(gateway, caller, &request.endpoints_config)?,
            certificate: certificate(request.cert_config),
            firewall: firewall(request.waf_config)?,
            tags: tags(request.tags.as_deref())?,
            proof: None,
            unproved_since: None,
            added: now,
            modified: now,
        };
        check(&domain)?;
        let domain = with_proof(gateway, domain).await?;
        if let Some(lapsed) = lapsed {
            let deleted = gateway.catalog.delete_domain(&lapsed).await;
            deleted.map_err(error::domain)?;
            let (name, from) = (&domain.name, lapsed.value.account);
            info!(domain = %name, %from, to = %domain.account, "a custom domain without proof of ownership moves to the account that proved it");
        }
        let created = gateway
            .catalog
            .create_domain(&domain, &gateway.limits)
            .await;
        created.map(|()| t::Empty {}).map_err(error::domain)
    }
}

impl Serve for UpdateCustomDomain {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::UpdateCustomDomainRequest,
    ) -> Result<t::Empty, Error> {
        let stored = find(gateway, caller, &request.domain)?;
        gateway.check_routes(caller, Self::NAME, &stored.value)?;
        refuse_reserved(gateway, caller, &stored.value.name)?;
        let mut domain = stored.value.clone();
        if let Some(protocol) = request.protocol.as_deref().filter(|text| !text.is_empty()) {
            domain.protocol = Protocol::parse(protocol).map_err(error::invalid)?;
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
        check(&domain)?;
        if domain.unproved_since.is_some() {
            domain = with_proof(gateway, domain).await?;
        }
        domain.modified = clock::now_ms();
        let updated = gateway.catalog.update_domain(&stored, &domain).await;
        updated.map(|()| t::Empty {}).map_err(error::domain)
    }
}

impl Serve for DeleteCustomDomain {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::DeleteCustomDomainRequest,
    ) -> Result<t::Empty, Error> {
        let stored = find(gateway, caller, &request.domain)?;
        gateway.check_routes(caller, Self::NAME, &stored.value)?;
        let deleted = gateway.catalog.delete_domain(&stored).await;
        deleted.map(|()| t::Empty {}).map_err(error::domain)
    }
}

impl Serve for GetCustomDomain {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::GetCustomDomainRequest,
    ) -> Result<t::GetCustomDomainResponse, Error> {
        let stored = find(gateway, caller, &request.domain)?;
        let shown = gateway.shown_domain(caller, Self::NAME, &stored.value);
        let shown = show(&shown.ok_or_else(|| unknown(&stored.value.name))?);
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
                    let message =
                        format!("Filters: {other:?} is not allowed; Domain and FunctionName are");
                    return Err(Error::new(Code::InvalidFilters, message));
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
                let message = format!("OrderBy: {other:?} is not allowed; AddTime and ModTime are");
                return Err(Error::new(Code::InvalidOrderBy, message));
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

/// Finds a domain of the caller's account.
fn find(gateway: &Gateway, caller: Caller<'_>, name: &str) -> Result<Arc<Stored<Domain>>, Error> {
    let name = DomainName::parse(name).map_err(error::invalid)?;
    let found = gateway.catalog.domain(name.as_str());
    let own = found.filter(|stored| stored.value.account == caller.account);
    own.ok_or_else(|| unknown(&name))
}

fn unknown(name: &DomainName) -> Error {
    let message = format!("Domain: {name} is not one of the account's custom domains");
    Error::new(Code::DomainNotFound, message)
}

/// Rejects host names of this installation and non-canonical spellings.
fn refuse_reserved(gateway: &Gateway, caller: Caller<'_>, name: &DomainName) -> Result<(), Error> {
    if !is_canonical(name.as_str()) {
        let message = format!(
            "Domain: {name} is not allowed; a label that begins with xn-- must be the encoding of a name of another alphabet"
        );
        return Err(Error::new(Code::InvalidDomain, message));
    }
    // A host name by which the caller reaches the API is one of the API's.
    let called = caller
        .host
        .is_some_and(|host| host_name(host) == name.as_str());
    let reserved = gateway.hosts.reserves(name.as_str());
    match reserved.or(called.then_some(Reserved::Api)) {
        None => Ok(()),
        Some(why) => {
            let message = format!(
                "Domain: {name} cannot be a custom domain: {why}; choose a host name that is used for functions only"
            );
            Err(Error::new(Code::InUse, message))
        }
    }
}

/// Finds another account's domain of this name whose proof of ownership has lapsed. A new proof of the name replaces it.
///
/// # Errors
/// Returns `ResourceInUse` if the domain is served, or is the caller's own.
fn lapsed(
    gateway: &Gateway,
    caller: Caller<'_>,
    name: &DomainName,
) -> Result<Option<Arc<Stored<Domain>>>, Error> {
    let taken = gateway.catalog.domain(name.as_str());
    let in_use = taken.as_ref().is_some_and(|taken| {
        let domain = &taken.value;
        domain.account == caller.account || gateway.ownership.serves(domain, clock::now_ms)
    });
    if in_use {
        return Err(error::domain(catalog::Error::Exists));
    }
    Ok(taken)
}

/// Checks that the account owns a domain, and records the proof.
async fn with_proof(gateway: &Gateway, domain: Domain) -> Result<Domain, Error> {
    let (account, name) = (domain.account, &domain.name);
    let before = domain.proof.as_deref();
    let why = match gateway.ownership.check(account, name, before).await {
        Finding::Allowed => {
            return Ok(Domain {
                unproved_since: None,
                ..domain
            });
        }
        Finding::Proved(value) => {
            return Ok(Domain {
                proof: Some(value),
                unproved_since: None,
                ..domain
            });
        }
        Finding::Missing => "no DNS record proves that the account owns it".to_owned(),
        Finding::Unanswered(why) => format!("its ownership could not be checked ({why})"),
    };
    let Record {
        name: record,
        value,
    } = gateway.ownership.record(account, name);
    let message = format!(
        "Domain: {name}: {why}; publish the DNS record {record} of type TXT with the value {value} and call again, or have the operator \
         allow the domain (domain_allow)"
    );
    Err(Error::new(Code::FailedOperation, message))
}

/// Requires a certificate id for HTTPS.
fn check(domain: &Domain) -> Result<(), Error> {
    if domain.protocol != Protocol::Http && domain.certificate.is_none() {
        let message = "CertConfig: HTTPS needs a CertificateId";
        return Err(Error::new(Code::InvalidParameterValue, message));
    }
    Ok(())
}

fn routes(
    gateway: &Gateway,
    caller: Caller<'_>,
    endpoints: &[t::EndpointsConf],
) -> Result<Vec<Route>, Error> {
    let most = gateway.limits.routes_per_domain as usize;
    if endpoints.is_empty() || endpoints.len() > most {
        let message = format!(
            "EndpointsConfig: {} are not allowed; 1 to {most} are",
            endpoints.len()
        );
        return Err(Error::new(Code::InvalidParameterValue, message));
    }
    let mut routes: Vec<Route> = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let route = route(gateway, caller, endpoint)?;
        if routes.iter().any(|other| other.path == route.path) {
            let message = format!(
                "EndpointsConfig: PathMatch {:?} is given twice",
                route.path.as_str()
            );
            return Err(Error::new(Code::InvalidParameterValue, message));
        }
        routes.push(route);
    }
    Ok(routes)
}

fn route(
    gateway: &Gateway,
    caller: Caller<'_>,
    endpoint: &t::EndpointsConf,
) -> Result<Route, Error> {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let key = FunctionKey {
        account: caller.account,
        namespace: namespace(endpoint.namespace.as_deref())?,
        name: FunctionName::parse(&text(&endpoint.function_name)).map_err(error::invalid)?,
    };
    let qualifier = match endpoint.qualifier.as_deref() {
        None | Some("") => Qualifier::Alias(model::Alias::DEFAULT.to_owned()),
        Some(text) => Qualifier::parse(text).map_err(error::invalid)?,
    };
    super::functions::get(gateway, &key)?;
    let rewrites = endpoint.path_rewrite.iter().flatten().map(rewrite);
    Ok(Route {
        namespace: key.namespace,
        function: key.name,
        qualifier,
        path: PathPattern::parse(&text(&endpoint.path_match)).map_err(error::invalid)?,
        rewrites: rewrites.collect::<Result<_, _>>()?,
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
        return Err(Error::new(Code::InvalidParameterValue, message));
    }
    let fine = to.starts_with('/')
        && to.len() <= 256
        && to
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#'));
    if !fine {
        let message =
            format!("PathRewrite: Rewrite {to:?} is not allowed; a path such as /a or /$ is");
        return Err(Error::new(Code::InvalidParameterValue, message));
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
            return Err(Error::new(Code::InvalidParameterValue, message));
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
