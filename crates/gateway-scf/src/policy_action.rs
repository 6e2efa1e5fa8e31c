//! The API's actions, as requests, policies and rate limits name them.

use access::Action;
use scf::action;
use scf::{ActionInfo, Call, Error, Service};

use super::error;

/// Returns the API's actions, as policies and rate limits name them.
pub fn policy_actions() -> Vec<Action<'static>> {
    scf::ACTIONS.iter().map(policy_action).collect()
}

/// Returns whether the API has an action.
pub fn is_action(name: &str) -> bool {
    scf::action::find(name).is_some()
}

fn policy_action(action: &ActionInfo) -> Action<'static> {
    Action {
        service: action.service.name,
        names: action.names,
    }
}

/// Returns an action by its name. No policy allows one that does not exist.
pub(super) fn named(action: &str) -> Action<'static> {
    let nothing = Action {
        service: scf::SCF.name,
        names: &[],
    };
    scf::action::find(action).map_or(nothing, policy_action)
}

/// Returns the requested action of the requested service.
pub(super) fn known_action(call: &Call<'_>) -> Result<&'static str, Error> {
    let service = Service::of(call)?;
    let known = action::find(&call.action).filter(|known| known.service == service);
    known.map(|known| known.name).ok_or_else(|| {
        let shown: String = call.action.chars().take(60).collect();
        let Service { name, version } = service;
        let message = format!("the action {shown:?} does not exist in version {version} of {name}");
        let message = if service == scf::TAG {
            let own = scf::ACTIONS.iter().filter(|one| one.service == service);
            let own: Vec<_> = own.map(|one| one.name).collect();
            format!("{message} here; there are {}", own.join(", "))
        } else {
            message
        };
        error::no_action(message)
    })
}

#[cfg(test)]
mod tests {
    use access::{GET_LAYER_VERSION, INVOKE, INVOKE_URL};

    use super::*;

    #[test]
    fn actions_that_access_requires_by_itself_have_the_names_of_the_api() {
        for own in [INVOKE, GET_LAYER_VERSION] {
            assert_eq!(named(own.name()), own);
        }
        assert_eq!(INVOKE_URL.names, [scf::FUNCTION_URL]);
        assert!(!is_action(scf::FUNCTION_URL));
        assert_eq!(named("Nothing").names, [""; 0]);
    }
}
