//! Stored records of buckets and objects.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::StoreError;
use crate::names::{BucketName, VersionId};

/// Version of new records.
const VERSION: u32 = 1;

/// Tags, in the order given.
pub type Tags = Vec<(String, String)>;

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Full name.
    pub name: BucketName,
    /// Creation time (ms since 1970).
    pub created_ms: u64,
    /// Access granted besides the owner.
    #[serde(default)]
    pub acl: Acl,
    /// State of versioning.
    #[serde(default)]
    pub versioning: Versioning,
    /// CORS rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cors: Vec<CorsRule>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Tags,
}

/// An access control list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Acl {
    /// Only the owner's account.
    #[default]
    Private,
    /// Everyone may read.
    PublicRead,
    /// Everyone may read and write.
    PublicReadWrite,
    /// Every authenticated caller may read.
    AuthenticatedRead,
}

/// State of a bucket's versioning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Versioning {
    /// Never enabled.
    #[default]
    Off,
    /// Enabled.
    Enabled,
    /// Suspended; older versions are kept.
    Suspended,
}

/// A CORS rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorsRule {
    /// Name of the rule.
    pub id: Option<String>,
    /// Allowed origins; one `*` in each matches anything.
    pub origins: Vec<String>,
    /// Allowed methods.
    pub methods: Vec<String>,
    /// Allowed request headers; one `*` in each matches anything.
    pub headers: Vec<String>,
    /// Response headers exposed to the page.
    pub expose: Vec<String>,
    /// Time that a browser may cache a preflight response (s).
    pub max_age: Option<u32>,
}

/// A version of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Sequence number; later versions have greater ones.
    pub seq: u64,
    /// Whether it has a version id of its own, because versioning was enabled when it was written.
    #[serde(default)]
    pub named: bool,
    /// Size in bytes.
    pub size: u64,
    /// ETag without quotes.
    pub etag: String,
    /// Time of the write (ms since 1970).
    pub modified_ms: u64,
    /// CRC-64/XZ of its bytes, as COS shows it.
    pub crc64: u64,
    /// Checksums that the writer requested.
    #[serde(default, skip_serializing_if = "Checksums::is_empty")]
    pub sums: Checksums,
    /// Metadata.
    pub meta: Meta,
    /// Storage class.
    #[serde(default, skip_serializing_if = "StorageClass::is_standard")]
    pub class: StorageClass,
    /// How the object was written.
    #[serde(default)]
    pub kind: ObjectKind,
    /// Tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Tags,
    /// ACL; `None` inherits the bucket's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acl: Option<Acl>,
    /// State of a restore from the archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
    /// Location of its bytes.
    pub(crate) pieces: Pieces,
}

impl Object {
    /// Returns the version id.
    pub fn version(&self) -> VersionId {
        if self.named {
            VersionId::Number(self.seq)
        } else {
            VersionId::Null
        }
    }

    /// Returns whether the object must be restored before it can be read.
    pub fn is_archived(&self, now_ms: u64) -> bool {
        let readable = match &self.restore {
            Some(Restore::Until(until)) => *until > now_ms,
            Some(Restore::Ongoing { .. }) | None => false,
        };
        self.class.is_archive() && !readable
    }
}

/// Metadata of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// `Content-Type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// `Cache-Control`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    /// `Content-Disposition`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    /// `Content-Encoding`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    /// `Expires`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Redirect target of a page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<String>,
    /// User metadata, with lower-case names without their prefix.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub user: BTreeMap<String, String>,
}

/// Checksums that the writer requested, in base64.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksums {
    /// CRC-32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc32: Option<String>,
    /// CRC-32C.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc32c: Option<String>,
    /// CRC-64/NVME.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc64nvme: Option<String>,
    /// SHA-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha1: Option<String>,
    /// SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Whether they are checksums of the parts' checksums instead of the bytes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub composite: bool,
}

impl Checksums {
    /// Returns whether there is no checksum.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How an object was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObjectKind {
    /// With a single request.
    #[default]
    Normal,
    /// By appends.
    Appendable,
    /// By a multipart upload with this number of parts.
    Multipart(u32),
}

/// A storage class. All are stored alike, but an archived object must be restored before it can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StorageClass {
    /// Standard.
    #[default]
    Standard,
    /// Infrequent access.
    StandardIa,
    /// Intelligent tiering.
    IntelligentTiering,
    /// Archive.
    Archive,
    /// Deep archive.
    DeepArchive,
}

impl StorageClass {
    /// Returns the name, which is the same in both dialects.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "STANDARD",
            Self::StandardIa => "STANDARD_IA",
            Self::IntelligentTiering => "INTELLIGENT_TIERING",
            Self::Archive => "ARCHIVE",
            Self::DeepArchive => "DEEP_ARCHIVE",
        }
    }

    /// Parses a name, including S3's names of archive classes.
    ///
    /// # Errors
    /// The name is unknown; the error lists the known ones.
    pub fn parse(name: &str) -> Result<Self, StoreError> {
        Ok(match name {
            "" | "STANDARD" | "REDUCED_REDUNDANCY" => Self::Standard,
            "STANDARD_IA" | "ONEZONE_IA" | "MAZ_STANDARD" | "MAZ_STANDARD_IA" => Self::StandardIa,
            "INTELLIGENT_TIERING" => Self::IntelligentTiering,
            "ARCHIVE" | "GLACIER" => Self::Archive,
            "DEEP_ARCHIVE" => Self::DeepArchive,
            _ => {
                return Err(StoreError::Invalid(format!(
                    "storage class {name:?} is not known; use STANDARD, STANDARD_IA, INTELLIGENT_TIERING, ARCHIVE or \
                     DEEP_ARCHIVE"
                )));
            }
        })
    }

    /// Returns whether objects of this class must be restored before they can be read.
    pub fn is_archive(self) -> bool {
        matches!(self, Self::Archive | Self::DeepArchive)
    }

    fn is_standard(&self) -> bool {
        *self == Self::Standard
    }
}

/// State of a restore from an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restore {
    /// In progress; the object will be readable for some days.
    Ongoing {
        /// Number of days.
        days: u32,
    },
    /// Readable until this time (ms since 1970).
    Until(u64),
}

/// Location of an object's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Pieces {
    /// A short list, in the record itself.
    Here(Vec<Piece>),
    /// A long list, in a table of this number.
    Table(u64),
}

/// A contiguous part of an object's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    pub(crate) place: PieceLocation,
    /// Offset in the row or blob.
    #[serde(default)]
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// Part number of the multipart upload.
    #[serde(default)]
    pub(crate) part: u32,
    /// Checksums of that part, on its first piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sums: Option<Box<Checksums>>,
}

/// Location of a piece.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PieceLocation {
    /// A row of the index.
    Row(u64),
    /// A blob.
    Blob(BlobId),
}

/// Name of a blob.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct BlobId(pub(crate) String);

#[derive(Serialize)]
struct Written<'a, T> {
    v: u32,
    record: &'a T,
}

#[derive(Deserialize)]
struct Read<'a> {
    v: u32,
    #[serde(borrow)]
    record: &'a RawValue,
}

/// Serializes a record.
pub(crate) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(&Written { v: VERSION, record })
        .map_err(|e| StoreError::Unavailable(format!("write a record: {e}")))
}

/// Deserializes a record of this or an earlier version.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    let wrong = |e: String| StoreError::Unavailable(format!("read a record: {e}"));
    let read: Read<'_> = serde_json::from_slice(bytes).map_err(|e| wrong(e.to_string()))?;
    if read.v > VERSION {
        let version = read.v;
        return Err(wrong(format!(
            "it was written by a newer virga (format {version}, this one reads up to {VERSION}); upgrade"
        )));
    }
    serde_json::from_str(read.record.get()).map_err(|e| wrong(e.to_string()))
}
