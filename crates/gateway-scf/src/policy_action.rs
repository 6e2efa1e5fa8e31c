//! The API's actions, as policies and rate limits name them.

use access::Action;
use scf::ActionInfo;

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
