//! Layers.

use serde::{Deserialize, Serialize};

use super::shared::{Code, Tag};

/// Request of `PublishLayerVersion`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PublishLayerVersionRequest {
    /// `LayerName`.
    pub layer_name: String,
    /// `CompatibleRuntimes`.
    pub compatible_runtimes: Vec<String>,
    /// `Content`.
    pub content: Code,
    /// `Description`.
    pub description: Option<String>,
    /// `LicenseInfo`.
    pub license_info: Option<String>,
    /// `Tags`.
    pub tags: Option<Vec<Tag>>,
}

/// Response of `PublishLayerVersion`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PublishLayerVersionResponse {
    /// `LayerVersion`.
    pub layer_version: i64,
}

/// Request of `ListLayers`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListLayersRequest {
    /// `CompatibleRuntime`.
    pub compatible_runtime: Option<String>,
    /// `Offset`.
    pub offset: Option<i64>,
    /// `Limit`.
    pub limit: Option<i64>,
    /// `SearchKey`.
    pub search_key: Option<String>,
}

/// Response of `ListLayers`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListLayersResponse {
    /// `Layers`.
    pub layers: Vec<LayerVersionInfo>,
    /// `TotalCount`.
    pub total_count: i64,
}

/// Request of `GetLayerVersion`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetLayerVersionRequest {
    /// `LayerName`.
    pub layer_name: String,
    /// `LayerVersion`.
    pub layer_version: i64,
}

/// Response of `GetLayerVersion`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetLayerVersionResponse {
    /// `CompatibleRuntimes`.
    pub compatible_runtimes: Vec<String>,
    /// `CodeSha256`.
    pub code_sha256: String,
    /// `Location`.
    pub location: String,
    /// `AddTime`.
    pub add_time: String,
    /// `Description`.
    pub description: String,
    /// `LicenseInfo`.
    pub license_info: String,
    /// `LayerVersion`.
    pub layer_version: i64,
    /// `LayerName`.
    pub layer_name: String,
    /// `Status`.
    pub status: String,
}

/// Request of `DeleteLayerVersion`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteLayerVersionRequest {
    /// `LayerName`.
    pub layer_name: String,
    /// `LayerVersion`.
    pub layer_version: i64,
}

/// Request of `ListLayerVersions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListLayerVersionsRequest {
    /// `LayerName`.
    pub layer_name: String,
    /// `CompatibleRuntime`.
    pub compatible_runtime: Option<Vec<String>>,
}

/// Response of `ListLayerVersions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListLayerVersionsResponse {
    /// `LayerVersions`.
    pub layer_versions: Vec<LayerVersionInfo>,
}

/// The structure `LayerVersionInfo` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LayerVersionInfo {
    /// `CompatibleRuntimes`.
    pub compatible_runtimes: Vec<String>,
    /// `AddTime`.
    pub add_time: String,
    /// `Description`.
    pub description: String,
    /// `LicenseInfo`.
    pub license_info: String,
    /// `LayerVersion`.
    pub layer_version: i64,
    /// `LayerName`.
    pub layer_name: String,
    /// `Status`.
    pub status: String,
    /// `Stamp`.
    pub stamp: String,
    /// `Tags`.
    pub tags: Vec<Tag>,
}
