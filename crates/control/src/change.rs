//! Changes of a function's record, by optimistic concurrency: each names the record that it replaces.

use std::sync::Arc;

use catalog::{Stored, TriggerConflict};
use model::{AccountId, Function, FunctionKey, Namespace, ObjectEvents};

use crate::{Control, Error, Reason};

/// What the catalog checks in the commit of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Nothing.
    None,
    /// That no two triggers match the same object event.
    ObjectEvents,
    /// That the account and the node have the memory.
    Concurrency,
}

/// Why a new record is not written.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Another trigger matches some of the same object events.
    Overlap(TriggerConflict),
    /// Only this much memory is left, MB.
    Memory(u32),
    /// A quota is exceeded, or the store fails.
    Other(Error),
}

impl Refusal {
    /// Describes it without knowing the operation.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Overlap(conflict) => {
                let message = format!("trigger {} gets some of these events", conflict.trigger);
                Error::new(Reason::EventsTaken, message)
            }
            Self::Memory(left) => {
                let message = format!("{left} MB are left");
                Error::new(Reason::ProvisionedExceedsAvailable, message)
            }
            Self::Other(error) => error,
        }
    }
}

impl Control {
    /// Changes a function whose state allows it, and returns the result of `edit`. If another change came first, `edit` runs
    /// again on the newer record.
    ///
    /// # Errors
    /// The function does not exist, its state allows no change, `edit` refuses, or the store fails.
    pub async fn change<T, E: From<Error>>(
        &self,
        key: &FunctionKey,
        edit: impl Fn(&mut Function) -> Result<T, E>,
    ) -> Result<T, E> {
        self.change_found(key, Self::changeable, edit).await
    }

    /// Changes a function in any state, for settings that concern neither its code nor its instances.
    ///
    /// # Errors
    /// The function does not exist, `edit` refuses, or the store fails.
    pub async fn change_in_any_state<T, E: From<Error>>(
        &self,
        key: &FunctionKey,
        edit: impl Fn(&mut Function) -> Result<T, E>,
    ) -> Result<T, E> {
        self.change_found(key, Self::function, edit).await
    }

    async fn change_found<T, E: From<Error>>(
        &self,
        key: &FunctionKey,
        find: impl Fn(&Self, &FunctionKey) -> Result<Arc<Stored<Function>>, Error>,
        edit: impl Fn(&mut Function) -> Result<T, E>,
    ) -> Result<T, E> {
        let explain = |_: &Function, refusal: Refusal| refusal.into_error().into();
        self.change_checked(key, Check::None, find, edit, explain)
            .await
    }

    /// Changes a function that `find` finds, with a check of the catalog. `explain` describes the refusal of a new record.
    pub(crate) async fn change_checked<T, E: From<Error>>(
        &self,
        key: &FunctionKey,
        check: Check,
        find: impl Fn(&Self, &FunctionKey) -> Result<Arc<Stored<Function>>, Error>,
        edit: impl Fn(&mut Function) -> Result<T, E>,
        explain: impl Fn(&Function, Refusal) -> E,
    ) -> Result<T, E> {
        loop {
            let stored = find(self, key)?;
            let mut function = stored.value.clone();
            let result = edit(&mut function)?;
            match self.write(check, &stored, &function).await {
                Ok(true) => return Ok(result),
                Ok(false) => {}
                Err(refusal) => return Err(explain(&function, refusal)),
            }
        }
    }

    /// Replaces a function's record, unless the check refuses. Returns false if another change came first.
    async fn write(
        &self,
        check: Check,
        old: &Arc<Stored<Function>>,
        new: &Function,
    ) -> Result<bool, Refusal> {
        let written = match check {
            Check::None => return self.replace(old, new).await.map_err(Refusal::Other),
            Check::ObjectEvents if object_events(new).eq(object_events(&old.value)) => {
                self.catalog.update_function(old, new).await
            }
            Check::ObjectEvents => match self.catalog.update_bucket_triggers(old, new).await {
                Ok(Err(conflict)) => return Err(Refusal::Overlap(conflict)),
                Ok(Ok(())) => Ok(()),
                Err(error) => Err(error),
            },
            Check::Concurrency => {
                let provisionable = self.driver.provisionable_mb();
                let catalog = &self.catalog;
                catalog
                    .update_concurrency(old, new, &self.limits, provisionable)
                    .await
            }
        };
        match (written, check) {
            (Ok(()), _) => Ok(true),
            (Err(catalog::Error::Conflict), _) => Ok(false),
            (Err(catalog::Error::Quota(left)), Check::Concurrency) => Err(Refusal::Memory(left)),
            (Err(error), _) => Err(Refusal::Other(Error::function(error))),
        }
    }

    /// Replaces a function's record, unless it is unchanged. Returns false if another change came first.
    ///
    /// # Errors
    /// A quota is exceeded, or the store fails.
    pub async fn replace(
        &self,
        old: &Arc<Stored<Function>>,
        new: &Function,
    ) -> Result<bool, Error> {
        if old.value == *new {
            return Ok(true);
        }
        match self.catalog.update_function(old, new).await {
            Ok(()) => Ok(true),
            Err(catalog::Error::Conflict) => Ok(false),
            Err(e) => Err(Error::function(e)),
        }
    }

    /// Finds a function.
    ///
    /// # Errors
    /// The function or its namespace does not exist.
    pub fn function(&self, key: &FunctionKey) -> Result<Arc<Stored<Function>>, Error> {
        self.catalog.function(key).ok_or_else(|| {
            let missing = self.check_namespace(key.account, &key.namespace);
            missing.err().unwrap_or_else(|| {
                let message = format!(
                    "function {} does not exist in namespace {}",
                    key.name, key.namespace
                );
                Error::new(Reason::FunctionMissing, message)
            })
        })
    }

    /// Checks that a namespace exists.
    ///
    /// # Errors
    /// It does not.
    pub fn check_namespace(&self, account: AccountId, namespace: &Namespace) -> Result<(), Error> {
        if self.catalog.has_namespace(account, namespace) {
            return Ok(());
        }
        let message = format!("namespace {namespace} does not exist");
        Err(Error::new(Reason::NamespaceMissing, message))
    }

    /// Finds a function and checks that its state allows a change.
    ///
    /// # Errors
    /// The function does not exist, or an earlier change of its code is not finished.
    pub fn changeable(&self, key: &FunctionKey) -> Result<Arc<Stored<Function>>, Error> {
        let stored = self.function(key)?;
        if stored.value.state.allows_update() {
            return Ok(stored);
        }
        let message = format!(
            "function {} is {}; wait until this is finished",
            key.name,
            stored.value.state.as_str()
        );
        Err(Error::new(Reason::FunctionState, message))
    }
}

fn object_events(function: &Function) -> impl Iterator<Item = &ObjectEvents> {
    function.bucket_triggers().map(|(_, events)| events)
}
