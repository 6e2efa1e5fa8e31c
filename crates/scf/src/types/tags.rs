//! The tag service: tags of functions.
//!
//! Source: `tccli`.

use serde::{Deserialize, Serialize};

/// Request of `AddResourceTag`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AddResourceTagRequest {
    /// `TagKey`.
    pub tag_key: String,
    /// `TagValue`.
    pub tag_value: String,
    /// `Resource`.
    pub resource: String,
}

/// Request of `AttachResourcesTag`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AttachResourcesTagRequest {
    /// `ServiceType`.
    pub service_type: String,
    /// `ResourceIds`.
    pub resource_ids: Vec<String>,
    /// `TagKey`.
    pub tag_key: String,
    /// `TagValue`.
    pub tag_value: String,
    /// `ResourceRegion`.
    pub resource_region: Option<String>,
    /// `ResourcePrefix`.
    pub resource_prefix: Option<String>,
}

/// Request of `CreateTag`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateTagRequest {
    /// `TagKey`.
    pub tag_key: String,
    /// `TagValue`.
    pub tag_value: String,
}

/// Request of `DeleteResourceTag`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteResourceTagRequest {
    /// `TagKey`.
    pub tag_key: String,
    /// `Resource`.
    pub resource: String,
}

/// Request of `DeleteTag`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteTagRequest {
    /// `TagKey`.
    pub tag_key: String,
    /// `TagValue`.
    pub tag_value: String,
}

/// Request of `DescribeResourceTags`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeResourceTagsRequest {
    /// `CreateUin`.
    pub create_uin: Option<i64>,
    /// `ResourceRegion`.
    pub resource_region: Option<String>,
    /// `ServiceType`.
    pub service_type: Option<String>,
    /// `ResourcePrefix`.
    pub resource_prefix: Option<String>,
    /// `ResourceId`.
    pub resource_id: Option<String>,
    /// `Offset`.
    pub offset: Option<i64>,
    /// `Limit`.
    pub limit: Option<i64>,
    /// `CosResourceId`.
    pub cos_resource_id: Option<i64>,
}

/// Response of `DescribeResourceTags`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeResourceTagsResponse {
    /// `TotalCount`.
    pub total_count: i64,
    /// `Offset`.
    pub offset: i64,
    /// `Limit`.
    pub limit: i64,
    /// `Rows`.
    pub rows: Vec<TagRow>,
}

/// Request of `DescribeResourceTagsByResourceIds`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeResourceTagsByResourceIdsRequest {
    /// `ServiceType`.
    pub service_type: String,
    /// `ResourcePrefix`.
    pub resource_prefix: String,
    /// `ResourceIds`.
    pub resource_ids: Vec<String>,
    /// `ResourceRegion`.
    pub resource_region: String,
    /// `Offset`.
    pub offset: Option<i64>,
    /// `Limit`.
    pub limit: Option<i64>,
    /// `Category`.
    pub category: Option<String>,
}

/// Response of `DescribeResourceTagsByResourceIds`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeResourceTagsByResourceIdsResponse {
    /// `TotalCount`.
    pub total_count: i64,
    /// `Offset`.
    pub offset: i64,
    /// `Limit`.
    pub limit: i64,
    /// `Tags`.
    pub tags: Vec<TagRow>,
}

/// Request of `DescribeTags`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeTagsRequest {
    /// `TagKey`.
    pub tag_key: Option<String>,
    /// `TagValue`.
    pub tag_value: Option<String>,
    /// `Offset`.
    pub offset: Option<i64>,
    /// `Limit`.
    pub limit: Option<i64>,
    /// `CreateUin`.
    pub create_uin: Option<i64>,
    /// `TagKeys`.
    pub tag_keys: Option<Vec<String>>,
    /// `ShowProject`.
    pub show_project: Option<i64>,
}

/// Response of `DescribeTags`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeTagsResponse {
    /// `TotalCount`.
    pub total_count: i64,
    /// `Offset`.
    pub offset: i64,
    /// `Limit`.
    pub limit: i64,
    /// `Tags`.
    pub tags: Vec<TagEntry>,
}

/// Request of `DetachResourcesTag`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DetachResourcesTagRequest {
    /// `ServiceType`.
    pub service_type: String,
    /// `ResourceIds`.
    pub resource_ids: Vec<String>,
    /// `TagKey`.
    pub tag_key: String,
    /// `ResourceRegion`.
    pub resource_region: Option<String>,
    /// `ResourcePrefix`.
    pub resource_prefix: Option<String>,
}

/// Request of `GetResources`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetResourcesRequest {
    /// `ResourceList`.
    pub resource_list: Option<Vec<String>>,
    /// `TagFilters`.
    pub tag_filters: Option<Vec<TagFilter>>,
    /// `PaginationToken`.
    pub pagination_token: Option<String>,
    /// `MaxResults`.
    pub max_results: Option<i64>,
}

/// Response of `GetResources`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetResourcesResponse {
    /// `PaginationToken`.
    pub pagination_token: String,
    /// `ResourceTagMappingList`.
    pub resource_tag_mapping_list: Vec<TaggedResource>,
}

/// Request of `ModifyResourceTags`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ModifyResourceTagsRequest {
    /// `Resource`.
    pub resource: String,
    /// `ReplaceTags`.
    pub replace_tags: Option<Vec<TagPair>>,
    /// `DeleteTags`.
    pub delete_tags: Option<Vec<TagKeyOnly>>,
}

/// Request of `TagResources`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TagResourcesRequest {
    /// `ResourceList`.
    pub resource_list: Vec<String>,
    /// `Tags`.
    pub tags: Vec<TagPair>,
}

/// Response of `TagResources`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TagResourcesResponse {
    /// `FailedResources`.
    pub failed_resources: Vec<FailedResource>,
}

/// Request of `UnTagResources`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UnTagResourcesRequest {
    /// `ResourceList`.
    pub resource_list: Vec<String>,
    /// `TagKeys`.
    pub tag_keys: Vec<String>,
}

/// Response of `UnTagResources`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UnTagResourcesResponse {
    /// `FailedResources`.
    pub failed_resources: Vec<FailedResource>,
}

/// A resource whose change failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FailedResource {
    /// `Resource`.
    pub resource: String,
    /// `Code`.
    pub code: String,
    /// `Message`.
    pub message: String,
}

/// A resource with its tags.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TaggedResource {
    /// `Resource`.
    pub resource: String,
    /// `Tags`.
    pub tags: Vec<TagPair>,
}

/// A tag in the tag service's notation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TagPair {
    /// `TagKey`.
    pub tag_key: String,
    /// `TagValue`.
    pub tag_value: String,
    /// `Category`.
    pub category: Option<String>,
}

/// A filter by tag: a key with any of the given values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TagFilter {
    /// `TagKey`.
    pub tag_key: String,
    /// `TagValue`.
    pub tag_value: Option<Vec<String>>,
}

/// The key of a tag.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TagKeyOnly {
    /// `TagKey`.
    pub tag_key: String,
}

/// A tag of a resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TagRow {
    /// `TagKey`.
    pub tag_key: String,
    /// `TagValue`.
    pub tag_value: String,
    /// `ResourceId`.
    pub resource_id: String,
    /// `TagKeyMd5`.
    pub tag_key_md5: String,
    /// `TagValueMd5`.
    pub tag_value_md5: String,
    /// `ServiceType`.
    pub service_type: String,
    /// `Category`.
    pub category: String,
}

/// A list entry of a tag.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TagEntry {
    /// `TagKey`.
    pub tag_key: String,
    /// `TagValue`.
    pub tag_value: String,
    /// `CanDelete`.
    pub can_delete: i64,
    /// `Category`.
    pub category: String,
}
