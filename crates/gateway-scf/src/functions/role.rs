//! The role of a function, whose permissions its code has. The caller's permission to pass the role was checked before.

use model::RoleName;
use scf::Error;

use super::super::operator::roles;
use super::{Caller, Gateway};

/// Parses the role of a request: absent, removed, or an existing role of the account.
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
