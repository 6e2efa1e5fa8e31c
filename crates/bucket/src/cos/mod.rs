//! COS's dialect, in front of S3's: what is said otherwise is said in S3's words, and back.

pub(crate) mod append;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod signature;
