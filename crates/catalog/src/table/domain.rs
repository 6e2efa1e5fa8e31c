//! Custom domains and function URLs.

use std::sync::Arc;

use model::{AccountId, Domain, DomainName, Function, Limits, TriggerName};

use crate::error::Error;
use crate::kv::Precondition;
use crate::stored::Stored;
use crate::table::Catalog;

impl Catalog {
    /// Finds the domain of a host name in lower case.
    pub fn domain(&self, host: &str) -> Option<Arc<Stored<Domain>>> {
        self.read(|view| {
            let found = view.domains.get(host)?;
            let open = view.access.is_open(found.value.account);
            open.then(|| found.clone())
        })
    }

    /// Finds a function by the id of its URL, or by the id of its API gateway service.
    pub fn function_of_url(&self, id: &TriggerName) -> Option<Arc<Stored<Function>>> {
        self.read(|view| view.function(view.urls.get(id)?).cloned())
    }

    /// Returns the domains of an account.
    pub fn domains(&self, account: AccountId) -> Vec<Arc<Stored<Domain>>> {
        self.read(|view| {
            let own = view
                .domains
                .values()
                .filter(|stored| stored.value.account == account);
            own.cloned().collect()
        })
    }

    /// Returns the domains of all accounts.
    pub fn all_domains(&self) -> Vec<Arc<Stored<Domain>>> {
        self.read(|view| view.domains.values().cloned().collect())
    }

    /// Creates a domain.
    ///
    /// # Errors
    /// [`Error::Exists`] if any account has it, [`Error::Quota`], or an error of the store.
    pub async fn create_domain(&self, domain: &Domain, limits: &Limits) -> Result<(), Error> {
        let _admission = self.admission_for(domain.account).await?;
        if self.read(|view| view.domains.contains_key(domain.name.as_str())) {
            return Err(Error::Exists);
        }
        if self.domains(domain.account).len() >= limits.domains as usize {
            return Err(Error::Quota(limits.domains));
        }
        let key = domain_key(domain.account, &domain.name);
        match self.put(&key, domain, Precondition::Absent).await {
            Err(Error::Conflict) => Err(Error::Exists),
            done => done,
        }
    }

    /// Replaces a domain (compare-and-swap).
    ///
    /// # Errors
    /// [`Error::Conflict`] if it was changed since `old` was read, or an error of the store.
    pub async fn update_domain(&self, old: &Stored<Domain>, new: &Domain) -> Result<(), Error> {
        let key = domain_key(old.value.account, &old.value.name);
        self.put(&key, new, Precondition::Revision(old.revision))
            .await
    }

    /// Records the result of an ownership check. Not subject to the quota.
    ///
    /// # Errors
    /// As [`Catalog::update_domain`].
    pub async fn record_domain_check(
        &self,
        old: &Stored<Domain>,
        new: &Domain,
    ) -> Result<(), Error> {
        let key = domain_key(old.value.account, &old.value.name);
        let on = Precondition::Revision(old.revision);
        self.put_unchecked(&key, new, on).await.map(drop)
    }

    /// Deletes a domain (compare-and-swap).
    ///
    /// # Errors
    /// [`Error::Conflict`] if it was changed since `old` was read, or an error of the store.
    pub async fn delete_domain(&self, old: &Stored<Domain>) -> Result<(), Error> {
        let key = domain_key(old.value.account, &old.value.name);
        self.delete(&key, Precondition::Revision(old.revision))
            .await
    }
}

fn domain_key(account: AccountId, name: &DomainName) -> String {
    format!("domain/{account}/{name}")
}
