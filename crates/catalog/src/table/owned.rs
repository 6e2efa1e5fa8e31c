//! All that an account owns, whether or not it is closed.

use std::sync::Arc;

use model::{AccountId, Domain, Function, Key, Layer, NamespaceRecord, Role};

use super::{Catalog, Stored};

/// An account's entries.
#[derive(Clone, Debug, Default)]
pub struct Owned {
    /// Its functions, of all namespaces.
    pub functions: Vec<Arc<Stored<Function>>>,
    /// Its namespaces that have a record; `default` may be among them.
    pub namespaces: Vec<Arc<Stored<NamespaceRecord>>>,
    /// Its layers, those without a version included.
    pub layers: Vec<Arc<Stored<Layer>>>,
    /// Its custom domains.
    pub domains: Vec<Arc<Stored<Domain>>>,
    /// Its keys.
    pub keys: Vec<Arc<Stored<Key>>>,
    /// Its roles.
    pub roles: Vec<Arc<Stored<Role>>>,
}

impl Owned {
    /// Its namespaces beside `default`, which every account has.
    pub fn other_namespaces(&self) -> impl Iterator<Item = &Arc<Stored<NamespaceRecord>>> {
        let spaces = self.namespaces.iter();
        spaces.filter(|stored| !stored.value.name.is_default())
    }

    /// Its layers that have a version.
    pub fn full_layers(&self) -> impl Iterator<Item = &Arc<Stored<Layer>>> {
        let layers = self.layers.iter();
        layers.filter(|stored| !stored.value.versions.is_empty())
    }

    /// Whether there is more than keys, roles, and what every account has.
    pub fn is_something(&self) -> bool {
        let mut others = self.other_namespaces();
        !self.functions.is_empty()
            || others.next().is_some()
            || self.full_layers().next().is_some()
            || !self.domains.is_empty()
    }
}

impl Catalog {
    /// All that an account owns, whether or not it is closed.
    pub fn owned(&self, account: AccountId) -> Owned {
        let (keys, roles) = (self.keys(account), self.roles(account));
        self.read(|view| {
            let functions = view.functions.values();
            let functions = functions.filter(|stored| stored.value.key.account == account);
            let spaces = view.namespaces.iter();
            let layers = view.layers.iter();
            let domains = view.domains.values();
            let domains = domains.filter(|stored| stored.value.account == account);
            Owned {
                functions: functions.cloned().collect(),
                namespaces: spaces
                    .filter(|((owner, _), _)| *owner == account)
                    .map(|(_, space)| space.clone())
                    .collect(),
                layers: layers
                    .filter(|((owner, _), _)| *owner == account)
                    .map(|(_, layer)| layer.clone())
                    .collect(),
                domains: domains.cloned().collect(),
                keys,
                roles,
            }
        })
    }

    /// Removes an entry of a closed account: a namespace, whatever is in it.
    ///
    /// # Errors
    /// The store's.
    pub async fn purge_namespace(
        &self,
        account: AccountId,
        namespace: &model::Namespace,
    ) -> Result<(), super::Error> {
        let key = super::namespace_key(account, namespace);
        self.delete(&key, crate::kv::Precondition::Any).await
    }

    /// Removes a layer of a closed account, with all its versions.
    ///
    /// # Errors
    /// The store's.
    pub async fn purge_layer(
        &self,
        account: AccountId,
        layer: &model::LayerName,
    ) -> Result<(), super::Error> {
        let key = super::layer_key(account, layer);
        self.delete(&key, crate::kv::Precondition::Any).await
    }
}
