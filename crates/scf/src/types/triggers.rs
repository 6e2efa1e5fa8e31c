//! Triggers.

use serde::{Deserialize, Serialize};

use super::shared::Filter;

/// Request of `CreateTrigger`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateTriggerRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `TriggerName`.
    pub trigger_name: String,
    /// `Type`.
    pub r#type: String,
    /// `TriggerDesc`.
    pub trigger_desc: Option<String>,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `Qualifier`.
    pub qualifier: Option<String>,
    /// `Enable`.
    pub enable: Option<String>,
    /// `CustomArgument`.
    pub custom_argument: Option<String>,
    /// `Description`.
    pub description: Option<String>,
}

/// Response of `CreateTrigger`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateTriggerResponse {
    /// `TriggerInfo`.
    pub trigger_info: Trigger,
}

/// Request of `UpdateTrigger`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateTriggerRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `TriggerName`.
    pub trigger_name: String,
    /// `Type`.
    pub r#type: String,
    /// `Enable`.
    pub enable: Option<String>,
    /// `Qualifier`.
    pub qualifier: Option<String>,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `TriggerDesc`.
    pub trigger_desc: Option<String>,
    /// `Description`.
    pub description: Option<String>,
    /// `CustomArgument`.
    pub custom_argument: Option<String>,
}

/// Request of `UpdateTriggerStatus`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateTriggerStatusRequest {
    /// `Enable`.
    pub enable: String,
    /// `FunctionName`.
    pub function_name: String,
    /// `TriggerName`.
    pub trigger_name: String,
    /// `Type`.
    pub r#type: String,
    /// `Qualifier`.
    pub qualifier: Option<String>,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `TriggerDesc`.
    pub trigger_desc: Option<String>,
}

/// Request of `DeleteTrigger`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteTriggerRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `TriggerName`.
    pub trigger_name: String,
    /// `Type`.
    pub r#type: String,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `TriggerDesc`.
    pub trigger_desc: Option<String>,
    /// `Qualifier`.
    pub qualifier: Option<String>,
}

/// Request of `ListTriggers`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListTriggersRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `Offset`.
    pub offset: Option<i64>,
    /// `Limit`.
    pub limit: Option<i64>,
    /// `OrderBy`.
    pub order_by: Option<String>,
    /// `Order`.
    pub order: Option<String>,
    /// `Filters`.
    pub filters: Option<Vec<Filter>>,
}

/// Response of `ListTriggers`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListTriggersResponse {
    /// `TotalCount`.
    pub total_count: i64,
    /// `Triggers`.
    pub triggers: Vec<TriggerInfo>,
}

/// The structure `Trigger` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Trigger {
    /// `ModTime`.
    pub mod_time: String,
    /// `Type`.
    pub r#type: String,
    /// `TriggerDesc`.
    pub trigger_desc: String,
    /// `TriggerName`.
    pub trigger_name: String,
    /// `AddTime`.
    pub add_time: String,
    /// `Enable`.
    pub enable: i64,
    /// `CustomArgument`.
    pub custom_argument: String,
    /// `AvailableStatus`.
    pub available_status: String,
    /// `ResourceId`.
    pub resource_id: String,
    /// `BindStatus`.
    pub bind_status: String,
    /// `TriggerAttribute`.
    pub trigger_attribute: String,
    /// `Qualifier`.
    pub qualifier: String,
    /// `Description`.
    pub description: String,
}

/// The structure `TriggerInfo` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TriggerInfo {
    /// `Enable`.
    pub enable: i64,
    /// `Qualifier`.
    pub qualifier: String,
    /// `TriggerName`.
    pub trigger_name: String,
    /// `Type`.
    pub r#type: String,
    /// `TriggerDesc`.
    pub trigger_desc: String,
    /// `AvailableStatus`.
    pub available_status: String,
    /// `CustomArgument`.
    pub custom_argument: String,
    /// `AddTime`.
    pub add_time: String,
    /// `ModTime`.
    pub mod_time: String,
    /// `ResourceId`.
    pub resource_id: String,
    /// `BindStatus`.
    pub bind_status: String,
    /// `TriggerAttribute`.
    pub trigger_attribute: String,
    /// `Description`.
    pub description: String,
    /// `BoundResources`.
    pub bound_resources: String,
}
