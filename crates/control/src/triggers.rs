//! The triggers of functions.

use model::{Function, Qualifier};

use crate::{Error, Reason};

/// Checks that no trigger is bound to a version or alias. `can_force` = a forced deletion is possible.
///
/// # Errors
/// Triggers are bound to it.
pub fn check_unbound(
    function: &Function,
    qualifier: &Qualifier,
    can_force: bool,
) -> Result<(), Error> {
    let bound = function.triggers_on(qualifier);
    if bound.is_empty() {
        return Ok(());
    }
    let names = bound.join(", ");
    let message = format!("{qualifier} is used by the triggers {names}; delete them first");
    Err(Error::new(Reason::UsedByTriggers { can_force }, message))
}
