//! Objects for virga's own use: packages that functions and layers are made from.

use std::fmt;

use bucket::store::{Content, Get};
use bucket::{AccessRequest, ObjectKey, Store, StoreError};
use model::BucketName;

use super::authorizer::allows;
use crate::access::Principal;

/// Buckets, if there are any.
#[derive(Clone, Debug)]
pub(crate) struct ObjectSource {
    store: Option<Store>,
    region: String,
}

/// Why an object is not read.
#[derive(Debug)]
pub(crate) enum ObjectReadError {
    /// No buckets are served.
    Off,
    NoBucket,
    NoObject,
    /// The policy of the key does not let it.
    Denied,
    TooLarge(u64),
    /// It is not as it must be to be read, or cannot be at all.
    Other(StoreError),
}

impl ObjectSource {
    pub(crate) fn new(store: Option<Store>, region: String) -> Self {
        Self { store, region }
    }

    /// Opens an object of somebody's own account, of up to `most` bytes.
    ///
    /// # Errors
    /// There is none, it is too large, or they may not.
    pub(crate) async fn open(
        &self,
        principal: &Principal,
        bucket: &BucketName,
        key: &str,
        most: u64,
    ) -> Result<Content, ObjectReadError> {
        let store = self.store.as_ref().ok_or(ObjectReadError::Off)?;
        let app_id = principal.owner.id.0;
        let access = AccessRequest {
            action: "GetObject",
            app_id,
            bucket: Some(bucket.as_str()),
            key: Some(key),
        };
        // Who may not look is not told what there is.
        if !allows(principal, &self.region, &access) {
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
