//! Changes of objects, and who hears of them.

use std::fmt::Debug;

use bytes::Bytes;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// It was put, or appended to.
    Put,
    /// It was uploaded by a form.
    Post,
    /// It was copied from another.
    Copy,
    /// The parts of an upload were put together.
    CompleteMultipartUpload,
    /// It, or a version of it, was removed.
    Delete,
    /// It was hidden behind a delete marker.
    DeleteMarkerCreated,
    /// An archived object is asked to be made readable.
    RestorePost,
    /// An archived object is readable.
    RestoreCompleted,
}

impl ChangeKind {
    /// All of them.
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

    /// COS's name of the event. Source: SCF's page on COS triggers.
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
    /// What happens.
    pub kind: ChangeKind,
    /// The bucket's name, without the owner's number.
    pub bucket: String,
    /// The number of the account that owns the bucket.
    pub app_id: u64,
    /// The object's key.
    pub key: String,
    /// Its version, where the bucket keeps versions.
    pub version: Option<String>,
    /// Its length in bytes; of what was removed, the length it had.
    pub size: u64,
    /// Its ETag without quotes; empty for a delete marker.
    pub etag: String,
    /// Its type.
    pub content_type: Option<String>,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The id of the request that changes it.
    pub request: String,
    /// Where the request comes from.
    pub source_ip: String,
    /// The key id of whoever changes it, where one was given.
    pub by: Option<String>,
    /// How deep in a chain of functions that cause each other the request was made; 0 for the world outside.
    pub depth: u32,
}

/// A message that is kept in the same commit as the change it tells of, until its receiver has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its name: it may be handed over twice, under one name.
    pub id: String,
    /// Whom it is for, as the listeners wrote it.
    pub to: String,
    /// What it says.
    pub body: Bytes,
}

/// Whoever wants to hear of changes.
pub trait ChangeObserver: Debug + Send + Sync + 'static {
    /// What is to be told of a change. It is asked on the way of a write, so it must be quick and do no I/O.
    fn notices_of(&self, change: &Change) -> Vec<Notice>;
}

/// Nobody.
impl ChangeObserver for () {
    fn notices_of(&self, _: &Change) -> Vec<Notice> {
        Vec::new()
    }
}
