//! Changes to the tags of one function. Pure.

use std::collections::BTreeMap;

use scf::{Code, Error};

/// The tags of a function.
pub(super) type Tags = BTreeMap<String, String>;

/// Source: the tag service's limits.
const TAGS_MAX: usize = 50;
const KEY_MAX: usize = 127;
const VALUE_MAX: usize = 255;
const RESERVED: [&str; 3] = ["qcloud", "tencent", "project"];

/// Sets a tag and replaces an existing value.
///
/// # Errors
/// Returns an error if the key or the value is invalid.
pub(super) fn put(tags: &mut Tags, key: &str, value: &str) -> Result<(), Error> {
    check(key, value)?;
    tags.insert(key.to_owned(), value.to_owned());
    Ok(())
}

/// Adds a tag. Idempotent if the tag already has this value.
///
/// # Errors
/// Returns an error in the cases of [`put`], and if the key already has another value.
pub(super) fn add(tags: &mut Tags, key: &str, value: &str) -> Result<(), Error> {
    match tags.get(key) {
        Some(have) if have != value => {
            let message = format!(
                "TagKey: the function has {key:?} with another value; take it off, or change it with ModifyResourceTags"
            );
            Err(Error::new(Code::TagKeyAttached, message))
        }
        _ => put(tags, key, value),
    }
}

/// Removes a tag.
///
/// # Errors
/// Returns an error if the function does not have it.
pub(super) fn remove(tags: &mut Tags, key: &str) -> Result<(), Error> {
    match tags.remove(key) {
        Some(_) => Ok(()),
        None => {
            let shown: String = key.chars().take(127).collect();
            let message = format!("TagKey: the function has no tag {shown:?}");
            Err(Error::new(Code::AttachedTagKeyNotFound, message))
        }
    }
}

/// Checks the number of tags of a function.
///
/// # Errors
/// Returns an error if it exceeds the maximum.
pub(super) fn check_number(tags: &Tags) -> Result<(), Error> {
    if tags.len() <= TAGS_MAX {
        return Ok(());
    }
    let message = format!(
        "the function would have {} tags; up to {TAGS_MAX} are allowed",
        tags.len()
    );
    Err(Error::new(Code::ResourceAttachedTags, message))
}

/// Checks a key and a value.
///
/// # Errors
/// Returns an error if either is invalid.
pub(super) fn check(key: &str, value: &str) -> Result<(), Error> {
    if key.is_empty() {
        let message = format!("TagKey: an empty key is not allowed; 1 to {KEY_MAX} bytes are");
        return Err(Error::new(Code::TagKeyEmpty, message));
    }
    if key.len() > KEY_MAX || value.len() > VALUE_MAX {
        let message = format!(
            "TagKey, TagValue: {} and {} bytes are not allowed; up to {KEY_MAX} and {VALUE_MAX} are",
            key.len(),
            value.len()
        );
        return Err(Error::new(Code::InvalidParameterValue, message));
    }
    let lower = key.to_lowercase();
    if RESERVED.iter().any(|prefix| lower.starts_with(prefix)) {
        let message = format!(
            "TagKey: {key:?} is not allowed; the cloud reserves {}",
            RESERVED.join(", ")
        );
        return Err(Error::new(Code::ReservedTagKey, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_an_existing_tag_with_another_value_is_rejected() {
        let mut tags = Tags::new();
        assert_eq!(add(&mut tags, "colour", "grey"), Ok(()));
        assert_eq!(add(&mut tags, "colour", "grey"), Ok(()));
        let code = |done: Result<(), Error>| done.expect_err("refused").code;
        assert_eq!(code(add(&mut tags, "colour", "blue")), Code::TagKeyAttached);
        assert_eq!(put(&mut tags, "colour", "blue"), Ok(()));
        assert_eq!(tags["colour"], "blue");
        assert_eq!(remove(&mut tags, "colour"), Ok(()));
        assert_eq!(
            code(remove(&mut tags, "colour")),
            Code::AttachedTagKeyNotFound
        );
        for (key, value, expected) in [
            ("", "v", Code::TagKeyEmpty),
            ("project", "v", Code::ReservedTagKey),
            ("TencentX", "v", Code::ReservedTagKey),
            (&"k".repeat(128), "v", Code::InvalidParameterValue),
            ("k", &"v".repeat(256), Code::InvalidParameterValue),
        ] {
            assert_eq!(code(put(&mut tags, key, value)), expected, "{key}");
        }
        assert_eq!(tags, Tags::new());
        tags.extend((0..51).map(|n| (n.to_string(), String::new())));
        assert_eq!(code(check_number(&tags)), Code::ResourceAttachedTags);
    }
}
