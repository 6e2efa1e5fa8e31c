//! Changes of objects, and the notices that they cause.

use std::fmt::Debug;

use bytes::Bytes;

/// Kind of change of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// The object was put or appended to.
    Put,
    /// The object was uploaded by a form.
    Post,
    /// The object was copied.
    Copy,
    /// A multipart upload was completed.
    CompleteMultipartUpload,
    /// The object, or a version of it, was deleted.
    Delete,
    /// A delete marker was added.
    DeleteMarkerCreated,
    /// A restore of an archived object was requested.
    RestorePost,
    /// A restore of an archived object completed.
    RestoreCompleted,
}

impl ChangeKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Put,
        Self::Post,
        Self::Copy,
        Self::CompleteMultipartUpload,
        Self::Delete,
        Self::DeleteMarkerCreated,
        Self::RestorePost,
        Self::RestoreCompleted,
    ];

    /// Returns COS's event name. Source: SCF's page on COS triggers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Put => "cos:ObjectCreated:Put",
            Self::Post => "cos:ObjectCreated:Post",
            Self::Copy => "cos:ObjectCreated:Copy",
            Self::CompleteMultipartUpload => "cos:ObjectCreated:CompleteMultipartUpload",
            Self::Delete => "cos:ObjectRemove:Delete",
            Self::DeleteMarkerCreated => "cos:ObjectRemove:DeleteMarkerCreated",
            Self::RestorePost => "cos:ObjectRestore:Post",
            Self::RestoreCompleted => "cos:ObjectRestore:Completed",
        }
    }
}

/// A change of an object that is about to be committed.
#[derive(Clone, Debug)]
pub struct Change {
    /// Kind of the change.
    pub kind: ChangeKind,
    /// Bucket name without the AppId.
    pub bucket: String,
    /// AppId of the account that owns the bucket.
    pub app_id: u64,
    /// Object key.
    pub key: String,
    /// Version id, if the bucket is versioned.
    pub version: Option<String>,
    /// Size in bytes; for a deletion, the size before.
    pub size: u64,
    /// ETag without quotes; empty for a delete marker.
    pub etag: String,
    /// Content type.
    pub content_type: Option<String>,
    /// Time of the change (ms since 1970).
    pub at_ms: u64,
    /// Id of the request that made the change.
    pub request: String,
    /// Source address of the request.
    pub source_ip: String,
    /// Key id of the caller; `None` for anonymous requests.
    pub by: Option<String>,
    /// Depth of the request in the call chain of functions; 0 for calls from outside.
    pub depth: u32,
}

/// A change notification. It is committed together with its change and kept until the receiver acknowledges it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Id of the notice, by which a receiver deduplicates redeliveries.
    pub id: String,
    /// Receiver, in the observer's own format.
    pub to: String,
    /// Payload.
    pub body: Bytes,
}

/// Decides which notices a change causes.
pub trait ChangeObserver: Debug + Send + Sync + 'static {
    /// Returns the notices of a change. It runs inside the write transaction, so it must be fast and do no I/O.
    fn notices_of(&self, change: &Change) -> Vec<Notice>;
}

/// Causes no notices.
impl ChangeObserver for () {
    fn notices_of(&self, _: &Change) -> Vec<Notice> {
        Vec::new()
    }
}
