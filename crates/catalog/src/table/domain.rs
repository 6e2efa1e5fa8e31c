//! Custom domains and functions' URLs: who asks for one reads an entry of the view.

use std::sync::Arc;

use model::{AccountId, Domain, DomainName, Function, Limits, TriggerName};

use super::{Catalog, Error, Stored};
use crate::kv::Precondition;

impl Catalog {
    /// The domain of a host, in lower case, if it is one.
    pub fn domain(&self, host: &str) -> Option<Arc<Stored<Domain>>> {
        self.read(|view| {
            let found = view.domains.get(host)?;
            let open = view.access.is_open(found.value.account);
            open.then(|| found.clone())
        })
    }

    /// The function of a URL or an API, by the URL's id or that of the API's service.
    pub fn function_of_url(&self, id: &TriggerName) -> Option<Arc<Stored<Function>>> {
        self.read(|view| view.function(view.urls.get(id)?).cloned())
    }

    /// An account's domains.
    pub fn domains(&self, account: AccountId) -> Vec<Arc<Stored<Domain>>> {
        self.read(|view| {
            let own = view
                .domains
                .values()
                .filter(|stored| stored.value.account == account);
            own.cloned().collect()
        })
    }

    /// The domains of all accounts.
    pub fn all_domains(&self) -> Vec<Arc<Stored<Domain>>> {
        self.read(|view| view.domains.values().cloned().collect())
    }

    /// Adds a domain.
    ///
    /// # Errors
    /// [`Error::Exists`], whoever has it, [`Error::Quota`], or the store's.
    pub async fn create_domain(&self, domain: &Domain, limits: &Limits) -> Result<(), Error> {
        let _counting = self.counting_for(domain.account).await?;
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

    /// Replaces a domain that is still as it was read.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is not, or the store's.
    pub async fn update_domain(&self, old: &Stored<Domain>, new: &Domain) -> Result<(), Error> {
        let key = domain_key(old.value.account, &old.value.name);
        self.put(&key, new, Precondition::Revision(old.revision))
            .await
    }

    /// Replaces a domain with what a check of it found, which no quota holds up.
    ///
    /// # Errors
    /// As [`Catalog::update_domain`].
    pub async fn settle_domain(&self, old: &Stored<Domain>, new: &Domain) -> Result<(), Error> {
        let key = domain_key(old.value.account, &old.value.name);
        let on = Precondition::Revision(old.revision);
        self.put_numbered(&key, new, on).await.map(drop)
    }

    /// Removes a domain that is still as it was read.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is not, or the store's.
    pub async fn delete_domain(&self, old: &Stored<Domain>) -> Result<(), Error> {
        let key = domain_key(old.value.account, &old.value.name);
        self.delete(&key, Precondition::Revision(old.revision))
            .await
    }
}

fn domain_key(account: AccountId, name: &DomainName) -> String {
    format!("domain/{account}/{name}")
}
