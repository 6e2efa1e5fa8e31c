//! Free-form texts.

use model::{Field, Limits};

use crate::Error;

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

/// Truncates a text for a message, so that an error never echoes a whole request.
pub fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}
