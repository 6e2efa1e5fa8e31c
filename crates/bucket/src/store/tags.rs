//! Tags of buckets and objects.

use std::collections::HashSet;

use super::Store;
use super::record::Tags;
use crate::error::StoreError;
use crate::names::{BucketName, ObjectKey, VersionId};

/// Tags of a bucket.
const OF_BUCKET: usize = 50;
/// Tags of an object.
const OF_OBJECT: usize = 10;
/// Characters of a tag's key.
const KEY: usize = 128;
/// Characters of a tag's value.
const VALUE: usize = 256;

pub(super) fn check_bucket(tags: &Tags) -> Result<(), StoreError> {
    check(tags, OF_BUCKET)
}

pub(super) fn check_object(tags: &Tags) -> Result<(), StoreError> {
    check(tags, OF_OBJECT)
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
        if key.is_empty() || key.chars().count() > KEY || value.chars().count() > VALUE {
            return Err(StoreError::InvalidTag(format!(
                "tag {key:?} cannot be; a key has 1 to {KEY} characters and a value at most {VALUE}"
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
    /// Sets the tags of an object. None take them away. Returns its version.
    ///
    /// # Errors
    /// There is no such object, or tags cannot be so.
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
