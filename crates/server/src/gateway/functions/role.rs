//! The role of a function: in whose name its code acts. That the caller may lend it was checked before.

use model::RoleName;
use scf::Error;

use super::super::operator::roles;
use super::{Caller, Gateway};

/// What a request says of the role: nothing, that there is none, or which. It must be one of the account's.
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
    let role = roles::find(gateway, caller.account, name)?;
    Ok(Some(Some(role.value.name.clone())))
}
