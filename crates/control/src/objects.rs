//! Objects in buckets as packages of functions and layers.

use bucket::store::{Content, Get};
use bucket::{ObjectKey, StoreError};
use bytes::Bytes;
use futures_util::StreamExt;
use model::{AccountId, BucketName, Field};

use crate::packages::StoredPackage;
use crate::{Control, Error, Limit, Reason};

/// An object, by the names that messages show.
struct Named<'a> {
    account: AccountId,
    bucket: &'a BucketName,
    key: &'a str,
}

impl Control {
    /// Stores and unpacks a package that is an object of an account. The caller has checked that it may be read. The limit is
    /// that of the unpacked size, since SCF limits only that.
    ///
    /// # Errors
    /// Buckets are not served, the object does not exist or is too large, or the package is refused.
    pub async fn fetch_package(
        &self,
        account: AccountId,
        bucket: &BucketName,
        key: &str,
    ) -> Result<StoredPackage, Error> {
        let object = Named {
            account,
            bucket,
            key,
        };
        let stored = self.receive_object(&object).await?;
        self.unpack_package(stored).await
    }

    async fn receive_object(&self, object: &Named<'_>) -> Result<StoredPackage, Error> {
        // Like bodies, packages wait for memory in max-min fair order between accounts.
        let turn = self.limits.package_bytes;
        let _share = self.objects.memory.acquire(object.account, turn).await;
        let content = self.open(object).await?;
        let limit = self.limits.unpacked_bytes;
        let mut size = 0;
        let pieces = content.into_stream().map(|piece| {
            let piece: Bytes = piece.map_err(|e| object.failed(&e))?;
            size += piece.len() as u64;
            object.check_size(size, limit)?;
            Ok::<_, Error>(piece)
        });
        self.receive_package(pieces).await
    }

    async fn open(&self, object: &Named<'_>) -> Result<Content, Error> {
        let Some(store) = &self.objects.store else {
            let why = "no buckets are served here; start virga with --bucket-listen";
            return Err(object.error(Field::BucketName, Reason::Unsupported, why));
        };
        let bucket = bucket::BucketName::new(object.bucket.as_str(), object.account.0);
        let bucket = bucket.map_err(|_| object.bucket_missing())?;
        let key = ObjectKey::parse(object.key).map_err(|_| object.missing())?;
        let got = store.get(&bucket, &key, Get::default()).await;
        let got = got.map_err(|e| object.failed(&e))?;
        object.check_size(got.object.size, self.limits.unpacked_bytes)?;
        Ok(got.content)
    }
}

impl Named<'_> {
    fn check_size(&self, size: u64, limit: u64) -> Result<(), Error> {
        if size <= limit {
            return Ok(());
        }
        let why = format!(
            "the object has {size} bytes; a package in a bucket may have up to {limit} (unpacked_bytes)"
        );
        let reason = Reason::LimitReached(Limit::PackageObjectBytes);
        Err(self.error(Field::ObjectKey, reason, &why))
    }

    fn failed(&self, error: &StoreError) -> Error {
        let reason = match error {
            StoreError::NoSuchBucket(_) => return self.bucket_missing(),
            StoreError::NoSuchKey(_) | StoreError::Hidden { .. } => return self.missing(),
            StoreError::Archived(_) => Reason::Invalid,
            _ => Reason::Internal,
        };
        self.error(Field::ObjectKey, reason, &error.to_string())
    }

    fn bucket_missing(&self) -> Error {
        let why = "there is no such bucket";
        self.error(Field::BucketName, Reason::BucketMissing, why)
    }

    fn missing(&self) -> Error {
        let why = "there is no such object in the bucket";
        self.error(Field::ObjectKey, Reason::ObjectMissing, why)
    }

    fn error(&self, field: Field, reason: Reason, why: &str) -> Error {
        let shown: String = self.key.chars().take(200).collect();
        Error::of(field, reason, format!("{}/{shown}: {why}", self.bucket))
    }
}
