//! Types of more than one subject.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The source of a function's code.
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

/// A tag.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Tag {
    /// `Key`.
    pub key: String,
    /// `Value`.
    pub value: String,
}

/// A filter of a list request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Filter {
    /// `Name`.
    pub name: String,
    /// `Values`.
    pub values: Vec<String>,
}
