//! The resources of an account, including those of a closed account.

use std::sync::Arc;

use model::{AccountId, Domain, Function, Key, Layer, NamespaceRecord, Role};

use crate::stored::Stored;
use crate::table::Catalog;

/// The resources of an account.
#[derive(Clone, Debug, Default)]
pub struct OwnedResources {
    /// Functions in all namespaces.
    pub functions: Vec<Arc<Stored<Function>>>,
    /// Namespaces with a record, which `default` may have.
    pub namespaces: Vec<Arc<Stored<NamespaceRecord>>>,
    /// Layers, including those without versions.
    pub layers: Vec<Arc<Stored<Layer>>>,
    /// Custom domains.
    pub domains: Vec<Arc<Stored<Domain>>>,
    /// API keys.
    pub keys: Vec<Arc<Stored<Key>>>,
    /// Roles.
    pub roles: Vec<Arc<Stored<Role>>>,
}

impl OwnedResources {
    /// Returns the namespaces other than `default`, which every account has.
    pub fn other_namespaces(&self) -> impl Iterator<Item = &Arc<Stored<NamespaceRecord>>> {
        let spaces = self.namespaces.iter();
        spaces.filter(|stored| !stored.value.name.is_default())
    }

    /// Returns the layers that have a version.
    pub fn published_layers(&self) -> impl Iterator<Item = &Arc<Stored<Layer>>> {
        let layers = self.layers.iter();
        layers.filter(|stored| !stored.value.versions.is_empty())
    }

    /// Returns whether there are functions, namespaces other than `default`, published layers or domains.
    pub fn has_resources(&self) -> bool {
        let mut others = self.other_namespaces();
        !self.functions.is_empty()
            || others.next().is_some()
            || self.published_layers().next().is_some()
            || !self.domains.is_empty()
    }
}

impl Catalog {
    /// Returns the resources of an account, even if it is closed.
    pub fn owned(&self, account: AccountId) -> OwnedResources {
        let (keys, roles) = (self.keys(account), self.roles(account));
        self.read(|view| {
            let functions = view.functions.values();
            let functions = functions.filter(|stored| stored.value.key.account == account);
            let spaces = view.namespaces.iter();
            let layers = view.layers.iter();
            let domains = view.domains.values();
            let domains = domains.filter(|stored| stored.value.account == account);
            OwnedResources {
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

    /// Deletes the record of a closed account's namespace, even if it is not empty.
    ///
    /// # Errors
    /// An error of the store.
    pub async fn purge_namespace(
        &self,
        account: AccountId,
        namespace: &model::Namespace,
    ) -> Result<(), crate::Error> {
        let key = super::namespaces::namespace_key(account, namespace);
        self.delete(&key, crate::kv::Precondition::Any).await
    }

    /// Deletes a layer of a closed account with all its versions.
    ///
    /// # Errors
    /// An error of the store.
    pub async fn purge_layer(
        &self,
        account: AccountId,
        layer: &model::LayerName,
    ) -> Result<(), crate::Error> {
        let key = super::layers::layer_key(account, layer);
        self.delete(&key, crate::kv::Precondition::Any).await
    }
}
