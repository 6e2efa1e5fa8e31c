//! How a change of one entry of the store changes the view.

use std::sync::Arc;

use model::{AccountId, FunctionKey, FunctionName, LayerName, Namespace};

use super::View;
use crate::error::Error;
use crate::format::decode;
use crate::issued::IssuedIds;
use crate::kv::Revision;
use crate::stored::{FunctionChange, Stored};

/// An entry of the store: its value, or `None` if it was deleted.
struct Entry<'a> {
    account: AccountId,
    /// The part of the key behind the account, and the next one.
    name: &'a str,
    rest: &'a str,
    value: Option<&'a [u8]>,
    revision: Revision,
}

impl View {
    /// Applies a change of one entry. Returns the resulting changes of functions.
    pub(crate) fn apply(
        &mut self,
        key: &str,
        value: Option<&[u8]>,
        revision: Revision,
    ) -> Result<Vec<FunctionChange>, Error> {
        let invalid = |why: String| Error::Format {
            key: key.to_owned(),
            why,
        };
        self.revision = self.revision.max(revision);
        let mut parts = key.split('/');
        let mut part = || parts.next().unwrap_or_default();
        let (table, account, name, rest) = (part(), part().parse().ok(), part(), part());
        let account = account.ok_or_else(|| invalid("no account id in its key".into()))?;
        let account = AccountId(account);
        self.sizes
            .update(account, key, value.map(|value| value.len() as u64));
        let entry = Entry {
            account,
            name,
            rest,
            value,
            revision,
        };
        let applied = match table {
            "function" => self.apply_function(&entry).map(|change| vec![change]),
            // Read by `migrate` alone.
            "format" => Ok(Vec::new()),
            "ids" => self.apply_counters(&entry).map(|()| Vec::new()),
            "issued" => self.apply_issued(&entry).map(|()| Vec::new()),
            "settings" => self.apply_settings(&entry).map(|()| Vec::new()),
            "domain" => self.apply_domain(&entry).map(|()| Vec::new()),
            "layer" => self.apply_layer(&entry).map(|()| Vec::new()),
            "namespace" => self.apply_namespace(&entry).map(|()| Vec::new()),
            _ => self.apply_access(table, &entry),
        };
        applied.map_err(invalid)
    }

    fn apply_function(&mut self, entry: &Entry) -> Result<FunctionChange, String> {
        let key = FunctionKey {
            account: entry.account,
            namespace: Namespace::parse(entry.name).map_err(|e| e.to_string())?,
            name: FunctionName::parse(entry.rest).map_err(|e| e.to_string())?,
        };
        match entry.stored()? {
            Some(stored) => drop(self.put_function(stored)),
            None => drop(self.remove_function(&key)),
        }
        let now = self.function(&key).cloned();
        Ok(FunctionChange { key, now })
    }

    fn apply_counters(&mut self, entry: &Entry) -> Result<(), String> {
        self.counters = entry.value.map(decode).transpose()?;
        Ok(())
    }

    fn apply_issued(&mut self, entry: &Entry) -> Result<(), String> {
        let stored: Option<Stored<IssuedIds>> = entry.stored()?;
        if stored
            .as_ref()
            .is_some_and(|stored| stored.value.deleted.is_some())
        {
            self.access.mark_deleted(entry.account);
        }
        match stored {
            Some(stored) => drop(self.issued.insert(entry.account, Arc::new(stored))),
            None => drop(self.issued.remove(&entry.account)),
        }
        Ok(())
    }

    fn apply_settings(&mut self, entry: &Entry) -> Result<(), String> {
        match entry.stored()? {
            Some(stored) => drop(self.settings.insert(entry.account, Arc::new(stored))),
            None => drop(self.settings.remove(&entry.account)),
        }
        Ok(())
    }

    fn apply_domain(&mut self, entry: &Entry) -> Result<(), String> {
        match entry.stored()? {
            Some(stored) => drop(self.domains.insert(entry.name.to_owned(), Arc::new(stored))),
            None => drop(self.domains.remove(entry.name)),
        }
        Ok(())
    }

    fn apply_layer(&mut self, entry: &Entry) -> Result<(), String> {
        let name = LayerName::parse(entry.name).map_err(|e| e.to_string())?;
        match entry.stored()? {
            Some(stored) => drop(self.layers.insert((entry.account, name), Arc::new(stored))),
            None => drop(self.layers.remove(&(entry.account, name))),
        }
        Ok(())
    }

    fn apply_namespace(&mut self, entry: &Entry) -> Result<(), String> {
        let name = Namespace::parse(entry.name).map_err(|e| e.to_string())?;
        match entry.stored()? {
            Some(stored) => drop(
                self.namespaces
                    .insert((entry.account, name), Arc::new(stored)),
            ),
            None => drop(self.namespaces.remove(&(entry.account, name))),
        }
        Ok(())
    }

    fn apply_access(&mut self, table: &str, entry: &Entry) -> Result<Vec<FunctionChange>, String> {
        let account = entry.account;
        let was_open = self.access.is_open(account);
        let applied = self
            .access
            .apply(table, account, entry.name, entry.value, entry.revision);
        applied.ok_or("unknown table")??;
        if !was_open || self.access.is_open(account) {
            return Ok(Vec::new());
        }
        // Subscribers see the functions of a closed account as deleted.
        let functions = self.functions.keys().filter(|key| key.account == account);
        let gone = |key: &FunctionKey| FunctionChange {
            key: key.clone(),
            now: None,
        };
        Ok(functions.map(gone).collect())
    }
}

impl Entry<'_> {
    /// Decodes the record. `None` if it was deleted.
    fn stored<T: serde::de::DeserializeOwned>(&self) -> Result<Option<Stored<T>>, String> {
        let value = self.value.map(decode).transpose()?;
        Ok(value.map(|value| Stored {
            value,
            revision: self.revision,
        }))
    }
}
