//! The routing of a request: which function its host or path belongs to.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::HOST;
use hosts::{host_name, is_service, read_path};
use model::{Domain, FailureKind, FunctionKey, TriggerName};

use super::refusal::Refused;
use super::target::{EntryPoint, ListenerKind, Target};
use super::urls::Urls;

impl Urls {
    /// Finds the target of a request; `None` if neither its host nor its path is a function's.
    pub(super) fn find(
        &self,
        listener: ListenerKind,
        request: &Request,
    ) -> Option<Result<Target, Refused>> {
        // HTTP/1.0 requires no host, and the path form works without one.
        let host = request.headers().get(HOST);
        let host = host.map_or(Some(""), |host| host.to_str().ok())?;
        let (host, path) = (host_name(host), request.uri().path());
        let service_target = |id: &str, account: Option<&str>, path: &str| {
            self.service_target(id, account, path, request.method(), request.headers())
        };
        // A host that the operator configured for the API is never a function's.
        if self.addresses.covers(&host) && !self.hosts.names(&host) {
            let (account, id) = self.addresses.read_host(&host).unwrap_or_default();
            return Some(match is_service(id) {
                true => service_target(id, Some(account), path),
                false => self.url_target(id, Some(account), None),
            });
        }
        // A domain stored by an older version may equal a host of the API, which has precedence.
        if self.hosts.reserves(&host).is_none()
            && let Some(domain) = self.catalog.domain(&host)
        {
            let domain = &domain.value;
            return Some(match self.ownership.serves(domain, clock::now_ms) {
                true => domain_target(domain, path),
                false => Err(closed(domain)),
            });
        }
        let (id, below) = read_path(path)?;
        // Functions always have the path form, and are not browsers.
        let inside = listener == ListenerKind::Inside;
        if !(inside || self.addresses.has_paths()) {
            return None;
        }
        let found = if is_service(id) {
            service_target(id, None, below)
        } else {
            let below = if below.is_empty() { "/" } else { below };
            self.url_target(id, None, Some(below.to_owned()))
        };
        Some(found.map(|target| Target {
            by_path: true,
            shared_origin: !inside,
            ..target
        }))
    }

    /// Finds the target of a URL's id. The function must be `account`'s if that is given.
    pub(super) fn url_target(
        &self,
        id: &str,
        account: Option<&str>,
        path: Option<String>,
    ) -> Result<Target, Refused> {
        let not_found = || {
            let message = "no function has this URL".to_owned();
            Refused::new(StatusCode::NOT_FOUND, FailureKind::FunctionMissing, message)
        };
        let name = TriggerName::parse(id).map_err(|_| not_found())?;
        let stored = self.catalog.function_of_url(&name).ok_or_else(not_found)?;
        let function = &stored.value;
        let (trigger, url) = function.url(id).ok_or_else(not_found)?;
        if account.is_some_and(|account| account != function.key.account.to_string()) {
            return Err(not_found());
        }
        if !trigger.enabled {
            let message = "this function's URL is disabled; enable its trigger".to_owned();
            return Err(Refused::new(
                StatusCode::FORBIDDEN,
                FailureKind::Forbidden,
                message,
            ));
        }
        Ok(Target {
            function: function.key.clone(),
            found: Some(stored.clone().into()),
            qualifier: trigger.qualifier.clone(),
            path,
            entry_point: EntryPoint::Url(url.clone()),
            by_path: false,
            shared_origin: false,
        })
    }
}

/// Refuses a request to a domain without a proof of ownership.
fn closed(domain: &Domain) -> Refused {
    let message = format!("{} is closed: its ownership is not proved", domain.name);
    let status = StatusCode::FORBIDDEN;
    Refused::new(status, FailureKind::Forbidden, message)
}

/// Finds the target of a path on a custom domain.
fn domain_target(domain: &Domain, path: &str) -> Result<Target, Refused> {
    let route = domain.route(path).ok_or_else(|| {
        let message = format!("{} has no route for {path}", domain.name);
        Refused::new(StatusCode::NOT_FOUND, FailureKind::FunctionMissing, message)
    })?;
    Ok(Target {
        function: FunctionKey {
            account: domain.account,
            namespace: route.namespace.clone(),
            name: route.function.clone(),
        },
        found: None,
        qualifier: route.qualifier.clone(),
        path: route.rewrite(path),
        entry_point: EntryPoint::Domain,
        by_path: false,
        shared_origin: false,
    })
}
