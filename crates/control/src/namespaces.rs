//! Namespaces of an account.

use model::{AccountId, Field, Namespace, NamespaceRecord};

use crate::{Control, Error, Limit, Reason, text};

impl Control {
    /// Creates a namespace.
    ///
    /// # Errors
    /// A value is not allowed, the namespace exists, or the quota is used up.
    pub async fn create_namespace(
        &self,
        account: AccountId,
        name: &str,
        description: Option<&str>,
    ) -> Result<(), Error> {
        let now = clock::now_ms();
        let record = NamespaceRecord {
            name: Namespace::parse(name)?,
            description: text::description(description, &self.limits)?,
            added: now,
            modified: now,
        };
        let created = self
            .catalog
            .create_namespace(account, &record, &self.limits);
        created.await.map_err(namespace_error)
    }

    /// Changes the description of a namespace.
    ///
    /// # Errors
    /// A value is not allowed, or the namespace does not exist.
    pub async fn update_namespace(
        &self,
        account: AccountId,
        name: &str,
        description: &str,
    ) -> Result<(), Error> {
        let name = Namespace::parse(name)?;
        let now = clock::now_ms();
        let old = self.catalog.namespace(account, &name);
        let record = NamespaceRecord {
            name,
            description: text::description(Some(description), &self.limits)?,
            added: old.map_or(now, |old| old.value.added),
            modified: now,
        };
        let updated = self.catalog.update_namespace(account, &record);
        updated.await.map_err(namespace_error)
    }

    /// Deletes an empty namespace.
    ///
    /// # Errors
    /// The namespace does not exist, holds functions, or is the default one.
    pub async fn delete_namespace(&self, account: AccountId, name: &str) -> Result<(), Error> {
        let name = Namespace::parse(name)?;
        if name.is_default() {
            let message = "default always exists and cannot be deleted";
            return Err(Error::of(
                Field::Namespace,
                Reason::NamespacePermanent,
                message,
            ));
        }
        let deleted = self.catalog.delete_namespace(account, &name);
        deleted.await.map_err(namespace_error)
    }

    /// Returns the namespaces of an account, with the default one. Its times are 0 unless it was changed.
    pub fn namespaces(&self, account: AccountId) -> Vec<NamespaceRecord> {
        let stored = self.catalog.namespaces(account);
        let mut records: Vec<_> = stored.iter().map(|stored| stored.value.clone()).collect();
        if records.iter().all(|record| !record.name.is_default()) {
            records.push(NamespaceRecord {
                name: Namespace::default(),
                description: String::new(),
                added: 0,
                modified: 0,
            });
        }
        records
    }
}

/// Describes an error of a change to a namespace.
fn namespace_error(error: catalog::Error) -> Error {
    match &error {
        catalog::Error::Exists => Error::of(
            Field::Namespace,
            Reason::NamespaceExists,
            "it already exists; choose another name",
        ),
        catalog::Error::Quota(limit) => {
            let message = format!(
                "the account has its {limit} namespaces already, default included; delete one first"
            );
            Error::new(Reason::LimitReached(Limit::Namespaces), message)
        }
        _ => Error::function(error),
    }
}
