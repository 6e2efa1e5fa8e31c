//! Changes of a function's record, by optimistic concurrency: each names the record that it replaces.

use std::sync::Arc;

use catalog::Stored;
use model::{AccountId, Function, FunctionKey, Namespace};

use crate::{Control, Error, Reason};

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
        loop {
            let stored = find(self, key)?;
            let mut function = stored.value.clone();
            let result = edit(&mut function)?;
            if self.replace(&stored, &function).await? {
                return Ok(result);
            }
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
