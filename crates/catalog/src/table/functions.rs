//! Functions.

use std::sync::Arc;

use model::{AccountId, Function, FunctionKey, Limits, Namespace};
use tokio::sync::broadcast;

use crate::error::Error;
use crate::kv::Precondition;
use crate::stored::{FunctionChange, Stored};
use crate::table::Catalog;

impl Catalog {
    /// Finds a function.
    pub fn function(&self, key: &FunctionKey) -> Option<Arc<Stored<Function>>> {
        self.read(|view| view.function(key).cloned())
    }

    /// Returns the functions of a namespace, ordered by name.
    pub fn functions(
        &self,
        account: AccountId,
        namespace: &Namespace,
    ) -> Vec<Arc<Stored<Function>>> {
        self.read(|view| {
            let named = view.names.get(&(account, namespace.clone()));
            let named = named.filter(|_| view.access.is_open(account));
            let functions = named.into_iter().flat_map(|named| named.values());
            functions.cloned().collect()
        })
    }

    /// Returns the functions of all accounts.
    pub fn all_functions(&self) -> Vec<Arc<Stored<Function>>> {
        self.read(|view| {
            let open = |one: &&Arc<Stored<Function>>| view.access.is_open(one.value.key.account);
            view.functions.values().filter(open).cloned().collect()
        })
    }

    /// Subscribes to changes of functions. A subscriber that lags receives an error and must reload all functions.
    pub fn subscribe(&self) -> broadcast::Receiver<FunctionChange> {
        self.inner.changes.subscribe()
    }

    /// Creates a function.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NoNamespace`], [`Error::Quota`], or an error of the store.
    pub async fn create_function(&self, function: &Function, limits: &Limits) -> Result<(), Error> {
        let key = &function.key;
        let _admission = self.admission_for(key.account).await?;
        if !self.has_namespace(key.account, &key.namespace) {
            return Err(Error::NoNamespace(key.namespace.clone()));
        }
        if self.function(key).is_some() {
            return Err(Error::Exists);
        }
        let count = self.read(|view| {
            view.names
                .get(&(key.account, key.namespace.clone()))
                .map_or(0, std::collections::BTreeMap::len)
        });
        if count >= limits.functions_per_namespace as usize {
            return Err(Error::Quota(limits.functions_per_namespace));
        }
        let put = self
            .put(&function_key(key), function, Precondition::Absent)
            .await;
        put.map_err(|e| {
            if matches!(e, Error::Conflict) {
                Error::Exists
            } else {
                e
            }
        })
    }

    /// Replaces a function (compare-and-swap).
    ///
    /// # Errors
    /// [`Error::Conflict`] if it was changed since `old` was read, or an error of the store.
    pub async fn update_function(
        &self,
        old: &Stored<Function>,
        new: &Function,
    ) -> Result<(), Error> {
        self.put(
            &function_key(&old.value.key),
            new,
            Precondition::Revision(old.revision),
        )
        .await
    }

    /// Records the result of preparing a function's code. Not subject to the quota, so that accepted work always completes.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it was changed since `old` was read, or an error of the store.
    pub async fn complete_code_update(
        &self,
        old: &Stored<Function>,
        new: &Function,
    ) -> Result<(), Error> {
        let on = Precondition::Revision(old.revision);
        let key = function_key(&old.value.key);
        self.put_unchecked(&key, new, on).await.map(drop)
    }

    /// Deletes a function (compare-and-swap).
    ///
    /// # Errors
    /// [`Error::Conflict`] if it was changed since `old` was read, or an error of the store.
    pub async fn delete_function(&self, old: &Stored<Function>) -> Result<(), Error> {
        self.delete(
            &function_key(&old.value.key),
            Precondition::Revision(old.revision),
        )
        .await
    }
}

fn function_key(key: &FunctionKey) -> String {
    format!("function/{}/{}/{}", key.account, key.namespace, key.name)
}
