//! The role of a function: in whose name its code acts.

use model::{FunctionConfig, RoleName};
use scf::Error;

use super::super::operator::roles;
use super::{Caller, Gateway};

/// What a request says of the role: nothing, that there is none, or which. It must be one of the account's, and one that
/// the caller may lend.
pub(super) fn given(
    gateway: &Gateway,
    caller: Caller<'_>,
    given: Option<&str>,
) -> Result<Option<Option<RoleName>>, Error> {
    let Some(name) = given else {
        return Ok(None);
    };
    if name.is_empty() {
        return Ok(Some(None));
    }
    caller.principal.check_pass_role(name)?;
    let role = roles::find(gateway, caller.account, name)?;
    Ok(Some(Some(role.value.name.clone())))
}

/// Whether the caller may give these settings to another function.
pub(super) fn check_copy(caller: Caller<'_>, config: &FunctionConfig) -> Result<(), Error> {
    match &config.role {
        Some(role) => caller.principal.check_pass_role(role.as_str()),
        None => Ok(()),
    }
}
