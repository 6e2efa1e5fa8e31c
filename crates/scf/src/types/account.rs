//! Usage and limits of an account.

use serde::{Deserialize, Serialize};

/// Request of `GetAccount`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetAccountRequest {}

/// Response of `GetAccount`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetAccountResponse {
    /// `AccountUsage`.
    pub account_usage: UsageInfo,
    /// `AccountLimit`.
    pub account_limit: LimitsInfo,
}

/// The structure `UsageInfo` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UsageInfo {
    /// `NamespacesCount`.
    pub namespaces_count: i64,
    /// `Namespace`.
    pub namespace: Vec<NamespaceUsage>,
    /// `TotalConcurrencyMem`.
    pub total_concurrency_mem: i64,
    /// `TotalAllocatedConcurrencyMem`.
    pub total_allocated_concurrency_mem: i64,
    /// `UserConcurrencyMemLimit`.
    pub user_concurrency_mem_limit: i64,
}

/// The structure `LimitsInfo` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LimitsInfo {
    /// `NamespacesCount`.
    pub namespaces_count: i64,
    /// `Namespace`.
    pub namespace: Vec<NamespaceLimit>,
}

/// The structure `NamespaceUsage` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NamespaceUsage {
    /// `Functions`.
    pub functions: Vec<String>,
    /// `Namespace`.
    pub namespace: String,
    /// `FunctionsCount`.
    pub functions_count: i64,
    /// `TotalConcurrencyMem`.
    pub total_concurrency_mem: i64,
    /// `TotalAllocatedConcurrencyMem`.
    pub total_allocated_concurrency_mem: i64,
    /// `TotalAllocatedProvisionedMem`.
    pub total_allocated_provisioned_mem: i64,
}

/// The structure `NamespaceLimit` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NamespaceLimit {
    /// `FunctionsCount`.
    pub functions_count: i64,
    /// `Trigger`.
    pub trigger: TriggerCount,
    /// `Namespace`.
    pub namespace: String,
    /// `ConcurrentExecutions`.
    pub concurrent_executions: i64,
    /// `TimeoutLimit`.
    pub timeout_limit: i64,
    /// `TestModelLimit`.
    pub test_model_limit: i64,
    /// `InitTimeoutLimit`.
    pub init_timeout_limit: i64,
    /// `RetryNumLimit`.
    pub retry_num_limit: i64,
    /// `MinMsgTTL`.
    #[serde(rename = "MinMsgTTL")]
    pub min_msg_ttl: i64,
    /// `MaxMsgTTL`.
    #[serde(rename = "MaxMsgTTL")]
    pub max_msg_ttl: i64,
}

/// The structure `TriggerCount` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TriggerCount {
    /// `Cos`.
    pub cos: i64,
    /// `Timer`.
    pub timer: i64,
    /// `Cmq`.
    pub cmq: i64,
    /// `Total`.
    pub total: i64,
    /// `Ckafka`.
    pub ckafka: i64,
    /// `Apigw`.
    pub apigw: i64,
    /// `Cls`.
    pub cls: i64,
    /// `Clb`.
    pub clb: i64,
    /// `Mps`.
    pub mps: i64,
    /// `Cm`.
    pub cm: i64,
    /// `Vod`.
    pub vod: i64,
    /// `Eb`.
    pub eb: i64,
}
