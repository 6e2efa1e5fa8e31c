//! Custom domains of an account.

use std::sync::Arc;

use catalog::Stored;
use hosts::{Reserved, host_name, is_canonical};
use model::{
    AccountId, Alias, Domain, DomainName, Field, Firewall, FunctionKey, FunctionName, Namespace,
    PathPattern, Protocol, Qualifier, Rewrite, Route,
};
use ownership::{Finding, Record};
use tracing::info;

use crate::{Control, Error, Limit, Reason};

/// The settings of a new domain.
#[derive(Clone, Debug)]
pub struct DomainSettings {
    /// Whether it is served over HTTP, HTTPS or both.
    pub protocol: Protocol,
    /// The functions that it leads to.
    pub routes: Vec<Route>,
    /// The id of its certificate.
    pub certificate: Option<String>,
    /// Its firewall.
    pub firewall: Option<Firewall>,
    /// Its tags.
    pub tags: crate::tags::Tags,
}

/// The function of a route.
#[derive(Clone, Copy, Debug)]
pub struct RouteSettings<'a> {
    /// The namespace; the default one if it is absent.
    pub namespace: Option<&'a str>,
    /// The function.
    pub function: &'a str,
    /// The version or alias; the default alias if it is absent.
    pub qualifier: Option<&'a str>,
    /// The pattern of paths.
    pub path: &'a str,
}

impl Control {
    /// Creates a custom domain of an account. `host` is the name by which the caller reached the platform. `settings` runs
    /// after the checks of the name.
    ///
    /// # Errors
    /// The name is not allowed, reserved or in use, `settings` refuses, or the account does not prove that it owns the domain.
    pub async fn create_domain<E: From<Error>>(
        &self,
        account: AccountId,
        host: Option<&str>,
        name: &str,
        settings: impl FnOnce() -> Result<DomainSettings, E>,
    ) -> Result<(), E> {
        let name = DomainName::parse(name).map_err(Error::from)?;
        self.check_name(host, &name)?;
        let lapsed = self.lapsed(account, &name)?;
        let now = clock::now_ms();
        let settings = settings()?;
        let domain = Domain {
            name,
            account,
            protocol: settings.protocol,
            routes: settings.routes,
            certificate: settings.certificate,
            firewall: settings.firewall,
            tags: settings.tags,
            proof: None,
            unproved_since: None,
            added: now,
            modified: now,
        };
        check(&domain)?;
        let domain = self.with_proof(domain).await?;
        if let Some(lapsed) = lapsed {
            let deleted = self.catalog.delete_domain(&lapsed).await;
            deleted.map_err(domain_error)?;
            let (name, from) = (&domain.name, lapsed.value.account);
            info!(domain = %name, %from, to = %domain.account, "a custom domain without proof of ownership moves to the account that proved it");
        }
        let created = self.catalog.create_domain(&domain, &self.limits).await;
        Ok(created.map_err(domain_error)?)
    }

    /// Changes a custom domain. `may` decides whether the caller may change it with its existing routes.
    ///
    /// # Errors
    /// The account has no such domain, `may` or `edit` refuses, the name is reserved by now, or the ownership must be proved
    /// again.
    pub async fn update_domain<E: From<Error>>(
        &self,
        account: AccountId,
        host: Option<&str>,
        name: &str,
        may: impl FnOnce(&Domain) -> Result<(), E>,
        edit: impl FnOnce(&mut Domain) -> Result<(), E>,
    ) -> Result<(), E> {
        let stored = self.domain(account, name)?;
        may(&stored.value)?;
        self.check_name(host, &stored.value.name)?;
        let mut domain = stored.value.clone();
        edit(&mut domain)?;
        check(&domain)?;
        if domain.unproved_since.is_some() {
            domain = self.with_proof(domain).await?;
        }
        domain.modified = clock::now_ms();
        let updated = self.catalog.update_domain(&stored, &domain).await;
        Ok(updated.map_err(domain_error)?)
    }

    /// Deletes a custom domain. `may` decides as in [`update_domain`](Self::update_domain).
    ///
    /// # Errors
    /// The account has no such domain, or `may` refuses.
    pub async fn delete_domain<E: From<Error>>(
        &self,
        account: AccountId,
        name: &str,
        may: impl FnOnce(&Domain) -> Result<(), E>,
    ) -> Result<(), E> {
        let stored = self.domain(account, name)?;
        may(&stored.value)?;
        let deleted = self.catalog.delete_domain(&stored).await;
        Ok(deleted.map_err(domain_error)?)
    }

    /// Finds a custom domain of an account.
    ///
    /// # Errors
    /// The name is not allowed, or the account has no such domain.
    pub fn domain(&self, account: AccountId, name: &str) -> Result<Arc<Stored<Domain>>, Error> {
        let name = DomainName::parse(name)?;
        let found = self.catalog.domain(name.as_str());
        let own = found.filter(|stored| stored.value.account == account);
        own.ok_or_else(|| missing_domain(&name))
    }

    /// Returns the routes of a domain, each from a request's `given` by `route`.
    ///
    /// # Errors
    /// There are none or too many, `route` refuses, or two have the same path.
    pub fn routes<T, E: From<Error>>(
        &self,
        given: &[T],
        route: impl Fn(&T) -> Result<Route, E>,
    ) -> Result<Vec<Route>, E> {
        let most = self.limits.routes_per_domain as usize;
        if given.is_empty() || given.len() > most {
            let message = format!("{} are not allowed; 1 to {most} are", given.len());
            return Err(Error::invalid(Field::Routes, message).into());
        }
        let mut routes: Vec<Route> = Vec::with_capacity(given.len());
        for one in given {
            let route = route(one)?;
            if routes.iter().any(|other| other.path == route.path) {
                let message = format!("PathMatch {:?} is given twice", route.path.as_str());
                return Err(Error::invalid(Field::Routes, message).into());
            }
            routes.push(route);
        }
        Ok(routes)
    }

    /// Returns a route to a function of an account. `rewrites` runs after all other checks.
    ///
    /// # Errors
    /// A value is not allowed, the function does not exist, or `rewrites` refuses.
    pub fn route<E: From<Error>>(
        &self,
        account: AccountId,
        settings: RouteSettings<'_>,
        rewrites: impl FnOnce() -> Result<Vec<Rewrite>, E>,
    ) -> Result<Route, E> {
        let given = |text: Option<&'_ str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let namespace = match given(settings.namespace) {
            None => Namespace::default(),
            Some(text) => Namespace::parse(&text).map_err(Error::from)?,
        };
        let key = FunctionKey {
            account,
            namespace,
            name: FunctionName::parse(settings.function).map_err(Error::from)?,
        };
        let qualifier = match given(settings.qualifier) {
            None => Qualifier::Alias(Alias::DEFAULT.to_owned()),
            Some(text) => Qualifier::parse(&text).map_err(Error::from)?,
        };
        self.function(&key)?;
        Ok(Route {
            namespace: key.namespace,
            function: key.name,
            qualifier,
            path: PathPattern::parse(settings.path).map_err(Error::from)?,
            rewrites: rewrites()?,
        })
    }

    /// Rejects host names of this installation and non-canonical spellings.
    fn check_name(&self, host: Option<&str>, name: &DomainName) -> Result<(), Error> {
        if !is_canonical(name.as_str()) {
            let message = format!(
                "{name} is not allowed; a label that begins with xn-- must be the encoding of a name of another alphabet"
            );
            return Err(Error::invalid(Field::Domain, message));
        }
        // A host name by which the caller reaches the API is one of the API's.
        let called = host.is_some_and(|host| host_name(host) == name.as_str());
        let reserved = self.hosts.reserves(name.as_str());
        match reserved.or(called.then_some(Reserved::Api)) {
            None => Ok(()),
            Some(why) => {
                let message = format!(
                    "{name} cannot be a custom domain: {why}; choose a host name that is used for functions only"
                );
                Err(Error::of(Field::Domain, Reason::DomainTaken, message))
            }
        }
    }

    /// Finds another account's domain of this name whose proof of ownership has lapsed. A new proof of the name replaces it.
    ///
    /// # Errors
    /// The domain is served, or is the account's own.
    fn lapsed(
        &self,
        account: AccountId,
        name: &DomainName,
    ) -> Result<Option<Arc<Stored<Domain>>>, Error> {
        let taken = self.catalog.domain(name.as_str());
        let in_use = taken.as_ref().is_some_and(|taken| {
            let domain = &taken.value;
            domain.account == account || self.ownership.serves(domain, clock::now_ms)
        });
        if in_use {
            return Err(domain_error(catalog::Error::Exists));
        }
        Ok(taken)
    }

    /// Checks that the account owns a domain, and records the proof.
    async fn with_proof(&self, domain: Domain) -> Result<Domain, Error> {
        let (account, name) = (domain.account, &domain.name);
        let before = domain.proof.as_deref();
        let why = match self.ownership.check(account, name, before).await {
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
        } = self.ownership.record(account, name);
        let message = format!(
            "{name}: {why}; publish the DNS record {record} of type TXT with the value {value} and call again, or have the operator \
             allow the domain (domain_allow)"
        );
        Err(Error::of(Field::Domain, Reason::DomainUnproved, message))
    }
}

/// Returns the error for a domain that the account does not have.
pub fn missing_domain(name: &DomainName) -> Error {
    let message = format!("{name} is not one of the account's custom domains");
    Error::of(Field::Domain, Reason::DomainMissing, message)
}

/// Requires a certificate id for HTTPS.
fn check(domain: &Domain) -> Result<(), Error> {
    if domain.protocol != Protocol::Http && domain.certificate.is_none() {
        let message = "HTTPS needs a CertificateId";
        return Err(Error::invalid(Field::Certificate, message));
    }
    Ok(())
}

/// Describes an error of a change to a custom domain.
fn domain_error(error: catalog::Error) -> Error {
    match &error {
        catalog::Error::Exists => Error::of(
            Field::Domain,
            Reason::DomainTaken,
            "it is already in use; choose another name",
        ),
        catalog::Error::Quota(limit) => {
            let message =
                format!("the account has its {limit} custom domains already; delete one first");
            Error::new(Reason::LimitReached(Limit::Domains), message)
        }
        _ => Error::function(error),
    }
}
