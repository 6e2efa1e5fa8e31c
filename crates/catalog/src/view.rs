//! The catalog in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use model::{
    AccountId, AccountRecord, Domain, Function, FunctionKey, FunctionName, Layer, LayerName,
    Namespace, NamespaceRecord,
};

use crate::Stored;

/// All functions, namespaces, layers, domains and accounts. Readers share it under a lock that is held for a lookup.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) functions: HashMap<FunctionKey, Arc<Stored<Function>>>,
    /// Names by namespace, for lists in order.
    pub(crate) names: BTreeMap<(AccountId, Namespace), BTreeSet<FunctionName>>,
    pub(crate) namespaces: BTreeMap<(AccountId, Namespace), Arc<Stored<NamespaceRecord>>>,
    pub(crate) layers: BTreeMap<(AccountId, LayerName), Arc<Stored<Layer>>>,
    /// By host.
    pub(crate) domains: HashMap<String, Arc<Stored<Domain>>>,
    pub(crate) accounts: BTreeMap<AccountId, Arc<Stored<AccountRecord>>>,
    /// The store's last change that is in here.
    pub(crate) revision: u64,
}

impl View {
    pub(crate) fn put_function(
        &mut self,
        stored: Stored<Function>,
    ) -> Option<Arc<Stored<Function>>> {
        let key = stored.value.key.clone();
        let place = (key.account, key.namespace.clone());
        self.names
            .entry(place)
            .or_default()
            .insert(key.name.clone());
        self.functions.insert(key, Arc::new(stored))
    }

    pub(crate) fn remove_function(&mut self, key: &FunctionKey) -> Option<Arc<Stored<Function>>> {
        let place = (key.account, key.namespace.clone());
        if let Some(names) = self.names.get_mut(&place) {
            names.remove(&key.name);
            if names.is_empty() {
                self.names.remove(&place);
            }
        }
        self.functions.remove(key)
    }
}
