//! Points in time.

/// Milliseconds since the Unix epoch (UTC).
pub type Timestamp = i64;
