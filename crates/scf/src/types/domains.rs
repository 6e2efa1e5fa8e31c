//! Custom domains.

use serde::{Deserialize, Serialize};

use super::shared::{Filter, Tag};

/// Request of `CreateCustomDomain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateCustomDomainRequest {
    /// `Domain`.
    pub domain: String,
    /// `Protocol`.
    pub protocol: String,
    /// `EndpointsConfig`.
    pub endpoints_config: Vec<EndpointsConf>,
    /// `CertConfig`.
    pub cert_config: Option<CertConf>,
    /// `WafConfig`.
    pub waf_config: Option<WafConf>,
    /// `Tags`.
    pub tags: Option<Vec<Tag>>,
}

/// Request of `UpdateCustomDomain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateCustomDomainRequest {
    /// `Domain`.
    pub domain: String,
    /// `Protocol`.
    pub protocol: Option<String>,
    /// `CertConfig`.
    pub cert_config: Option<CertConf>,
    /// `WafConfig`.
    pub waf_config: Option<WafConf>,
    /// `EndpointsConfig`.
    pub endpoints_config: Option<Vec<EndpointsConf>>,
}

/// Request of `DeleteCustomDomain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteCustomDomainRequest {
    /// `Domain`.
    pub domain: String,
}

/// Request of `GetCustomDomain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetCustomDomainRequest {
    /// `Domain`.
    pub domain: String,
}

/// Response of `GetCustomDomain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetCustomDomainResponse {
    /// `Domain`.
    pub domain: String,
    /// `Protocol`.
    pub protocol: String,
    /// `EndpointsConfig`.
    pub endpoints_config: Vec<EndpointsConf>,
    /// `CertConfig`.
    pub cert_config: CertConf,
    /// `WafConfig`.
    pub waf_config: WafConf,
    /// `Tags`.
    pub tags: Vec<Tag>,
}

/// Request of `ListCustomDomains`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListCustomDomainsRequest {
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

/// Response of `ListCustomDomains`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListCustomDomainsResponse {
    /// `Total`.
    pub total: i64,
    /// `Domains`.
    pub domains: Vec<DomainInfo>,
}

/// The structure `EndpointsConf` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EndpointsConf {
    /// `Namespace`.
    pub namespace: Option<String>,
    /// `FunctionName`.
    pub function_name: Option<String>,
    /// `Qualifier`.
    pub qualifier: Option<String>,
    /// `PathMatch`.
    pub path_match: Option<String>,
    /// `PathRewrite`.
    pub path_rewrite: Option<Vec<PathRewriteRule>>,
}

/// The structure `PathRewriteRule` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PathRewriteRule {
    /// `Path`.
    pub path: Option<String>,
    /// `Type`.
    pub r#type: Option<String>,
    /// `Rewrite`.
    pub rewrite: Option<String>,
}

/// The structure `CertConf` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CertConf {
    /// `CertificateId`.
    pub certificate_id: Option<String>,
}

/// The structure `WafConf` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct WafConf {
    /// `WafOpen`.
    pub waf_open: Option<String>,
    /// `WafInstanceId`.
    pub waf_instance_id: Option<String>,
}

/// The structure `DomainInfo` of requests or responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DomainInfo {
    /// `Domain`.
    pub domain: String,
    /// `Protocol`.
    pub protocol: String,
    /// `EndpointsConfig`.
    pub endpoints_config: Vec<EndpointsConf>,
    /// `CertConfig`.
    pub cert_config: CertConf,
    /// `WafConfig`.
    pub waf_config: WafConf,
    /// `Tags`.
    pub tags: Vec<Tag>,
}
