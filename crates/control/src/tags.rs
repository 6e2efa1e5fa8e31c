//! The tags of a function.

use std::collections::BTreeMap;

use model::{Field, FunctionKey};

use crate::{Control, Error, Limit, Reason};

/// The tags of a function.
pub type Tags = BTreeMap<String, String>;

/// Source: the tag service's limits.
const TAGS_MAX: usize = 50;
const KEY_MAX: usize = 127;
const VALUE_MAX: usize = 255;
const RESERVED: [&str; 3] = ["qcloud", "tencent", "project"];

impl Control {
    /// Changes the tags of a function in any state.
    ///
    /// # Errors
    /// The function does not exist, `edit` refuses, or the function would have too many tags.
    pub async fn change_tags(
        &self,
        key: &FunctionKey,
        edit: impl Fn(&mut Tags) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.change_in_any_state(key, |function| {
            let before = function.tags.clone();
            edit(&mut function.tags)?;
            if function.tags == before {
                return Ok(());
            }
            check_number(&function.tags)
        })
        .await
    }

    /// Changes the tags of several functions. Checks first that all of them can be changed.
    ///
    /// # Errors
    /// As [`change_tags`](Self::change_tags), for the first function that cannot be changed.
    pub async fn change_tags_of_all(
        &self,
        keys: &[FunctionKey],
        edit: impl Fn(&mut Tags) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for key in keys {
            edit(&mut self.function(key)?.value.tags.clone())?;
        }
        for key in keys {
            self.change_tags(key, &edit).await?;
        }
        Ok(())
    }
}

/// Sets a tag and replaces an existing value.
///
/// # Errors
/// If the key or the value is invalid.
pub fn put(tags: &mut Tags, key: &str, value: &str) -> Result<(), Error> {
    check(key, value)?;
    tags.insert(key.to_owned(), value.to_owned());
    Ok(())
}

/// Adds a tag. Idempotent if the tag already has this value.
///
/// # Errors
/// Returns an error in the cases of [`put`], and if the key already has another value.
pub fn add(tags: &mut Tags, key: &str, value: &str) -> Result<(), Error> {
    match tags.get(key) {
        Some(have) if have != value => {
            let message = format!("the function has {key:?} with another value; take it off");
            Err(Error::of(Field::TagKey, Reason::TagConflict, message))
        }
        _ => put(tags, key, value),
    }
}

/// Removes a tag.
///
/// # Errors
/// If the function does not have it.
pub fn remove(tags: &mut Tags, key: &str) -> Result<(), Error> {
    match tags.remove(key) {
        Some(_) => Ok(()),
        None => {
            let shown: String = key.chars().take(127).collect();
            let message = format!("the function has no tag {shown:?}");
            Err(Error::of(Field::TagKey, Reason::TagMissing, message))
        }
    }
}

/// Checks the number of tags of a function.
///
/// # Errors
/// If it exceeds the maximum.
fn check_number(tags: &Tags) -> Result<(), Error> {
    if tags.len() <= TAGS_MAX {
        return Ok(());
    }
    let message = format!(
        "the function would have {} tags; up to {TAGS_MAX} are allowed",
        tags.len()
    );
    Err(Error::new(Reason::LimitReached(Limit::Tags), message))
}

/// Checks a key and a value.
///
/// # Errors
/// If either is invalid.
pub fn check(key: &str, value: &str) -> Result<(), Error> {
    if key.is_empty() {
        let message = format!("an empty key is not allowed; 1 to {KEY_MAX} bytes are");
        return Err(Error::invalid(Field::TagKey, message));
    }
    if key.len() > KEY_MAX || value.len() > VALUE_MAX {
        let message = format!(
            "{} and {} bytes are not allowed; up to {KEY_MAX} and {VALUE_MAX} are",
            key.len(),
            value.len()
        );
        return Err(Error::invalid(Field::Tag, message));
    }
    let lower = key.to_lowercase();
    if RESERVED.iter().any(|prefix| lower.starts_with(prefix)) {
        let message = format!(
            "{key:?} is not allowed; the cloud reserves {}",
            RESERVED.join(", ")
        );
        return Err(Error::of(Field::TagKey, Reason::TagReserved, message));
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
        let reason = |done: Result<(), Error>| done.expect_err("refused").reason;
        assert_eq!(
            reason(add(&mut tags, "colour", "blue")),
            Reason::TagConflict
        );
        assert_eq!(put(&mut tags, "colour", "blue"), Ok(()));
        assert_eq!(tags["colour"], "blue");
        assert_eq!(remove(&mut tags, "colour"), Ok(()));
        assert_eq!(reason(remove(&mut tags, "colour")), Reason::TagMissing);
        for (key, value, expected) in [
            ("", "v", Reason::Invalid),
            ("project", "v", Reason::TagReserved),
            ("TencentX", "v", Reason::TagReserved),
            (&"k".repeat(128), "v", Reason::Invalid),
            ("k", &"v".repeat(256), Reason::Invalid),
        ] {
            assert_eq!(reason(put(&mut tags, key, value)), expected, "{key}");
        }
        assert_eq!(tags, Tags::new());
        tags.extend((0..51).map(|n| (n.to_string(), String::new())));
        assert_eq!(
            reason(check_number(&tags)),
            Reason::LimitReached(Limit::Tags)
        );
    }
}
