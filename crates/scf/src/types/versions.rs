//! Versions and aliases.

use serde::{Deserialize, Serialize};

/// Request of `PublishVersion`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PublishVersionRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Description`.
    pub description: Option<String>,
    /// `Namespace`.
    pub namespace: Option<String>,
}

/// Response of `PublishVersion`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PublishVersionResponse {
    /// `FunctionVersion`.
    pub function_version: String,
    /// `CodeSize`.
    pub code_size: i64,
    /// `MemorySize`.
    pub memory_size: i64,
    /// `Description`.
    pub description: String,
    /// `Handler`.
    pub handler: String,
    /// `Timeout`.
    pub timeout: i64,
    /// `Runtime`.
    pub runtime: String,
    /// `Namespace`.
    pub namespace: String,
}

/// Request of `ListVersionByFunction`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListVersionByFunctionRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `Offset`.
    pub offset: Option<i64>,
    /// `Limit`.
    pub limit: Option<i64>,
    /// `Order`.
    pub order: Option<String>,
    /// `OrderBy`.
    pub order_by: Option<String>,
}

/// Response of `ListVersionByFunction`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListVersionByFunctionResponse {
    /// `FunctionVersion`.
    pub function_version: Vec<String>,
    /// `Versions`.
    pub versions: Vec<FunctionVersion>,
    /// `TotalCount`.
    pub total_count: i64,
}

/// Request of `DeleteFunctionVersion`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteFunctionVersionRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Qualifier`.
    pub qualifier: String,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `ForceDelete`.
    pub force_delete: Option<String>,
}

/// Request of `CreateAlias`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateAliasRequest {
    /// `Name`.
    pub name: String,
    /// `FunctionName`.
    pub function_name: String,
    /// `FunctionVersion`.
    pub function_version: String,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `RoutingConfig`.
    pub routing_config: Option<RoutingConfig>,
    /// `Description`.
    pub description: Option<String>,
}

/// Request of `UpdateAlias`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateAliasRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Name`.
    pub name: String,
    /// `FunctionVersion`.
    pub function_version: String,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `RoutingConfig`.
    pub routing_config: Option<RoutingConfig>,
    /// `Description`.
    pub description: Option<String>,
}

/// Request of `GetAlias`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetAliasRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Name`.
    pub name: String,
    /// `Namespace`.
    pub namespace: Option<String>,
}

/// Response of `GetAlias`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetAliasResponse {
    /// `FunctionVersion`.
    pub function_version: String,
    /// `Name`.
    pub name: String,
    /// `RoutingConfig`.
    pub routing_config: RoutingConfig,
    /// `Description`.
    pub description: String,
    /// `AddTime`.
    pub add_time: String,
    /// `ModTime`.
    pub mod_time: String,
}

/// Request of `ListAliases`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListAliasesRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `FunctionVersion`.
    pub function_version: Option<String>,
    /// `Offset`.
    pub offset: Option<String>,
    /// `Limit`.
    pub limit: Option<String>,
}

/// Response of `ListAliases`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListAliasesResponse {
    /// `Aliases`.
    pub aliases: Vec<Alias>,
    /// `TotalCount`.
    pub total_count: i64,
}

/// Request of `DeleteAlias`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteAliasRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Name`.
    pub name: String,
    /// `Namespace`.
    pub namespace: Option<String>,
}

/// The structure `FunctionVersion` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FunctionVersion {
    /// `Version`.
    pub version: String,
    /// `Description`.
    pub description: String,
    /// `AddTime`.
    pub add_time: String,
    /// `ModTime`.
    pub mod_time: String,
    /// `Status`.
    pub status: String,
}

/// The structure `Alias` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Alias {
    /// `FunctionVersion`.
    pub function_version: String,
    /// `Name`.
    pub name: String,
    /// `RoutingConfig`.
    pub routing_config: RoutingConfig,
    /// `Description`.
    pub description: String,
    /// `AddTime`.
    pub add_time: String,
    /// `ModTime`.
    pub mod_time: String,
}

/// The structure `RoutingConfig` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RoutingConfig {
    /// `AdditionalVersionWeights`.
    pub additional_version_weights: Option<Vec<VersionWeight>>,
    /// `AddtionVersionMatchs`.
    pub addtion_version_matchs: Option<Vec<VersionMatch>>,
}

/// The structure `VersionWeight` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct VersionWeight {
    /// `Version`.
    pub version: String,
    /// `Weight`.
    pub weight: f64,
}

/// The structure `VersionMatch` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct VersionMatch {
    /// `Version`.
    pub version: String,
    /// `Key`.
    pub key: String,
    /// `Method`.
    pub method: String,
    /// `Expression`.
    pub expression: String,
}
