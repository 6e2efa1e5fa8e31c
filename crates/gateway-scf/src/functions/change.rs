//! Changes of a function's record by actions whose checks are not in `control` yet.

use std::sync::Arc;

use catalog::Stored;
use model::{Function, FunctionKey};
use scf::Error;

use super::super::error::Refused;
use super::super::{Gateway, error};

/// Changes a function in any state, for settings that concern neither its code nor its instances.
pub(in super::super) async fn change_in_any_state<T>(
    gateway: &Gateway,
    key: &FunctionKey,
    edit: impl Fn(&mut Function) -> Result<T, Error>,
) -> Result<T, Error> {
    let edit = |function: &mut Function| edit(function).map_err(Refused::from);
    let changed = gateway.control.change_in_any_state(key, edit).await;
    changed.map_err(Error::from)
}

pub(in super::super) fn get(
    gateway: &Gateway,
    key: &FunctionKey,
) -> Result<Arc<Stored<Function>>, Error> {
    gateway.control.function(key).map_err(error::control)
}
