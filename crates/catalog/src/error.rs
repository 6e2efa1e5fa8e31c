//! Errors of changes of the catalog.

use model::Namespace;
use thiserror::Error;

use crate::issued::ID_MAX;
use crate::kv::KvError;

/// An error of a change.
#[derive(Debug, Error)]
pub enum Error {
    /// A concurrent change came first (optimistic concurrency); read the record again and retry.
    #[error("it was changed by another request at the same time; read it again and retry")]
    Conflict,
    /// It already exists.
    #[error("it already exists")]
    Exists,
    /// The namespace does not exist.
    #[error("namespace {0} does not exist")]
    NoNamespace(Namespace),
    /// The namespace holds functions.
    #[error("namespace {0} still holds functions; delete them first")]
    NotEmpty(Namespace),
    /// The account owns resources.
    #[error("it still has functions, namespaces, layers or custom domains")]
    InUse,
    /// An account id was issued before.
    #[error(
        "{field}: {id} belongs, or belonged, to an account, and ids are never reused; omit it, or choose one that was never used"
    )]
    IdUsed {
        /// Field of the id.
        field: &'static str,
        /// The id.
        id: u64,
    },
    /// An account id is out of range.
    #[error("{field}: {} is not allowed; 1 to {ID_MAX} are", given.map_or("the next id".to_owned(), |id| id.to_string()))]
    InvalidId {
        /// Field of the id.
        field: &'static str,
        /// The id, if one was given.
        given: Option<u64>,
    },
    /// The account is closed.
    #[error("the account is being deleted and accepts no new resources")]
    Closed,
    /// A quota is exceeded.
    #[error("the quota of {0} is exceeded")]
    Quota(u32),
    /// The size of the account's records would exceed its quota.
    #[error(
        "the account's records have {used} bytes and this change adds {more}; up to {quota} are allowed (quota catalog_bytes); \
         delete versions, functions or layers first"
    )]
    Bytes {
        /// Current size (bytes).
        used: u64,
        /// Growth by the change (bytes).
        more: u64,
        /// Quota (bytes).
        quota: u64,
    },
    /// The quota on versions is exceeded.
    #[error("it already has the maximum of {0} versions; delete some first")]
    Full(u32),
    /// The store failed.
    #[error(transparent)]
    Store(KvError),
    /// A record cannot be encoded or decoded.
    #[error("stored entry {key}: {why}")]
    Format {
        /// Key of the entry.
        key: String,
        /// The fault.
        why: String,
    },
}

impl From<KvError> for Error {
    fn from(error: KvError) -> Self {
        match error {
            KvError::Conflict { .. } => Self::Conflict,
            other => Self::Store(other),
        }
    }
}
