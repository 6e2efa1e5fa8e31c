//! The in-memory view of the catalog, with its indexes.

mod access;
mod apply;
mod sizes;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use model::{
    AccountId, AccountSettings, BucketName, Domain, Function, FunctionKey, FunctionName, Layer,
    LayerName, Namespace, NamespaceRecord, TriggerName,
};

use self::access::AccessTables;
use self::sizes::Sizes;
use crate::issued::{Counters, IssuedIds};
use crate::stored::Stored;

/// The functions of a namespace by name.
pub(crate) type FunctionsByName = BTreeMap<FunctionName, Arc<Stored<Function>>>;

/// All records of the catalog. Readers share it under a lock that is held only for a lookup.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) functions: HashMap<FunctionKey, Arc<Stored<Function>>>,
    /// Index of `functions` by namespace and name, for ordered lists.
    pub(crate) names: BTreeMap<(AccountId, Namespace), FunctionsByName>,
    pub(crate) namespaces: BTreeMap<(AccountId, Namespace), Arc<Stored<NamespaceRecord>>>,
    pub(crate) layers: BTreeMap<(AccountId, LayerName), Arc<Stored<Layer>>>,
    /// Index of functions by the ids of their URLs and of their API gateway services.
    pub(crate) urls: HashMap<TriggerName, FunctionKey>,
    /// Index of functions by the buckets of their triggers.
    pub(crate) buckets: HashMap<(AccountId, BucketName), BTreeSet<FunctionKey>>,
    /// Custom domains by host.
    pub(crate) domains: HashMap<String, Arc<Stored<Domain>>>,
    pub(crate) settings: BTreeMap<AccountId, Arc<Stored<AccountSettings>>>,
    pub(crate) access: AccessTables,
    /// Sizes of the stored records.
    pub(crate) sizes: Sizes,
    /// Ids that were issued to accounts.
    pub(crate) issued: BTreeMap<AccountId, Arc<Stored<IssuedIds>>>,
    /// Counters of the highest issued ids.
    pub(crate) counters: Option<Counters>,
    /// Revision of the last applied change of the store.
    pub(crate) revision: u64,
}

impl View {
    /// Finds a function, unless its account is closed.
    pub(crate) fn function(&self, key: &FunctionKey) -> Option<&Arc<Stored<Function>>> {
        let found = self.functions.get(key)?;
        self.access.is_open(key.account).then_some(found)
    }

    /// Returns every account that owns a record, possibly more than once.
    pub(crate) fn owners(&self) -> impl Iterator<Item = AccountId> {
        let functions = self.names.keys().map(|(owner, _)| *owner);
        let namespaces = self.namespaces.keys().map(|(owner, _)| *owner);
        let layers = self.layers.keys().map(|(owner, _)| *owner);
        let domains = self.domains.values().map(|stored| stored.value.account);
        functions
            .chain(namespaces)
            .chain(layers)
            .chain(domains)
            .chain(self.settings.keys().copied())
            .chain(self.access.owners())
            .chain(self.issued.keys().copied())
    }

    pub(crate) fn put_function(
        &mut self,
        stored: Stored<Function>,
    ) -> Option<Arc<Stored<Function>>> {
        let key = stored.value.key.clone();
        let namespace = (key.account, key.namespace.clone());
        let urls: Vec<_> = stored.value.http_ids().cloned().collect();
        let buckets: Vec<_> = buckets_of(&stored.value).collect();
        let stored = Arc::new(stored);
        let names = self.names.entry(namespace).or_default();
        names.insert(key.name.clone(), stored.clone());
        let old = self.functions.insert(key.clone(), stored);
        self.unindex_urls(old.as_deref());
        self.unindex_buckets(old.as_deref());
        self.urls
            .extend(urls.into_iter().map(|url| (url, key.clone())));
        for bucket in buckets {
            self.buckets.entry(bucket).or_default().insert(key.clone());
        }
        old
    }

    fn unindex_urls(&mut self, old: Option<&Stored<Function>>) {
        for url in old.into_iter().flat_map(|old| old.value.http_ids()) {
            self.urls.remove(url);
        }
    }

    fn unindex_buckets(&mut self, old: Option<&Stored<Function>>) {
        let Some(old) = old else {
            return;
        };
        for bucket in buckets_of(&old.value) {
            if let Entry::Occupied(mut functions) = self.buckets.entry(bucket) {
                functions.get_mut().remove(&old.value.key);
                if functions.get().is_empty() {
                    functions.remove();
                }
            }
        }
    }

    pub(crate) fn remove_function(&mut self, key: &FunctionKey) -> Option<Arc<Stored<Function>>> {
        let namespace = (key.account, key.namespace.clone());
        if let Some(names) = self.names.get_mut(&namespace) {
            names.remove(&key.name);
            if names.is_empty() {
                self.names.remove(&namespace);
            }
        }
        let old = self.functions.remove(key);
        self.unindex_urls(old.as_deref());
        self.unindex_buckets(old.as_deref());
        old
    }
}

fn buckets_of(function: &Function) -> impl Iterator<Item = (AccountId, BucketName)> {
    let account = function.key.account;
    function
        .bucket_triggers()
        .map(move |(_, events)| (account, events.bucket.clone()))
}
