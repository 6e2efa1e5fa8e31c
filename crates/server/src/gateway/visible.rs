//! What a caller sees of what lists, and records of other things, name. What it may not see is left out, as if it were not
//! there: before anything is searched for, counted or put into pages.

use model::{Domain, FunctionConfig, FunctionKey, Route};
use scf::{Code, Error};

use super::{Caller, Gateway};
use crate::access::{ResourceRef, scope};

impl Gateway {
    /// Whether a request of an action may be served, by all that it names.
    ///
    /// # Errors
    /// `UnauthorizedOperation`.
    pub(super) fn authorize(
        &self,
        caller: Caller<'_>,
        action: &str,
        named: &[ResourceRef<'_>],
    ) -> Result<(), Error> {
        caller.principal.authorize(action, &self.region, named)
    }

    /// Whether a list shows a function.
    pub(super) fn lists_function(&self, caller: Caller<'_>, list: &str, key: &FunctionKey) -> bool {
        // Who may see all needs no name to be put together.
        !caller.principal.has_policy() || {
            let path = scope::function(key.namespace.as_str(), key.name.as_str());
            self.lists(caller, list, "GetFunction", &path)
        }
    }

    /// Whether a list shows a layer.
    pub(super) fn lists_layer(&self, caller: Caller<'_>, list: &str, name: &str) -> bool {
        self.lists(caller, list, "GetLayerVersion", &scope::layer(name))
    }

    /// Whether a list shows a namespace.
    pub(super) fn lists_namespace(&self, caller: Caller<'_>, list: &str, name: &str) -> bool {
        self.lists(caller, list, list, &scope::namespace(name))
    }

    /// A domain with those of its routes that lead to functions that a list shows. None where there is no such route.
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
        caller.principal.lists(list, alone, &self.region, path)
    }

    /// Whether a caller may do something to the function that a record is of, which the request does not name.
    pub(super) fn may(&self, caller: Caller<'_>, action: &str, key: &FunctionKey) -> bool {
        let (space, name) = (key.namespace.as_str(), key.name.as_str());
        let named = [ResourceRef::Function { space, name }];
        self.authorize(caller, action, &named).is_ok()
    }

    /// Whether a domain may be changed, by the functions that it leads to already.
    ///
    /// # Errors
    /// `UnauthorizedOperation`, which does not name the function.
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
            Error::new(Code::UnauthorizedOperation, message)
        })
    }

    /// Whether settings may be given to another function, by all that they name.
    ///
    /// # Errors
    /// `UnauthorizedOperation`.
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
