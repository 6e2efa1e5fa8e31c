//! Changes of a function's record by actions whose checks are not in `control` yet.

use std::sync::Arc;

use catalog::Stored;
use model::{Function, FunctionKey};
use scf::Error;

use super::super::{Gateway, error};

/// An error of the API that an edit may return.
struct Refused(Error);

impl From<control::Error> for Refused {
    fn from(error: control::Error) -> Self {
        Self(error::control(error))
    }
}

/// Changes a function in any state, for settings that concern neither its code nor its instances.
pub(in super::super) async fn change_in_any_state<T>(
    gateway: &Gateway,
    key: &FunctionKey,
    edit: impl Fn(&mut Function) -> Result<T, Error>,
) -> Result<T, Error> {
    let edit = |function: &mut Function| edit(function).map_err(Refused);
    let changed = gateway.control.change_in_any_state(key, edit).await;
    changed.map_err(|Refused(error)| error)
}

/// Replaces a function's record, unless it is unchanged. Returns false if another change came first.
pub(in super::super) async fn replace(
    gateway: &Gateway,
    old: &Arc<Stored<Function>>,
    new: &Function,
) -> Result<bool, Error> {
    gateway
        .control
        .replace(old, new)
        .await
        .map_err(error::control)
}

pub(in super::super) fn get(
    gateway: &Gateway,
    key: &FunctionKey,
) -> Result<Arc<Stored<Function>>, Error> {
    gateway.control.function(key).map_err(error::control)
}

/// Finds a function and checks that its state allows a change.
pub(in super::super) fn changeable(
    gateway: &Gateway,
    key: &FunctionKey,
) -> Result<Arc<Stored<Function>>, Error> {
    gateway.control.changeable(key).map_err(error::control)
}
