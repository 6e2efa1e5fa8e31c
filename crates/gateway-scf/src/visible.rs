//! Visibility of resources in lists and in records of other resources. Resources that the caller may not see are removed before
//! searching, counting and pagination, as if they did not exist.

use access::{Request, ResourceRef, scope};
use model::{Domain, FunctionConfig, FunctionKey, Route};
use scf::Error;

use super::policy_action::named;
use super::{Caller, Gateway, error};

impl Gateway {
    /// Admits a call of an action, or throttles it by the account's rate limit.
    ///
    /// # Errors
    /// Returns `RequestLimitExceeded`.
    pub(super) fn admit(&self, caller: Caller<'_>, action: &str) -> Result<(), Error> {
        let admitted = self.access.admit(caller.principal, action);
        admitted.map_err(|refused| error::rate_limited(&refused))
    }

    /// Checks that the caller may perform an action on all resources.
    ///
    /// # Errors
    /// Returns `UnauthorizedOperation`.
    pub(super) fn authorize(
        &self,
        caller: Caller<'_>,
        action: &str,
        resources: &[ResourceRef<'_>],
    ) -> Result<(), Error> {
        if !caller.principal.has_policy() {
            return Ok(());
        }
        let request = Request {
            action: named(action),
            resources,
        };
        let authorized = self.access.authorize(caller.principal, &request);
        authorized.map_err(|refused| error::denied(&refused))
    }

    /// Returns whether a list shows a function.
    pub(super) fn lists_function(&self, caller: Caller<'_>, list: &str, key: &FunctionKey) -> bool {
        // Skip building the resource name for callers without a policy.
        !caller.principal.has_policy() || {
            let path = scope::function(key.namespace.as_str(), key.name.as_str());
            self.lists(caller, list, "GetFunction", &path)
        }
    }

    /// Returns whether a list shows a layer.
    pub(super) fn lists_layer(&self, caller: Caller<'_>, list: &str, name: &str) -> bool {
        self.lists(caller, list, "GetLayerVersion", &scope::layer(name))
    }

    /// Returns whether a list shows a namespace.
    pub(super) fn lists_namespace(&self, caller: Caller<'_>, list: &str, name: &str) -> bool {
        self.lists(caller, list, list, &scope::namespace(name))
    }

    /// Returns a domain with the routes to functions that a list shows; `None` if there is no such route.
    pub(super) fn shown_domain(
        &self,
        caller: Caller<'_>,
        list: &str,
        domain: &Domain,
    ) -> Option<Domain> {
        let path = scope::domain(domain.name.as_str());
        if !self.lists(caller, list, "GetCustomDomain", &path) {
            return None;
        }
        let mut shown = domain.clone();
        shown
            .routes
            .retain(|route| self.lists_function(caller, list, &target(domain, route)));
        (!shown.routes.is_empty()).then_some(shown)
    }

    fn lists(&self, caller: Caller<'_>, list: &str, alone: &str, path: &str) -> bool {
        !caller.principal.has_policy() || {
            let (list, alone) = (named(list), named(alone));
            caller.principal.lists(&list, &alone, &self.region, path)
        }
    }

    /// Returns whether the caller may perform an action on the function of a record that the request does not name.
    pub(super) fn may(&self, caller: Caller<'_>, action: &str, key: &FunctionKey) -> bool {
        let (space, name) = (key.namespace.as_str(), key.name.as_str());
        let named = [ResourceRef::Function { space, name }];
        self.authorize(caller, action, &named).is_ok()
    }

    /// Checks that the caller may change a domain with its existing routes.
    ///
    /// # Errors
    /// Returns `UnauthorizedOperation`, without the name of the function.
    pub(super) fn check_routes(
        &self,
        caller: Caller<'_>,
        action: &str,
        domain: &Domain,
    ) -> Result<(), Error> {
        let targets = domain.routes.iter().map(|route| ResourceRef::Target {
            space: route.namespace.as_str(),
            name: route.function.as_str(),
        });
        let named: Vec<_> = targets.collect();
        self.authorize(caller, action, &named).map_err(|_| {
            let path = scope::domain(domain.name.as_str());
            let resource = caller.principal.resource("scf", &self.region, &path);
            let message = format!(
                "you are not authorized to perform operation (scf:{action})\nresource ({resource}) has no permission: \
                 it leads to functions for which no statement allows it, or one denies it"
            );
            error::unauthorized(message)
        })
    }

    /// Checks that the caller may give a function's settings, with all resources they reference, to another function.
    ///
    /// # Errors
    /// Returns `UnauthorizedOperation`.
    pub(super) fn check_copy(
        &self,
        caller: Caller<'_>,
        action: &str,
        config: &FunctionConfig,
    ) -> Result<(), Error> {
        let role = config
            .role
            .iter()
            .map(|role| ResourceRef::Role(role.as_str()));
        let layers = config.layers.iter();
        let layers = layers.map(|layer| ResourceRef::UsedLayer(layer.name.as_str()));
        let dead_letter_target = config.dead_letter.iter().filter_map(|target| match target {
            model::DeadLetter::Function { namespace, name } => Some(ResourceRef::Target {
                space: namespace.as_str(),
                name: name.as_str(),
            }),
            model::DeadLetter::Http { .. } => None,
        });
        let named: Vec<_> = role.chain(layers).chain(dead_letter_target).collect();
        self.authorize(caller, action, &named)
    }
}

fn target(domain: &Domain, route: &Route) -> FunctionKey {
    FunctionKey {
        account: domain.account,
        namespace: route.namespace.clone(),
        name: route.function.clone(),
    }
}
