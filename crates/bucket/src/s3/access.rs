//! Authorization before each action.

use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Uri};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::path::S3Path;
use s3s::{S3Result, s3_error};

use super::context::{Context, denied};
use super::convert::version;
use super::errors::to_s3_error;
use super::guard;
use super::handler::{S3Handler, XML};
use crate::authorizer::AccessRequest;
use crate::names::VersionId;
use crate::store::{Acl, Bucket, Get, Object};

tokio::task_local! {
    /// Session token of the request that this task verifies. `s3s` looks up keys by id alone.
    pub(super) static TOKEN: Option<String>;
}

/// Returns the session token of the current request.
pub(super) fn token() -> Option<String> {
    TOKEN.try_with(Clone::clone).ok().flatten()
}

/// Resolves secret keys for `s3s`.
pub(super) struct Keys(pub(super) Arc<S3Handler>);

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, id: &str) -> S3Result<SecretKey> {
        match self.0.authorizer.key(id, token().as_deref()) {
            Some(key) => Ok(SecretKey::from(key.secret)),
            None => Err(s3_error!(
                InvalidAccessKeyId,
                "there is no such key, it is disabled or has expired, or its session token is missing or another's"
            )),
        }
    }
}

/// Access that an action needs.
#[derive(Clone, Copy, PartialEq)]
enum Needs {
    Read,
    Write,
    /// Only the owner's account, regardless of ACLs.
    Owner,
    /// The action authorizes each object itself.
    PerObject,
}

/// S3's operations, COS's names for them, and the access they need. Other operations are not implemented.
const ACTIONS: &[(&str, &str, Needs)] = &[
    ("ListBuckets", "GetService", Needs::Owner),
    ("CreateBucket", "PutBucket", Needs::Owner),
    ("HeadBucket", "HeadBucket", Needs::Read),
    ("DeleteBucket", "DeleteBucket", Needs::Owner),
    ("GetBucketLocation", "GetBucketLocation", Needs::Read),
    ("ListObjects", "GetBucket", Needs::Read),
    ("ListObjectsV2", "GetBucket", Needs::Read),
    ("ListObjectVersions", "GetBucketObjectVersions", Needs::Read),
    ("ListMultipartUploads", "ListMultipartUploads", Needs::Read),
    ("GetBucketAcl", "GetBucketACL", Needs::Owner),
    ("PutBucketAcl", "PutBucketACL", Needs::Owner),
    ("GetBucketCors", "GetBucketCORS", Needs::Owner),
    ("PutBucketCors", "PutBucketCORS", Needs::Owner),
    ("DeleteBucketCors", "DeleteBucketCORS", Needs::Owner),
    ("GetBucketTagging", "GetBucketTagging", Needs::Owner),
    ("PutBucketTagging", "PutBucketTagging", Needs::Owner),
    ("DeleteBucketTagging", "DeleteBucketTagging", Needs::Owner),
    ("GetBucketVersioning", "GetBucketVersioning", Needs::Owner),
    ("PutBucketVersioning", "PutBucketVersioning", Needs::Owner),
    ("GetObject", "GetObject", Needs::Read),
    ("HeadObject", "HeadObject", Needs::Read),
    ("GetObjectAttributes", "HeadObject", Needs::Read),
    ("PutObject", "PutObject", Needs::Write),
    ("CopyObject", "PutObject", Needs::Write),
    ("PostObject", "PostObject", Needs::PerObject),
    ("DeleteObject", "DeleteObject", Needs::Write),
    ("DeleteObjects", "DeleteMultipleObjects", Needs::PerObject),
    (
        "CreateMultipartUpload",
        "InitiateMultipartUpload",
        Needs::Write,
    ),
    ("UploadPart", "UploadPart", Needs::Write),
    ("UploadPartCopy", "UploadPartCopy", Needs::Write),
    ("ListParts", "ListParts", Needs::Owner),
    (
        "CompleteMultipartUpload",
        "CompleteMultipartUpload",
        Needs::Write,
    ),
    ("AbortMultipartUpload", "AbortMultipartUpload", Needs::Write),
    ("GetObjectAcl", "GetObjectACL", Needs::Owner),
    ("PutObjectAcl", "PutObjectACL", Needs::Owner),
    ("GetObjectTagging", "GetObjectTagging", Needs::Owner),
    ("PutObjectTagging", "PutObjectTagging", Needs::Owner),
    ("DeleteObjectTagging", "DeleteObjectTagging", Needs::Owner),
    ("RestoreObject", "PostObjectRestore", Needs::Owner),
];

/// Returns COS's name of an operation, and the access it needs.
fn action(operation: &str) -> Option<(&'static str, Needs)> {
    let known = ACTIONS.iter().find(|(known, _, _)| *known == operation);
    known.map(|(_, name, needs)| (*name, *needs))
}

/// Returns the action names that policies use.
pub fn actions() -> impl Iterator<Item = &'static str> {
    ACTIONS.iter().map(|(_, name, _)| *name)
}

/// Authorizes each request before its body is read.
pub(super) struct AuthorizationHook(pub(super) Arc<S3Handler>);

#[async_trait::async_trait]
impl S3Access for AuthorizationHook {
    async fn check(&self, request: &mut S3AccessContext<'_>) -> S3Result<()> {
        let handler = &self.0;
        let context = Context::of(request.extensions_mut());
        let operation = request.s3_op().name();
        let (action, needs) = action(operation)
            .ok_or_else(|| s3_error!(NotImplemented, "{operation} is not implemented"))?;
        guard::check(
            operation,
            request.method(),
            request.uri(),
            request.headers(),
            context.call.dialect,
        )?;
        handler.check_length(operation, request.headers())?;
        const OWNER: &str = "x-amz-expected-bucket-owner";
        let expected = request.headers().get(OWNER).cloned();
        let expected = expected.as_ref().and_then(|value| value.to_str().ok());
        let owned = |app_id: u64| guard::check_owner(&*handler.authorizer, app_id, expected, OWNER);
        match request.s3_path() {
            S3Path::Root => {
                let app_id = context
                    .principal
                    .as_ref()
                    .map_or(0, |principal| principal.app_id);
                handler.authorize(&context, &bucketless(action, app_id), Acl::Private, false)
            }
            S3Path::Bucket { bucket } if operation == "CreateBucket" => {
                let name = handler.name(&context, bucket)?;
                let access = AccessRequest {
                    action,
                    app_id: name.app_id(),
                    bucket: Some(name.name()),
                    key: None,
                };
                owned(name.app_id())?;
                handler.authorize(&context, &access, Acl::Private, true)
            }
            S3Path::Bucket { bucket } => {
                let bucket = handler.bucket(&context, bucket)?;
                owned(bucket.name.app_id())?;
                handler.check(&context, &bucket, None, action, needs).await
            }
            S3Path::Object { bucket, key } => {
                let bucket = handler.bucket(&context, bucket)?;
                owned(bucket.name.app_id())?;
                let version = version(requested_version(request.uri()).as_deref())?;
                let object = Some((&**key, version));
                handler
                    .check(&context, &bucket, object, action, needs)
                    .await
            }
        }
    }
}

/// Returns the version id in the query.
fn requested_version(uri: &Uri) -> Option<String> {
    let query = uri.query().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let version = pairs.find(|(name, _)| name == "versionId");
    version.map(|(_, version)| version.into_owned())
}

fn bucketless(action: &str, app_id: u64) -> AccessRequest<'_> {
    AccessRequest {
        action,
        app_id,
        bucket: None,
        key: None,
    }
}

impl S3Handler {
    async fn check(
        &self,
        context: &Context,
        bucket: &Bucket,
        object: Option<(&str, Option<VersionId>)>,
        action: &str,
        needs: Needs,
    ) -> S3Result<()> {
        let key = object.map(|(key, _)| key);
        match needs {
            // If the caller can write no object of the bucket, the document is not even read.
            Needs::PerObject if self.can_write_any(context, bucket) => Ok(()),
            Needs::PerObject => Err(denied(context, &of(bucket, key, action))),
            Needs::Read => match object {
                Some((key, version)) => self
                    .authorize_read(context, bucket, key, version, action)
                    .await
                    .map(drop),
                None => self.authorize(context, &of(bucket, None, action), bucket.acl, false),
            },
            Needs::Write => self.authorize(context, &of(bucket, key, action), bucket.acl, true),
            Needs::Owner => self.authorize(context, &of(bucket, key, action), Acl::Private, true),
        }
    }

    /// Returns whether there can be an object that the caller may write.
    fn can_write_any(&self, context: &Context, bucket: &Bucket) -> bool {
        let principal = context.principal.as_ref();
        let own = principal.is_some_and(|principal| principal.app_id == bucket.name.app_id());
        own || bucket.acl == Acl::PublicReadWrite
    }

    /// Rejects an oversized body by its announced length.
    fn check_length(&self, operation: &str, headers: &HeaderMap) -> S3Result<()> {
        let length = headers.get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let Some(length) = length else { return Ok(()) };
        if matches!(operation, "PutObject" | "UploadPart") {
            return self.store.check_capacity(length).map_err(to_s3_error);
        }
        if length > XML as u64 {
            return Err(s3_error!(
                MaxMessageLengthExceeded,
                "the document of {operation} has {length} bytes; up to {XML} are allowed"
            ));
        }
        Ok(())
    }

    /// Authorizes a write of an object.
    pub(super) fn authorize_write(
        &self,
        context: &Context,
        bucket: &Bucket,
        key: &str,
        action: &str,
    ) -> S3Result<()> {
        self.authorize(context, &of(bucket, Some(key), action), bucket.acl, true)
    }

    /// Authorizes a read of an object or version. If only the object's own ACL allows it, the object is returned.
    pub(super) async fn authorize_read(
        &self,
        context: &Context,
        bucket: &Bucket,
        key: &str,
        version: Option<VersionId>,
        action: &str,
    ) -> S3Result<Option<Object>> {
        let access = of(bucket, Some(key), action);
        let denied = match self.authorize(context, &access, Acl::Private, false) {
            Ok(()) => return Ok(None),
            Err(denied) => denied,
        };
        let get = Get {
            version,
            ..Get::default()
        };
        let object = self
            .store
            .head(&bucket.name, &super::context::key(key)?, get)
            .await;
        match object {
            Ok((object, _)) => {
                self.authorize_found(context, bucket, key, action, &object)?;
                Ok(Some(object))
            }
            Err(crate::StoreError::Unavailable(why)) => {
                Err(to_s3_error(crate::StoreError::Unavailable(why)))
            }
            // Only callers who may list the bucket learn that the object is missing.
            Err(missing) => match self.authorize(context, &access, bucket.acl, false) {
                Ok(()) => Err(to_s3_error(missing)),
                Err(_) => Err(denied),
            },
        }
    }

    /// Authorizes a read of the object found, which may have been replaced since the request was authorized.
    pub(super) fn authorize_found(
        &self,
        context: &Context,
        bucket: &Bucket,
        key: &str,
        action: &str,
        object: &Object,
    ) -> S3Result<()> {
        // A private object in a public bucket stays private.
        let acl = object.acl.unwrap_or(bucket.acl);
        self.authorize(context, &of(bucket, Some(key), action), acl, false)
    }
}

fn of<'a>(bucket: &'a Bucket, key: Option<&'a str>, action: &'a str) -> AccessRequest<'a> {
    AccessRequest {
        action,
        app_id: bucket.name.app_id(),
        bucket: Some(bucket.name.name()),
        key,
    }
}
