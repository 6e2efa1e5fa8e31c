//! Free-form texts.

use std::collections::BTreeMap;

use model::{Field, Limits};

use crate::Error;

/// Source: SCF's tag limits.
const TAGS_MAX: usize = 50;
const TAG_KEY_BYTES_MAX: usize = 127;
const TAG_VALUE_BYTES_MAX: usize = 255;

/// Checks a description; none is an empty one.
///
/// # Errors
/// It is too long.
pub fn description(given: Option<&str>, limits: &Limits) -> Result<String, Error> {
    let text = given.unwrap_or_default();
    let length = text.chars().count();
    if length > limits.description_chars as usize {
        let message = format!(
            "{length} characters are not allowed; up to {} are",
            limits.description_chars
        );
        return Err(Error::invalid(Field::Description, message));
    }
    Ok(text.to_owned())
}

/// Checks the tags of a new function, layer or domain.
///
/// # Errors
/// There are too many, or one is too long.
pub fn tags(given: Vec<(String, String)>) -> Result<BTreeMap<String, String>, Error> {
    let fits = |(key, value): &(String, String)| {
        (1..=TAG_KEY_BYTES_MAX).contains(&key.len()) && value.len() <= TAG_VALUE_BYTES_MAX
    };
    if given.len() > TAGS_MAX || !given.iter().all(fits) {
        let message = format!(
            "up to {TAGS_MAX} with keys of 1 to {TAG_KEY_BYTES_MAX} and values of up to {TAG_VALUE_BYTES_MAX} bytes are allowed"
        );
        return Err(Error::invalid(Field::Tags, message));
    }
    Ok(given.into_iter().collect())
}

/// Truncates a text for a message, so that an error never echoes a whole request.
pub fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}
