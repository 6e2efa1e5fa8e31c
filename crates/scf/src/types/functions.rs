//! Functions.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::layers::LayerVersionInfo;
use super::shared::{Code, Filter, Tag};

/// Request of `CopyFunction`.
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

/// Request of `CreateFunction`.
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
    /// `L5Enable`.
    pub l5_enable: Option<String>,
}

/// Request of `DeleteFunction`.
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

/// Request of `GetFunction`.
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

/// Response of `GetFunction`.
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

/// Request of `GetFunctionAddress`.
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

/// Response of `GetFunctionAddress`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetFunctionAddressResponse {
    /// `Url`.
    pub url: String,
    /// `CodeSha256`.
    pub code_sha256: String,
}

/// Request of `ListFunctions`.
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

/// Response of `ListFunctions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListFunctionsResponse {
    /// `Functions`.
    pub functions: Vec<FunctionSummary>,
    /// `TotalCount`.
    pub total_count: i64,
}

/// Request of `UpdateFunctionCode`.
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

/// Request of `UpdateFunctionConfiguration`.
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
    /// `TraceEnable`.
    pub trace_enable: Option<String>,
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

/// The reason for a function's state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StatusReason {
    /// `ErrorCode`.
    pub error_code: String,
    /// `ErrorMessage`.
    pub error_message: String,
}

/// A list entry of a function.
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
