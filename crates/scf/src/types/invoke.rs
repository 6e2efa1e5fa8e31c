//! Synchronous invocation and logs.

use serde::{Deserialize, Serialize};

/// Request of `Invoke`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InvokeRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `InvocationType`.
    pub invocation_type: Option<String>,
    /// `Qualifier`.
    pub qualifier: Option<String>,
    /// `ClientContext`.
    pub client_context: Option<String>,
    /// `LogType`.
    pub log_type: Option<String>,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `RoutingKey`.
    pub routing_key: Option<String>,
}

/// Response of `Invoke`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InvokeResponse {
    /// `Result`.
    pub result: InvokeResult,
}

/// Request of `InvokeFunction`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InvokeFunctionRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Qualifier`.
    pub qualifier: Option<String>,
    /// `Event`.
    pub event: Option<String>,
    /// `LogType`.
    pub log_type: Option<String>,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `RoutingKey`.
    pub routing_key: Option<String>,
}

/// The result of an invocation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InvokeResult {
    /// `Log`.
    pub log: String,
    /// `RetMsg`.
    pub ret_msg: String,
    /// `ErrMsg`.
    pub err_msg: String,
    /// `MemUsage`.
    pub mem_usage: i64,
    /// `Duration`.
    pub duration: f64,
    /// `BillDuration`.
    pub bill_duration: i64,
    /// `FunctionRequestId`.
    pub function_request_id: String,
    /// `InvokeResult`.
    pub invoke_result: i64,
}

/// Request of `GetFunctionLogs`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetFunctionLogsRequest {
    /// `FunctionName`.
    pub function_name: Option<String>,
    /// `Offset`.
    pub offset: Option<i64>,
    /// `Limit`.
    pub limit: Option<i64>,
    /// `Order`.
    pub order: Option<String>,
    /// `OrderBy`.
    pub order_by: Option<String>,
    /// `Filter`.
    pub filter: Option<LogFilter>,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `Qualifier`.
    pub qualifier: Option<String>,
    /// `FunctionRequestId`.
    pub function_request_id: Option<String>,
    /// `StartTime`.
    pub start_time: Option<String>,
    /// `EndTime`.
    pub end_time: Option<String>,
    /// `SearchContext`.
    pub search_context: Option<LogSearchContext>,
}

/// Response of `GetFunctionLogs`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetFunctionLogsResponse {
    /// `TotalCount`.
    pub total_count: i64,
    /// `Data`.
    pub data: Vec<FunctionLog>,
    /// `SearchContext`.
    pub search_context: LogSearchContext,
}

/// The log of an invocation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FunctionLog {
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
    /// `InvokeFinished`.
    pub invoke_finished: i64,
    /// `Duration`.
    pub duration: f64,
    /// `BillDuration`.
    pub bill_duration: i64,
    /// `MemUsage`.
    pub mem_usage: i64,
    /// `Log`.
    pub log: String,
    /// `Level`.
    pub level: String,
    /// `Source`.
    pub source: String,
    /// `RetryNum`.
    pub retry_num: i64,
}

/// A filter by outcome.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LogFilter {
    /// `RetCode`.
    pub ret_code: Option<String>,
}

/// The cursor of a log search.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LogSearchContext {
    /// `Offset`.
    pub offset: Option<String>,
    /// `Limit`.
    pub limit: Option<i64>,
    /// `Keyword`.
    pub keyword: Option<String>,
    /// `Type`.
    pub r#type: Option<String>,
}
