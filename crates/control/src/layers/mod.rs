//! Layers: their versions, and those that functions have attached.

mod attach;
mod build;
mod publish;

pub use build::BuiltLayer;
pub use publish::NewLayerVersion;

use model::{AccountId, Field, Layer, LayerName, LayerVersion};

use crate::{Control, Error, Reason};

impl Control {
    /// Finds a layer of an account that has versions.
    ///
    /// # Errors
    /// The name is not allowed, or the account has no such layer.
    pub fn layer(&self, account: AccountId, name: &str) -> Result<Layer, Error> {
        self.named_layer(account, &LayerName::parse(name)?)
    }

    fn named_layer(&self, account: AccountId, name: &LayerName) -> Result<Layer, Error> {
        let layer = self.catalog.layer(account, name);
        let layer = layer.filter(|layer| !layer.value.versions.is_empty());
        layer.map(|layer| layer.value.clone()).ok_or_else(|| {
            let message = format!("there is no layer {name}");
            Error::of(Field::LayerName, Reason::LayerMissing, message)
        })
    }

    /// Finds a version of a layer, and returns its number and record.
    ///
    /// # Errors
    /// The layer or the version does not exist.
    pub fn layer_version(
        &self,
        account: AccountId,
        name: &LayerName,
        number: i64,
    ) -> Result<(u64, LayerVersion), Error> {
        let mut layer = self.named_layer(account, name)?;
        let found = u64::try_from(number)
            .ok()
            .and_then(|number| layer.versions.remove_entry(&number));
        found.ok_or_else(|| {
            let message = format!("layer {name} has no version {number}");
            Error::of(Field::LayerVersion, Reason::LayerVersionMissing, message)
        })
    }

    /// Deletes a version of a layer. Functions that have it attached keep it.
    ///
    /// # Errors
    /// The layer or the version does not exist, or the store fails.
    pub async fn delete_layer_version(
        &self,
        account: AccountId,
        name: &str,
        number: i64,
    ) -> Result<(), Error> {
        let name = LayerName::parse(name)?;
        let (number, _) = self.layer_version(account, &name, number)?;
        let deleted = self.catalog.delete_layer_version(account, &name, number);
        deleted.await.map_err(Error::layer)
    }
}
