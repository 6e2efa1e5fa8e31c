//! Custom domains.

use serde::{Deserialize, Serialize};

use super::functions::{Filter, Tag};

/// Parameters of `CreateCustomDomain`.
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

/// Parameters of `UpdateCustomDomain`.
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

/// Parameters of `DeleteCustomDomain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteCustomDomainRequest {
    /// `Domain`.
    pub domain: String,
}

/// Parameters of `GetCustomDomain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetCustomDomainRequest {
    /// `Domain`.
    pub domain: String,
}

/// Answer of `GetCustomDomain`.
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

/// Parameters of `ListCustomDomains`.
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

/// Answer of `ListCustomDomains`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListCustomDomainsResponse {
    /// `Total`.
    pub total: i64,
    /// `Domains`.
    pub domains: Vec<DomainInfo>,
}

/// Part of requests or answers: `EndpointsConf`.
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

/// Part of requests or answers: `PathRewriteRule`.
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

/// Part of requests or answers: `CertConf`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CertConf {
    /// `CertificateId`.
    pub certificate_id: Option<String>,
}

/// Part of requests or answers: `WafConf`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct WafConf {
    /// `WafOpen`.
    pub waf_open: Option<String>,
    /// `WafInstanceId`.
    pub waf_instance_id: Option<String>,
}

/// Part of requests or answers: `DomainInfo`.
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
