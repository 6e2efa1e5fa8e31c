//! Changes of a function's record, by optimistic concurrency: each names the record that it replaces.

use std::sync::Arc;

use catalog::Stored;
use model::{Function, FunctionKey};
use scf::{Code, Error};

use super::super::{Gateway, error};

/// Changes a function whose state allows it, and returns the result of `edit`. If another change came first, `edit` runs again
/// on the newer record.
pub(in super::super) async fn change<T>(
    gateway: &Gateway,
    key: &FunctionKey,
    edit: impl Fn(&mut Function) -> Result<T, Error>,
) -> Result<T, Error> {
    change_found(gateway, key, changeable, edit).await
}

/// Changes a function in any state, for settings that concern neither its code nor its instances.
pub(in super::super) async fn change_in_any_state<T>(
    gateway: &Gateway,
    key: &FunctionKey,
    edit: impl Fn(&mut Function) -> Result<T, Error>,
) -> Result<T, Error> {
    change_found(gateway, key, get, edit).await
}

async fn change_found<T>(
    gateway: &Gateway,
    key: &FunctionKey,
    find: impl Fn(&Gateway, &FunctionKey) -> Result<Arc<Stored<Function>>, Error>,
    edit: impl Fn(&mut Function) -> Result<T, Error>,
) -> Result<T, Error> {
    loop {
        let stored = find(gateway, key)?;
        let mut function = stored.value.clone();
        let result = edit(&mut function)?;
        if replace(gateway, &stored, &function).await? {
            return Ok(result);
        }
    }
}

/// Replaces a function's record, unless it is unchanged. Returns false if another change came first.
pub(in super::super) async fn replace(
    gateway: &Gateway,
    old: &Arc<Stored<Function>>,
    new: &Function,
) -> Result<bool, Error> {
    if old.value == *new {
        return Ok(true);
    }
    match gateway.catalog.update_function(old, new).await {
        Ok(()) => Ok(true),
        Err(catalog::Error::Conflict) => Ok(false),
        Err(e) => Err(error::function(e)),
    }
}

pub(in super::super) fn get(
    gateway: &Gateway,
    key: &FunctionKey,
) -> Result<Arc<Stored<Function>>, Error> {
    gateway.catalog.function(key).ok_or_else(|| {
        if gateway.catalog.has_namespace(key.account, &key.namespace) {
            let message = format!(
                "function {} does not exist in namespace {}",
                key.name, key.namespace
            );
            Error::new(Code::FunctionNotFound, message)
        } else {
            Error::new(
                Code::NamespaceNotFound,
                format!("namespace {} does not exist", key.namespace),
            )
        }
    })
}

/// Finds a function and checks that its state allows a change.
pub(in super::super) fn changeable(
    gateway: &Gateway,
    key: &FunctionKey,
) -> Result<Arc<Stored<Function>>, Error> {
    let stored = get(gateway, key)?;
    if stored.value.state.allows_update() {
        return Ok(stored);
    }
    let message = format!(
        "function {} is {}; wait until this is finished",
        key.name,
        stored.value.state.as_str()
    );
    Err(Error::new(Code::FunctionStatusError, message))
}
