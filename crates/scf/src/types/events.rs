//! Asynchronous events: settings and status.

use serde::{Deserialize, Serialize};

/// Request of `GetAsyncEventStatus`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetAsyncEventStatusRequest {
    /// `InvokeRequestId`.
    pub invoke_request_id: String,
}

/// Response of `GetAsyncEventStatus`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetAsyncEventStatusResponse {
    /// `Result`.
    pub result: AsyncEventStatus,
}

/// Request of `ListAsyncEvents`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListAsyncEventsRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `Qualifier`.
    pub qualifier: Option<String>,
    /// `InvokeType`.
    pub invoke_type: Option<Vec<String>>,
    /// `Status`.
    pub status: Option<Vec<String>>,
    /// `StartTimeInterval`.
    pub start_time_interval: Option<TimeInterval>,
    /// `EndTimeInterval`.
    pub end_time_interval: Option<TimeInterval>,
    /// `Order`.
    pub order: Option<String>,
    /// `Orderby`.
    pub orderby: Option<String>,
    /// `Offset`.
    pub offset: Option<i64>,
    /// `Limit`.
    pub limit: Option<i64>,
    /// `InvokeRequestId`.
    pub invoke_request_id: Option<String>,
}

/// Response of `ListAsyncEvents`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListAsyncEventsResponse {
    /// `TotalCount`.
    pub total_count: i64,
    /// `EventList`.
    pub event_list: Vec<AsyncEvent>,
}

/// Request of `TerminateAsyncEvent`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TerminateAsyncEventRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `InvokeRequestId`.
    pub invoke_request_id: String,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `GraceShutdown`.
    pub grace_shutdown: Option<bool>,
}

/// Request of `GetRequestStatus`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetRequestStatusRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `FunctionRequestId`.
    pub function_request_id: String,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `StartTime`.
    pub start_time: Option<String>,
    /// `EndTime`.
    pub end_time: Option<String>,
}

/// Response of `GetRequestStatus`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetRequestStatusResponse {
    /// `TotalCount`.
    pub total_count: i64,
    /// `Data`.
    pub data: Vec<RequestStatus>,
}

/// Request of `GetFunctionEventInvokeConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetFunctionEventInvokeConfigRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `Qualifier`.
    pub qualifier: Option<String>,
}

/// Response of `GetFunctionEventInvokeConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetFunctionEventInvokeConfigResponse {
    /// `AsyncTriggerConfig`.
    pub async_trigger_config: AsyncTriggerConfig,
}

/// Request of `UpdateFunctionEventInvokeConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateFunctionEventInvokeConfigRequest {
    /// `AsyncTriggerConfig`.
    pub async_trigger_config: AsyncTriggerConfig,
    /// `FunctionName`.
    pub function_name: String,
    /// `Namespace`.
    pub namespace: Option<String>,
}

/// The structure `AsyncEventStatus` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AsyncEventStatus {
    /// `Status`.
    pub status: String,
    /// `StatusCode`.
    pub status_code: i64,
    /// `InvokeRequestId`.
    pub invoke_request_id: String,
}

/// The structure `AsyncEvent` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AsyncEvent {
    /// `InvokeRequestId`.
    pub invoke_request_id: String,
    /// `InvokeType`.
    pub invoke_type: String,
    /// `Qualifier`.
    pub qualifier: String,
    /// `Status`.
    pub status: String,
    /// `StartTime`.
    pub start_time: String,
    /// `EndTime`.
    pub end_time: String,
}

/// The structure `AsyncTriggerConfig` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AsyncTriggerConfig {
    /// `RetryConfig`.
    pub retry_config: Option<Vec<RetryConfig>>,
    /// `MsgTTL`.
    #[serde(rename = "MsgTTL")]
    pub msg_ttl: Option<i64>,
}

/// The structure `RetryConfig` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RetryConfig {
    /// `RetryNum`.
    pub retry_num: Option<i64>,
    /// `ErrorCode`: the failures that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<Vec<String>>,
    /// `RetryInterval`, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_interval: Option<i64>,
}

/// The structure `RequestStatus` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RequestStatus {
    /// `FunctionName`.
    pub function_name: String,
    /// `RetMsg`.
    pub ret_msg: String,
    /// `RequestId`.
    pub request_id: String,
    /// `StartTime`.
    pub start_time: String,
    /// `RetCode`.
    pub ret_code: i64,
    /// `Duration`.
    pub duration: f64,
    /// `MemUsage`.
    pub mem_usage: f64,
    /// `RetryNum`.
    pub retry_num: i64,
}

/// The structure `TimeInterval` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TimeInterval {
    /// `Start`.
    pub start: Option<String>,
    /// `End`.
    pub end: Option<String>,
}
