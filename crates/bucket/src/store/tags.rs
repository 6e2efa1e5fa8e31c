//! Tags of buckets and objects.

use std::collections::HashSet;

use super::Store;
use super::record::Tags;
use crate::error::StoreError;
use crate::names::{BucketName, ObjectKey, VersionId};

/// Maximum tags per bucket.
const BUCKET_TAGS_MAX: usize = 50;
/// Maximum tags per object.
const OBJECT_TAGS_MAX: usize = 10;
/// Maximum length of a tag key in characters.
const KEY_MAX: usize = 128;
/// Maximum length of a tag value in characters.
const VALUE_MAX: usize = 256;

pub(super) fn check_bucket(tags: &Tags) -> Result<(), StoreError> {
    check(tags, BUCKET_TAGS_MAX)
}

pub(super) fn check_object(tags: &Tags) -> Result<(), StoreError> {
    check(tags, OBJECT_TAGS_MAX)
}

fn check(tags: &Tags, most: usize) -> Result<(), StoreError> {
    if tags.len() > most {
        let count = tags.len();
        return Err(StoreError::InvalidTag(format!(
            "there are {count} tags; there may be {most}"
        )));
    }
    let mut seen = HashSet::new();
    for (key, value) in tags {
        if key.is_empty() || key.chars().count() > KEY_MAX || value.chars().count() > VALUE_MAX {
            return Err(StoreError::InvalidTag(format!(
                "tag {key:?} cannot be; a key has 1 to {KEY_MAX} characters and a value at most {VALUE_MAX}"
            )));
        }
        if !seen.insert(key) {
            return Err(StoreError::InvalidTag(format!(
                "tag {key:?} is given twice; give each key once"
            )));
        }
    }
    Ok(())
}

impl Store {
    /// Sets an object's tags. An empty list removes them. Returns the version.
    ///
    /// # Errors
    /// The object does not exist, or a tag is invalid.
    pub async fn set_object_tags(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        version: Option<VersionId>,
        tags: Tags,
    ) -> Result<VersionId, StoreError> {
        check_object(&tags)?;
        let changed = self.change_object(bucket, key, version, move |object| object.tags = tags);
        Ok(changed.await?.version())
    }
}
