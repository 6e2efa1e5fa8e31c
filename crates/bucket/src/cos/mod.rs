//! COS's dialect: translates requests to S3's API and responses back.

pub(crate) mod append;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod service;
pub(crate) mod signature;

/// Guesses the content type from the key's suffix, as COS does, so that browsers show pages instead of downloading
/// them.
pub(crate) fn content_type(key: &str) -> String {
    let guessed = mime_guess::from_path(key).first_raw();
    guessed.unwrap_or("application/octet-stream").to_owned()
}
