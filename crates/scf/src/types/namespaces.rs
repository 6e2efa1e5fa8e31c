//! Namespaces.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Request of `CreateNamespace`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateNamespaceRequest {
    /// `Namespace`.
    pub namespace: String,
    /// `Description`.
    pub description: Option<String>,
    /// `ResourceEnv`.
    pub resource_env: Option<Value>,
}

/// Request of `DeleteNamespace`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteNamespaceRequest {
    /// `Namespace`.
    pub namespace: String,
}

/// Request of `ListNamespaces`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListNamespacesRequest {
    /// `Limit`.
    pub limit: Option<i64>,
    /// `Offset`.
    pub offset: Option<i64>,
    /// `Orderby`.
    pub orderby: Option<String>,
    /// `Order`.
    pub order: Option<String>,
    /// `SearchKey`.
    pub search_key: Option<Vec<SearchKey>>,
}

/// Response of `ListNamespaces`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListNamespacesResponse {
    /// `Namespaces`.
    pub namespaces: Vec<NamespaceInfo>,
    /// `TotalCount`.
    pub total_count: i64,
}

/// Request of `UpdateNamespace`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateNamespaceRequest {
    /// `Namespace`.
    pub namespace: String,
    /// `Description`.
    pub description: String,
}

/// A search criterion.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SearchKey {
    /// `Key`.
    pub key: String,
    /// `Value`.
    pub value: String,
}

/// A list entry of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NamespaceInfo {
    /// `ModTime`.
    pub mod_time: String,
    /// `AddTime`.
    pub add_time: String,
    /// `Description`.
    pub description: String,
    /// `Name`.
    pub name: String,
    /// `Type`.
    pub r#type: String,
}
