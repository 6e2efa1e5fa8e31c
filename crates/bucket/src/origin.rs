//! Where a request comes from.

use std::net::IpAddr;

/// What the listener knows of a request beside what it says itself. It is an extension of the request.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The id under which it is answered.
    pub request: String,
    /// The address at the other end.
    pub from: IpAddr,
    /// How it is said.
    pub dialect: Dialect,
}

/// How a client speaks, and so what it calls its buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// S3's API: an account's own buckets go by their names alone, as `photos`.
    S3,
    /// COS's API: every bucket goes by its full name, as `photos-1250000000`.
    Cos,
}

impl Dialect {
    /// For messages and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Cos => "cos",
        }
    }
}
