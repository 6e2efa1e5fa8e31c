//! Reserved, provisioned and total concurrency.

use serde::{Deserialize, Serialize};

/// Request of `PutReservedConcurrencyConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PutReservedConcurrencyConfigRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `ReservedConcurrencyMem`.
    pub reserved_concurrency_mem: i64,
    /// `Namespace`.
    pub namespace: Option<String>,
}

/// Request of `GetReservedConcurrencyConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetReservedConcurrencyConfigRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Namespace`.
    pub namespace: Option<String>,
}

/// Response of `GetReservedConcurrencyConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetReservedConcurrencyConfigResponse {
    /// `ReservedMem`.
    pub reserved_mem: Option<i64>,
}

/// Request of `DeleteReservedConcurrencyConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteReservedConcurrencyConfigRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Namespace`.
    pub namespace: Option<String>,
}

/// Request of `PutProvisionedConcurrencyConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PutProvisionedConcurrencyConfigRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Qualifier`.
    pub qualifier: String,
    /// `VersionProvisionedConcurrencyNum`.
    pub version_provisioned_concurrency_num: i64,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `TriggerActions`.
    pub trigger_actions: Option<Vec<TriggerAction>>,
    /// `ProvisionedType`.
    pub provisioned_type: Option<String>,
    /// `TrackingTarget`.
    pub tracking_target: Option<f64>,
    /// `MinCapacity`.
    pub min_capacity: Option<i64>,
    /// `MaxCapacity`.
    pub max_capacity: Option<i64>,
}

/// Request of `GetProvisionedConcurrencyConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetProvisionedConcurrencyConfigRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `Qualifier`.
    pub qualifier: Option<String>,
}

/// Response of `GetProvisionedConcurrencyConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetProvisionedConcurrencyConfigResponse {
    /// `UnallocatedConcurrencyNum`.
    pub unallocated_concurrency_num: i64,
    /// `Allocated`.
    pub allocated: Vec<VersionProvisionedConcurrencyInfo>,
}

/// Request of `DeleteProvisionedConcurrencyConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteProvisionedConcurrencyConfigRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Qualifier`.
    pub qualifier: String,
    /// `Namespace`.
    pub namespace: Option<String>,
}

/// Request of `PutTotalConcurrencyConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PutTotalConcurrencyConfigRequest {
    /// `TotalConcurrencyMem`.
    pub total_concurrency_mem: i64,
    /// `Namespace`.
    pub namespace: Option<String>,
}

/// The structure `VersionProvisionedConcurrencyInfo` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct VersionProvisionedConcurrencyInfo {
    /// `AllocatedProvisionedConcurrencyNum`.
    pub allocated_provisioned_concurrency_num: i64,
    /// `AvailableProvisionedConcurrencyNum`.
    pub available_provisioned_concurrency_num: i64,
    /// `Status`.
    pub status: String,
    /// `StatusReason`.
    pub status_reason: String,
    /// `Qualifier`.
    pub qualifier: String,
    /// `TriggerActions`.
    pub trigger_actions: Vec<TriggerAction>,
}

/// The structure `TriggerAction` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TriggerAction {
    /// `TriggerName`.
    pub trigger_name: Option<String>,
    /// `TriggerProvisionedConcurrencyNum`.
    pub trigger_provisioned_concurrency_num: Option<i64>,
    /// `TriggerCronConfig`.
    pub trigger_cron_config: Option<String>,
    /// `ProvisionedType`.
    pub provisioned_type: Option<String>,
}
