//! The operator's API. Root keys manage the keys and roles of their account; only the operator manages accounts. Keys with a
//! policy and functions have no access.

mod accounts;
mod events;
mod keys;
mod layers;
mod roles;

use ::operator as wire;
use control::Identity;
use model::AccountId;
use scf::{Action, Call, Error};

use super::{Caller, Gateway, Serve, error};

/// Returns the requests of all operator actions.
#[cfg(test)]
pub(super) fn probed() -> Vec<super::probe::Probed> {
    macro_rules! probed {
        ($($action:ident,)*) => {
            vec![$(super::probe::probe::<wire::$action>(),)*]
        };
    }
    wire::each_action!(probed)
}

impl Serve for wire::ListRuntimes {
    async fn serve(
        gateway: &Gateway,
        _: Caller<'_>,
        _: scf::types::Empty,
    ) -> Result<wire::Runtimes, Error> {
        let all = gateway.worker.interpreters().all();
        Ok(wire::Runtimes {
            runtimes: all.map(|one| one.runtime.to_string()).collect(),
        })
    }
}

impl Gateway {
    /// Dispatches an operator action.
    pub(super) async fn serve_operation(
        &self,
        call: &Call<'_>,
        caller: Caller<'_>,
        shown: &str,
    ) -> Result<(&'static str, Vec<u8>), (&'static str, Error)> {
        if caller.principal.has_policy() || caller.from_function {
            return Err(("", error::operator_denied()));
        }
        macro_rules! serve {
            ($($action:ident,)*) => {
                match call.action.as_ref() {
                    $(<wire::$action as Action>::NAME => {
                        let name = <wire::$action as Action>::NAME;
                        let served = self.serve_operator::<wire::$action>(call, caller, shown).await;
                        served.map(|bytes| (name, bytes)).map_err(|error| (name, error))
                    })*
                    other => {
                        let there = [$(<wire::$action as Action>::NAME),*].join(", ");
                        let shown: String = other.chars().take(60).collect();
                        let message = format!("the action {shown:?} does not exist in version {}; there are {there}", wire::VERSION);
                        Err(("", error::no_action(message)))
                    }
                }
            };
        }
        wire::each_action!(serve)
    }

    /// Returns the account that a request is about: the caller's own, or any for the operator.
    fn target_account(&self, caller: Caller<'_>, given: Option<&str>) -> Result<AccountId, Error> {
        let found = self.control.target_account(identity(caller), given);
        found.map_err(error::control)
    }
}

fn identity(caller: Caller<'_>) -> Identity {
    Identity {
        account: caller.account,
        operator: caller.principal.is_operator(),
    }
}
