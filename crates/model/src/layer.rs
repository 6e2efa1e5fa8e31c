//! Layers: packages that functions share.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{LayerName, Sha256, Timestamp};

/// A layer with its versions as the catalog keeps it. It stays when its last version is deleted, so that no number comes
/// again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its name.
    pub name: LayerName,
    /// The highest number that a version ever had.
    pub last_version: u64,
    /// Its versions, by number.
    pub versions: BTreeMap<u64, LayerVersion>,
}

/// A version of a layer; it never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerVersion {
    /// The runtimes that it says it is for.
    pub runtimes: Vec<String>,
    /// For people.
    pub description: String,
    /// Its licence, or where that stands.
    pub license: String,
    /// The package.
    pub package: Sha256,
    /// When it was published.
    pub added: Timestamp,
}

/// A layer that a function holds. The package is named here, too, so that it works on when the version is deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRef {
    /// The layer.
    pub name: LayerName,
    /// Its version.
    pub version: u64,
    /// The package.
    pub package: Sha256,
}
