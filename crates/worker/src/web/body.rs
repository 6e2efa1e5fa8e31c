//! Bodies of forwarded requests.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a forwarded request.
pub type Outgoing = UnsyncBoxBody<Bytes, BoxError>;
