//! What is known of buckets and objects, as it is stored.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::StoreError;
use crate::names::{BucketName, VersionId};

/// The version of records that is written.
const VERSION: u32 = 1;

/// Tags, in the order in which they were given.
pub type Tags = Vec<(String, String)>;

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Its full name.
    pub name: BucketName,
    /// When it was made, milliseconds since 1970.
    pub created_ms: u64,
    /// Who may besides its owner.
    #[serde(default)]
    pub acl: Acl,
    /// Whether it keeps versions.
    #[serde(default)]
    pub versioning: Versioning,
    /// What pages of other origins may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cors: Vec<CorsRule>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Tags,
}

/// Who may besides the owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Acl {
    /// Nobody.
    #[default]
    Private,
    /// Everybody may read.
    PublicRead,
    /// Everybody may read and write.
    PublicReadWrite,
    /// Everybody who signs may read.
    AuthenticatedRead,
}

/// Whether a bucket keeps versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Versioning {
    /// It never did.
    #[default]
    Off,
    /// It does.
    Enabled,
    /// It did; the versions of then are kept.
    Suspended,
}

/// What pages of other origins may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorsRule {
    /// A name for people.
    pub id: Option<String>,
    /// Origins; one `*` in each stands for anything.
    pub origins: Vec<String>,
    /// Methods.
    pub methods: Vec<String>,
    /// Headers that a request may have; one `*` in each stands for anything.
    pub headers: Vec<String>,
    /// Headers of an answer that a page may see.
    pub expose: Vec<String>,
    /// How long a browser may remember this, seconds.
    pub max_age: Option<u32>,
}

/// A version of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its number; a later version's is greater.
    pub seq: u64,
    /// Whether it has a version id of its own, since it was written while its bucket kept versions.
    #[serde(default)]
    pub named: bool,
    /// Its length.
    pub size: u64,
    /// Its ETag, without quotes.
    pub etag: String,
    /// When it was written, milliseconds since 1970.
    pub modified_ms: u64,
    /// CRC-64/XZ of its bytes, which COS shows.
    pub crc64: u64,
    /// Checksums that its writer asked for.
    #[serde(default, skip_serializing_if = "Checksums::is_empty")]
    pub sums: Checksums,
    /// What its writer said of it.
    pub meta: Meta,
    /// Where it is to be kept.
    #[serde(default, skip_serializing_if = "StorageClass::is_standard")]
    pub class: StorageClass,
    /// How it came to be.
    #[serde(default)]
    pub kind: ObjectKind,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Tags,
    /// Who may read it; the bucket says where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acl: Option<Acl>,
    /// Its way back from an archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
    /// Where its bytes are.
    pub(crate) pieces: Pieces,
}

impl Object {
    /// The version as clients name it.
    pub fn version(&self) -> VersionId {
        if self.named {
            VersionId::Number(self.seq)
        } else {
            VersionId::Null
        }
    }

    /// Whether it must be restored before it is read.
    pub fn is_archived(&self, now_ms: u64) -> bool {
        let readable = match &self.restore {
            Some(Restore::Until(until)) => *until > now_ms,
            Some(Restore::Ongoing { .. }) | None => false,
        };
        self.class.is_archive() && !readable
    }
}

/// What a writer says of an object.
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
    /// Where a page is to be found instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<String>,
    /// The user's own, names in lower case without their prefix.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub user: BTreeMap<String, String>,
}

/// Checksums that a writer asked for, in base64.
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
    /// Whether they are checksums of the parts' checksums, and not of the bytes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub composite: bool,
}

impl Checksums {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How an object came to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObjectKind {
    /// By one request.
    #[default]
    Normal,
    /// By appending.
    Appendable,
    /// By a multipart upload of this many parts.
    Multipart(u32),
}

/// Where an object is to be kept. All classes are kept alike; an archived object must be restored before it is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StorageClass {
    /// At hand.
    #[default]
    Standard,
    /// Rarely read.
    StandardIa,
    /// Where it belongs by its use.
    IntelligentTiering,
    /// In an archive.
    Archive,
    /// In a deep archive.
    DeepArchive,
}

impl StorageClass {
    /// Its name in both dialects; S3's names of archives are read, too.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "STANDARD",
            Self::StandardIa => "STANDARD_IA",
            Self::IntelligentTiering => "INTELLIGENT_TIERING",
            Self::Archive => "ARCHIVE",
            Self::DeepArchive => "DEEP_ARCHIVE",
        }
    }

    /// Reads a name.
    ///
    /// # Errors
    /// Says which there are.
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

    /// Whether an object must be restored before it is read.
    pub fn is_archive(self) -> bool {
        matches!(self, Self::Archive | Self::DeepArchive)
    }

    fn is_standard(&self) -> bool {
        *self == Self::Standard
    }
}

/// The way back from an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restore {
    /// It is on its way, and will be readable for so many days.
    Ongoing {
        /// How long.
        days: u32,
    },
    /// It is readable until then, milliseconds since 1970.
    Until(u64),
}

/// Where an object's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Pieces {
    /// Few are listed here.
    Here(Vec<Piece>),
    /// Many have a table.
    Table(u64),
}

/// Some of an object's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    pub(crate) place: PieceLocation,
    /// Where in the place they begin.
    #[serde(default)]
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// The part of the upload that they came with.
    #[serde(default)]
    pub(crate) part: u32,
    /// The checksums of that part, of its first piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sums: Option<Box<Checksums>>,
}

/// Where bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PieceLocation {
    /// In the index, under this number.
    Row(u64),
    /// In the store of blobs, under this id.
    Blob(BlobId),
}

/// The name of bytes in the store of blobs.
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

/// A record's bytes.
pub(crate) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(&Written { v: VERSION, record })
        .map_err(|e| StoreError::Unavailable(format!("write a record: {e}")))
}

/// Reads a record of this or an earlier version.
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
