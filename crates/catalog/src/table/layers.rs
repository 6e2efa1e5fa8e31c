//! Layers and their versions.

use std::sync::Arc;

use model::{AccountId, Layer, LayerName, LayerVersion, Limits};

use crate::error::Error;
use crate::kv::Precondition;
use crate::stored::Stored;
use crate::table::Catalog;

impl Catalog {
    /// Finds a layer, which may have no versions left.
    pub fn layer(&self, account: AccountId, name: &LayerName) -> Option<Arc<Stored<Layer>>> {
        self.read(|view| view.layers.get(&(account, name.clone())).cloned())
    }

    /// Returns the layers of an account, ordered by name, including those without versions.
    pub fn layers(&self, account: AccountId) -> Vec<Arc<Stored<Layer>>> {
        self.read(|view| {
            let own = view
                .layers
                .iter()
                .filter(|((owner, _), _)| *owner == account && view.access.is_open(account));
            own.map(|(_, layer)| layer.clone()).collect()
        })
    }

    /// Returns the layers of all accounts.
    pub fn all_layers(&self) -> Vec<Arc<Stored<Layer>>> {
        self.read(|view| {
            let open = view.layers.iter();
            let open = open.filter(|((owner, _), _)| view.access.is_open(*owner));
            open.map(|(_, layer)| layer.clone()).collect()
        })
    }

    /// Publishes a version of a layer, creating the layer if necessary, and returns its number. Retries on a conflict.
    ///
    /// # Errors
    /// [`Error::Quota`] for layers, [`Error::Full`] for versions, or an error of the store.
    pub async fn publish_layer(
        &self,
        account: AccountId,
        name: &LayerName,
        version: LayerVersion,
        limits: &Limits,
    ) -> Result<u64, Error> {
        let _admission = self.admission_for(account).await?;
        loop {
            let old = self.layer(account, name);
            let (mut layer, on) = match &old {
                Some(old) => (old.value.clone(), Precondition::Revision(old.revision)),
                None => {
                    let fresh = Layer {
                        name: name.clone(),
                        last_version: 0,
                        versions: std::collections::BTreeMap::new(),
                    };
                    (fresh, Precondition::Absent)
                }
            };
            let used = |layer: &&Arc<Stored<Layer>>| !layer.value.versions.is_empty();
            if layer.versions.is_empty()
                && self.layers(account).iter().filter(used).count() >= limits.layers as usize
            {
                return Err(Error::Quota(limits.layers));
            }
            if layer.versions.len() >= limits.versions_per_layer as usize {
                return Err(Error::Full(limits.versions_per_layer));
            }
            layer.last_version += 1;
            layer.versions.insert(layer.last_version, version.clone());
            match self.put(&layer_key(account, name), &layer, on).await {
                Ok(()) => return Ok(layer.last_version),
                Err(Error::Conflict) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Deletes a version of a layer. Idempotent; retries on a conflict.
    ///
    /// # Errors
    /// An error of the store.
    pub async fn delete_layer_version(
        &self,
        account: AccountId,
        name: &LayerName,
        number: u64,
    ) -> Result<(), Error> {
        while let Some(old) = self.layer(account, name) {
            let mut layer = old.value.clone();
            if layer.versions.remove(&number).is_none() {
                break;
            }
            let on = Precondition::Revision(old.revision);
            match self.put(&layer_key(account, name), &layer, on).await {
                Err(Error::Conflict) => {}
                done => return done,
            }
        }
        Ok(())
    }
}

/// Returns the key of a layer's record.
pub(super) fn layer_key(account: AccountId, name: &LayerName) -> String {
    format!("layer/{account}/{name}")
}
