//! Layers: code packages shared by functions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{LayerName, Sha256, Timestamp};

/// A layer and its versions, as the catalog stores them. The record outlives its last version, so that a version number is
/// never reused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Name.
    pub name: LayerName,
    /// Highest version number ever assigned.
    pub last_version: u64,
    /// Versions by number.
    pub versions: BTreeMap<u64, LayerVersion>,
}

/// An immutable version of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerVersion {
    /// Compatible runtimes, as declared by the publisher.
    pub runtimes: Vec<String>,
    /// Free-form description.
    pub description: String,
    /// Licence, or a link to it.
    pub license: String,
    /// Digest of the package.
    pub package: Sha256,
    /// Publication time.
    pub added: Timestamp,
    /// Tags, as given by the publisher.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// A function's reference to a layer version. Carries the package digest, so that the function keeps working after the
/// version is deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRef {
    /// Layer name.
    pub name: LayerName,
    /// Version number.
    pub version: u64,
    /// Digest of the package.
    pub package: Sha256,
}
