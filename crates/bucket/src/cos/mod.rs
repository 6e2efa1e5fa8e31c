//! COS's dialect, in front of S3's: what is said otherwise is said in S3's words, and back.

pub(crate) mod append;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod service;
pub(crate) mod signature;

/// The type of an object whose writer does not say it: by its key's suffix, as COS has it, so that a page is shown and not kept.
pub(crate) fn content_type(key: &str) -> String {
    let guessed = mime_guess::from_path(key).first_raw();
    guessed.unwrap_or("application/octet-stream").to_owned()
}
