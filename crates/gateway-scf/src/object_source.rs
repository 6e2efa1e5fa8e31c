//! Objects as the source of function and layer packages.

use std::fmt;

use access::{GET_OBJECT, Principal};
use bucket::store::{Content, Get};
use bucket::{ObjectKey, Store, StoreError};
use model::BucketName;

/// Access to buckets, if they are served.
#[derive(Clone, Debug)]
pub struct ObjectSource {
    store: Option<Store>,
    region: String,
}

/// Reason why an object cannot be read.
#[derive(Debug)]
pub enum ObjectReadError {
    /// Buckets are not served.
    Off,
    /// The bucket does not exist.
    NoBucket,
    /// The object does not exist.
    NoObject,
    /// The caller's policies do not allow it.
    Denied,
    /// The object has this many bytes, which is too many.
    TooLarge(u64),
    /// Another error of the store.
    Other(StoreError),
}

impl ObjectSource {
    /// Creates the access to a store.
    pub fn new(store: Option<Store>, region: String) -> Self {
        Self { store, region }
    }

    /// Opens an object of the caller's account, of up to `most` bytes.
    ///
    /// # Errors
    /// The object does not exist, is too large, or the caller may not read it.
    pub async fn open(
        &self,
        principal: &Principal,
        bucket: &BucketName,
        key: &str,
        most: u64,
    ) -> Result<Content, ObjectReadError> {
        let store = self.store.as_ref().ok_or(ObjectReadError::Off)?;
        let app_id = principal.owner.id.0;
        let path = format!("{}-{app_id}/{key}", bucket.as_str());
        // An unauthorized caller must not learn what exists.
        if !principal.allows(&GET_OBJECT, &self.region, &[path]) {
            return Err(ObjectReadError::Denied);
        }
        let name = bucket::BucketName::new(bucket.as_str(), app_id)
            .map_err(|_| ObjectReadError::NoBucket)?;
        let key = ObjectKey::parse(key).map_err(|_| ObjectReadError::NoObject)?;
        let got = store.get(&name, &key, Get::default()).await?;
        let size = got.object.size;
        if size > most {
            return Err(ObjectReadError::TooLarge(size));
        }
        Ok(got.content)
    }
}

impl From<StoreError> for ObjectReadError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchBucket(_) => Self::NoBucket,
            StoreError::NoSuchKey(_) | StoreError::Hidden { .. } => Self::NoObject,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for ObjectReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => {
                f.write_str("no buckets are served here; start virga with --bucket-listen")
            }
            Self::NoBucket => f.write_str("there is no such bucket"),
            Self::NoObject => f.write_str("there is no such object in the bucket"),
            Self::Denied => f.write_str("this key may not do name/cos:GetObject on the object"),
            Self::TooLarge(size) => write!(f, "the object has {size} bytes"),
            Self::Other(error) => error.fmt(f),
        }
    }
}
