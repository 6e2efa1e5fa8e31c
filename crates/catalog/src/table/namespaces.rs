//! Namespaces.

use std::sync::Arc;

use model::{AccountId, Limits, Namespace, NamespaceRecord};

use crate::error::Error;
use crate::kv::Precondition;
use crate::stored::Stored;
use crate::table::Catalog;

impl Catalog {
    /// Returns whether a namespace exists.
    pub fn has_namespace(&self, account: AccountId, namespace: &Namespace) -> bool {
        namespace.is_default() || self.namespace(account, namespace).is_some()
    }

    /// Finds the record of a namespace. `default` may have none.
    pub fn namespace(
        &self,
        account: AccountId,
        namespace: &Namespace,
    ) -> Option<Arc<Stored<NamespaceRecord>>> {
        self.read(|view| view.namespaces.get(&(account, namespace.clone())).cloned())
    }

    /// Returns the namespaces of an account that have a record, ordered by name.
    pub fn namespaces(&self, account: AccountId) -> Vec<Arc<Stored<NamespaceRecord>>> {
        self.read(|view| {
            let own = view
                .namespaces
                .iter()
                .filter(|((owner, _), _)| *owner == account && view.access.is_open(account));
            own.map(|(_, record)| record.clone()).collect()
        })
    }

    /// Creates a namespace.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Quota`], or an error of the store.
    pub async fn create_namespace(
        &self,
        account: AccountId,
        record: &NamespaceRecord,
        limits: &Limits,
    ) -> Result<(), Error> {
        let _admission = self.admission_for(account).await?;
        if self.has_namespace(account, &record.name) {
            return Err(Error::Exists);
        }
        let others = self
            .namespaces(account)
            .iter()
            .filter(|stored| !stored.value.name.is_default())
            .count();
        // `default` counts toward the quota, with or without a record.
        if others + 1 >= limits.namespaces as usize {
            return Err(Error::Quota(limits.namespaces));
        }
        let put = self
            .put(
                &namespace_key(account, &record.name),
                record,
                Precondition::Absent,
            )
            .await;
        put.map_err(|e| {
            if matches!(e, Error::Conflict) {
                Error::Exists
            } else {
                e
            }
        })
    }

    /// Replaces a namespace's record, or creates that of `default`.
    ///
    /// # Errors
    /// [`Error::NoNamespace`], [`Error::Conflict`], or an error of the store.
    pub async fn update_namespace(
        &self,
        account: AccountId,
        record: &NamespaceRecord,
    ) -> Result<(), Error> {
        let _admission = self.admission_for(account).await?;
        let on = match self.namespace(account, &record.name) {
            Some(old) => Precondition::Revision(old.revision),
            None if record.name.is_default() => Precondition::Absent,
            None => return Err(Error::NoNamespace(record.name.clone())),
        };
        self.put(&namespace_key(account, &record.name), record, on)
            .await
    }

    /// Deletes an empty namespace.
    ///
    /// # Errors
    /// [`Error::NoNamespace`], [`Error::NotEmpty`], [`Error::Conflict`], or an error of the store.
    pub async fn delete_namespace(
        &self,
        account: AccountId,
        namespace: &Namespace,
    ) -> Result<(), Error> {
        let _admission = self.inner.admission.lock().await;
        let Some(old) = self.namespace(account, namespace) else {
            return Err(Error::NoNamespace(namespace.clone()));
        };
        if self.read(|view| view.names.contains_key(&(account, namespace.clone()))) {
            return Err(Error::NotEmpty(namespace.clone()));
        }
        self.delete(
            &namespace_key(account, namespace),
            Precondition::Revision(old.revision),
        )
        .await
    }
}

/// Returns the key of a namespace's record.
pub(super) fn namespace_key(account: AccountId, namespace: &Namespace) -> String {
    format!("namespace/{account}/{namespace}")
}
