//! The fields of requests and answers, under the names that the API gives them.
//!
//! Sub-documents that virga keeps and shows again without acting on them are plain JSON values.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An answer without fields of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Parameters of `CopyFunction`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CopyFunctionRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `NewFunctionName`.
    pub new_function_name: String,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `TargetNamespace`.
    pub target_namespace: Option<String>,
    /// `Description`.
    pub description: Option<String>,
    /// `TargetRegion`.
    pub target_region: Option<String>,
    /// `Override`.
    pub r#override: Option<bool>,
    /// `CopyConfiguration`.
    pub copy_configuration: Option<bool>,
}

/// Parameters of `CreateFunction`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateFunctionRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Code`.
    pub code: Code,
    /// `Handler`.
    pub handler: Option<String>,
    /// `Description`.
    pub description: Option<String>,
    /// `MemorySize`.
    pub memory_size: Option<i64>,
    /// `Timeout`.
    pub timeout: Option<i64>,
    /// `Environment`.
    pub environment: Option<Environment>,
    /// `Runtime`.
    pub runtime: Option<String>,
    /// `VpcConfig`.
    pub vpc_config: Option<Value>,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `Role`.
    pub role: Option<String>,
    /// `InstallDependency`.
    pub install_dependency: Option<String>,
    /// `ClsLogsetId`.
    pub cls_logset_id: Option<String>,
    /// `ClsTopicId`.
    pub cls_topic_id: Option<String>,
    /// `Type`.
    pub r#type: Option<String>,
    /// `CodeSource`.
    pub code_source: Option<String>,
    /// `Layers`.
    pub layers: Option<Vec<Value>>,
    /// `DeadLetterConfig`.
    pub dead_letter_config: Option<Value>,
    /// `PublicNetConfig`.
    pub public_net_config: Option<Value>,
    /// `CfsConfig`.
    pub cfs_config: Option<Value>,
    /// `InitTimeout`.
    pub init_timeout: Option<i64>,
    /// `Tags`.
    pub tags: Option<Vec<Tag>>,
    /// `AsyncRunEnable`.
    pub async_run_enable: Option<String>,
    /// `TraceEnable`.
    pub trace_enable: Option<String>,
    /// `AutoDeployClsTopicIndex`.
    pub auto_deploy_cls_topic_index: Option<String>,
    /// `AutoCreateClsTopic`.
    pub auto_create_cls_topic: Option<String>,
    /// `ProtocolType`.
    pub protocol_type: Option<String>,
    /// `ProtocolParams`.
    pub protocol_params: Option<Value>,
    /// `InstanceConcurrencyConfig`.
    pub instance_concurrency_config: Option<Value>,
    /// `DnsCache`.
    pub dns_cache: Option<String>,
    /// `IntranetConfig`.
    pub intranet_config: Option<Value>,
}

/// Parameters of `CreateNamespace`.
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

/// Parameters of `DeleteFunction`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteFunctionRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `Qualifier`.
    pub qualifier: Option<String>,
}

/// Parameters of `DeleteNamespace`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteNamespaceRequest {
    /// `Namespace`.
    pub namespace: String,
}

/// Parameters of `GetFunction`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetFunctionRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Qualifier`.
    pub qualifier: Option<String>,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `ShowCode`.
    pub show_code: Option<String>,
}

/// Answer of `GetFunction`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetFunctionResponse {
    /// `ModTime`.
    pub mod_time: Option<String>,
    /// `CodeInfo`.
    pub code_info: Option<String>,
    /// `Description`.
    pub description: Option<String>,
    /// `Triggers`.
    pub triggers: Option<Vec<Value>>,
    /// `Handler`.
    pub handler: Option<String>,
    /// `CodeSize`.
    pub code_size: Option<i64>,
    /// `Timeout`.
    pub timeout: Option<i64>,
    /// `FunctionVersion`.
    pub function_version: Option<String>,
    /// `MemorySize`.
    pub memory_size: Option<i64>,
    /// `Runtime`.
    pub runtime: Option<String>,
    /// `FunctionName`.
    pub function_name: Option<String>,
    /// `VpcConfig`.
    pub vpc_config: Option<Value>,
    /// `UseGpu`.
    pub use_gpu: Option<String>,
    /// `Environment`.
    pub environment: Option<Environment>,
    /// `CodeResult`.
    pub code_result: Option<String>,
    /// `CodeError`.
    pub code_error: Option<String>,
    /// `ErrNo`.
    pub err_no: Option<i64>,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `Role`.
    pub role: Option<String>,
    /// `InstallDependency`.
    pub install_dependency: Option<String>,
    /// `Status`.
    pub status: Option<String>,
    /// `StatusDesc`.
    pub status_desc: Option<String>,
    /// `ClsLogsetId`.
    pub cls_logset_id: Option<String>,
    /// `ClsTopicId`.
    pub cls_topic_id: Option<String>,
    /// `FunctionId`.
    pub function_id: Option<String>,
    /// `Tags`.
    pub tags: Option<Vec<Tag>>,
    /// `EipConfig`.
    pub eip_config: Option<Value>,
    /// `AccessInfo`.
    pub access_info: Option<Value>,
    /// `Type`.
    pub r#type: Option<String>,
    /// `L5Enable`.
    pub l5_enable: Option<String>,
    /// `Layers`.
    pub layers: Option<Vec<LayerVersionInfo>>,
    /// `DeadLetterConfig`.
    pub dead_letter_config: Option<Value>,
    /// `AddTime`.
    pub add_time: Option<String>,
    /// `PublicNetConfig`.
    pub public_net_config: Option<Value>,
    /// `OnsEnable`.
    pub ons_enable: Option<String>,
    /// `CfsConfig`.
    pub cfs_config: Option<Value>,
    /// `AvailableStatus`.
    pub available_status: Option<String>,
    /// `Qualifier`.
    pub qualifier: Option<String>,
    /// `InitTimeout`.
    pub init_timeout: Option<i64>,
    /// `StatusReasons`.
    pub status_reasons: Option<Vec<StatusReason>>,
    /// `AsyncRunEnable`.
    pub async_run_enable: Option<String>,
    /// `TraceEnable`.
    pub trace_enable: Option<String>,
    /// `ImageConfig`.
    pub image_config: Option<Value>,
    /// `ProtocolType`.
    pub protocol_type: Option<String>,
    /// `ProtocolParams`.
    pub protocol_params: Option<Value>,
    /// `InstanceConcurrencyConfig`.
    pub instance_concurrency_config: Option<Value>,
    /// `DnsCache`.
    pub dns_cache: Option<String>,
    /// `IntranetConfig`.
    pub intranet_config: Option<Value>,
}

/// Parameters of `GetFunctionAddress`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetFunctionAddressRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Qualifier`.
    pub qualifier: Option<String>,
    /// `Namespace`.
    pub namespace: Option<String>,
}

/// Answer of `GetFunctionAddress`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetFunctionAddressResponse {
    /// `Url`.
    pub url: String,
    /// `CodeSha256`.
    pub code_sha256: String,
}

/// Parameters of `GetFunctionLogs`.
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

/// Answer of `GetFunctionLogs`.
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

/// Parameters of `Invoke`.
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

/// Answer of `Invoke`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InvokeResponse {
    /// `Result`.
    pub result: InvokeResult,
}

/// Parameters of `InvokeFunction`.
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

/// Parameters of `ListFunctions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListFunctionsRequest {
    /// `Order`.
    pub order: Option<String>,
    /// `Orderby`.
    pub orderby: Option<String>,
    /// `Offset`.
    pub offset: Option<i64>,
    /// `Limit`.
    pub limit: Option<i64>,
    /// `SearchKey`.
    pub search_key: Option<String>,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `Description`.
    pub description: Option<String>,
    /// `Filters`.
    pub filters: Option<Vec<Filter>>,
}

/// Answer of `ListFunctions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListFunctionsResponse {
    /// `Functions`.
    pub functions: Vec<FunctionSummary>,
    /// `TotalCount`.
    pub total_count: i64,
}

/// Parameters of `ListNamespaces`.
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

/// Answer of `ListNamespaces`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListNamespacesResponse {
    /// `Namespaces`.
    pub namespaces: Vec<NamespaceInfo>,
    /// `TotalCount`.
    pub total_count: i64,
}

/// Parameters of `UpdateFunctionCode`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateFunctionCodeRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Handler`.
    pub handler: Option<String>,
    /// `CosBucketName`.
    pub cos_bucket_name: Option<String>,
    /// `CosObjectName`.
    pub cos_object_name: Option<String>,
    /// `ZipFile`.
    pub zip_file: Option<String>,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `CosBucketRegion`.
    pub cos_bucket_region: Option<String>,
    /// `InstallDependency`.
    pub install_dependency: Option<String>,
    /// `EnvId`.
    pub env_id: Option<String>,
    /// `Publish`.
    pub publish: Option<String>,
    /// `Code`.
    pub code: Option<Code>,
    /// `CodeSource`.
    pub code_source: Option<String>,
}

/// Parameters of `UpdateFunctionConfiguration`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateFunctionConfigurationRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Description`.
    pub description: Option<String>,
    /// `MemorySize`.
    pub memory_size: Option<i64>,
    /// `Timeout`.
    pub timeout: Option<i64>,
    /// `Runtime`.
    pub runtime: Option<String>,
    /// `Environment`.
    pub environment: Option<Environment>,
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `VpcConfig`.
    pub vpc_config: Option<Value>,
    /// `Role`.
    pub role: Option<String>,
    /// `InstallDependency`.
    pub install_dependency: Option<String>,
    /// `ClsLogsetId`.
    pub cls_logset_id: Option<String>,
    /// `ClsTopicId`.
    pub cls_topic_id: Option<String>,
    /// `Publish`.
    pub publish: Option<String>,
    /// `L5Enable`.
    pub l5_enable: Option<String>,
    /// `Layers`.
    pub layers: Option<Vec<Value>>,
    /// `DeadLetterConfig`.
    pub dead_letter_config: Option<Value>,
    /// `PublicNetConfig`.
    pub public_net_config: Option<Value>,
    /// `CfsConfig`.
    pub cfs_config: Option<Value>,
    /// `InitTimeout`.
    pub init_timeout: Option<i64>,
    /// `ProtocolParams`.
    pub protocol_params: Option<Value>,
    /// `InstanceConcurrencyConfig`.
    pub instance_concurrency_config: Option<Value>,
    /// `DnsCache`.
    pub dns_cache: Option<String>,
    /// `IntranetConfig`.
    pub intranet_config: Option<Value>,
    /// `IgnoreSysLog`.
    pub ignore_sys_log: Option<bool>,
}

/// Parameters of `UpdateNamespace`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateNamespaceRequest {
    /// `Namespace`.
    pub namespace: String,
    /// `Description`.
    pub description: String,
}

/// Where a function's code comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Code {
    /// `CosBucketName`.
    pub cos_bucket_name: Option<String>,
    /// `CosObjectName`.
    pub cos_object_name: Option<String>,
    /// `ZipFile`.
    pub zip_file: Option<String>,
    /// `CosBucketRegion`.
    pub cos_bucket_region: Option<String>,
    /// `DemoId`.
    pub demo_id: Option<String>,
    /// `TempCosObjectName`.
    pub temp_cos_object_name: Option<String>,
    /// `GitUrl`.
    pub git_url: Option<String>,
    /// `GitUserName`.
    pub git_user_name: Option<String>,
    /// `GitPassword`.
    pub git_password: Option<String>,
    /// `GitPasswordSecret`.
    pub git_password_secret: Option<String>,
    /// `GitBranch`.
    pub git_branch: Option<String>,
    /// `GitDirectory`.
    pub git_directory: Option<String>,
    /// `GitCommitId`.
    pub git_commit_id: Option<String>,
    /// `GitUserNameSecret`.
    pub git_user_name_secret: Option<String>,
    /// `ImageConfig`.
    pub image_config: Option<Value>,
}

/// Environment variables.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Environment {
    /// `Variables`.
    pub variables: Option<Vec<Variable>>,
}

/// An environment variable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Variable {
    /// `Key`.
    pub key: String,
    /// `Value`.
    pub value: String,
}

/// A tag.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Tag {
    /// `Key`.
    pub key: String,
    /// `Value`.
    pub value: String,
}

/// A condition of a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Filter {
    /// `Name`.
    pub name: String,
    /// `Values`.
    pub values: Vec<String>,
}

/// A key to search by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SearchKey {
    /// `Key`.
    pub key: String,
    /// `Value`.
    pub value: String,
}

/// Why a function is in its state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StatusReason {
    /// `ErrorCode`.
    pub error_code: String,
    /// `ErrorMessage`.
    pub error_message: String,
}

/// One invocation's log.
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

/// Which outcomes are wanted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LogFilter {
    /// `RetCode`.
    pub ret_code: Option<String>,
}

/// Where a search goes on.
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

/// A namespace in a list.
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

/// A function in a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FunctionSummary {
    /// `ModTime`.
    pub mod_time: String,
    /// `AddTime`.
    pub add_time: String,
    /// `Runtime`.
    pub runtime: String,
    /// `FunctionName`.
    pub function_name: String,
    /// `FunctionId`.
    pub function_id: String,
    /// `Namespace`.
    pub namespace: String,
    /// `Status`.
    pub status: String,
    /// `StatusDesc`.
    pub status_desc: String,
    /// `Description`.
    pub description: String,
    /// `Tags`.
    pub tags: Vec<Tag>,
    /// `Type`.
    pub r#type: String,
    /// `StatusReasons`.
    pub status_reasons: Vec<StatusReason>,
    /// `TotalProvisionedConcurrencyMem`.
    pub total_provisioned_concurrency_mem: i64,
    /// `ReservedConcurrencyMem`.
    pub reserved_concurrency_mem: i64,
    /// `AsyncRunEnable`.
    pub async_run_enable: String,
    /// `TraceEnable`.
    pub trace_enable: String,
}

/// What came of an invocation.
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

/// Parameters of `PublishVersion`.
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

/// Answer of `PublishVersion`.
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

/// Parameters of `ListVersionByFunction`.
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

/// Answer of `ListVersionByFunction`.
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

/// Parameters of `DeleteFunctionVersion`.
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

/// Parameters of `CreateAlias`.
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

/// Parameters of `UpdateAlias`.
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

/// Parameters of `GetAlias`.
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

/// Answer of `GetAlias`.
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

/// Parameters of `ListAliases`.
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

/// Answer of `ListAliases`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListAliasesResponse {
    /// `Aliases`.
    pub aliases: Vec<Alias>,
    /// `TotalCount`.
    pub total_count: i64,
}

/// Parameters of `DeleteAlias`.
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

/// Part of requests or answers: `FunctionVersion`.
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

/// Part of requests or answers: `Alias`.
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

/// Part of requests or answers: `RoutingConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RoutingConfig {
    /// `AdditionalVersionWeights`.
    pub additional_version_weights: Option<Vec<VersionWeight>>,
    /// `AddtionVersionMatchs`.
    pub addtion_version_matchs: Option<Vec<VersionMatch>>,
}

/// Part of requests or answers: `VersionWeight`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct VersionWeight {
    /// `Version`.
    pub version: String,
    /// `Weight`.
    pub weight: f64,
}

/// Part of requests or answers: `VersionMatch`.
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

/// Parameters of `PublishLayerVersion`.
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

/// Answer of `PublishLayerVersion`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PublishLayerVersionResponse {
    /// `LayerVersion`.
    pub layer_version: i64,
}

/// Parameters of `ListLayers`.
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

/// Answer of `ListLayers`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListLayersResponse {
    /// `Layers`.
    pub layers: Vec<LayerVersionInfo>,
    /// `TotalCount`.
    pub total_count: i64,
}

/// Parameters of `GetLayerVersion`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetLayerVersionRequest {
    /// `LayerName`.
    pub layer_name: String,
    /// `LayerVersion`.
    pub layer_version: i64,
}

/// Answer of `GetLayerVersion`.
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

/// Parameters of `DeleteLayerVersion`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteLayerVersionRequest {
    /// `LayerName`.
    pub layer_name: String,
    /// `LayerVersion`.
    pub layer_version: i64,
}

/// Parameters of `ListLayerVersions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListLayerVersionsRequest {
    /// `LayerName`.
    pub layer_name: String,
    /// `CompatibleRuntime`.
    pub compatible_runtime: Option<Vec<String>>,
}

/// Answer of `ListLayerVersions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListLayerVersionsResponse {
    /// `LayerVersions`.
    pub layer_versions: Vec<LayerVersionInfo>,
}

/// Part of requests or answers: `LayerVersionInfo`.
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

/// Parameters of `PutReservedConcurrencyConfig`.
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

/// Parameters of `GetReservedConcurrencyConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetReservedConcurrencyConfigRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Namespace`.
    pub namespace: Option<String>,
}

/// Answer of `GetReservedConcurrencyConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetReservedConcurrencyConfigResponse {
    /// `ReservedMem`.
    pub reserved_mem: Option<i64>,
}

/// Parameters of `DeleteReservedConcurrencyConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteReservedConcurrencyConfigRequest {
    /// `FunctionName`.
    pub function_name: String,
    /// `Namespace`.
    pub namespace: Option<String>,
}
