//! Context of a request: the caller, the dialect, and the bucket.

use std::sync::Arc;

use http::Extensions;
use s3s::{S3Error, S3Request, S3Result, s3_error};

use super::errors::to_s3_error;
use super::handler::S3Handler;
use crate::authorizer::{AccessRequest, ConnectionPolicy, Principal, Unrestricted};
use crate::cos;
use crate::names::{BucketName, ObjectKey};
use crate::store::{Acl, Bucket, ChangeOrigin};

/// An API dialect, which determines how buckets are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Full names, or short names in the caller's account.
    #[default]
    S3,
    /// Full names only.
    Cos,
}

impl Dialect {
    /// Returns the name for messages and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Cos => "cos",
        }
    }
}

/// Request data known before S3's handlers run.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// Dialect.
    pub dialect: Dialect,
    /// Whether the host name has COS's form, where all names are full.
    pub full_names: bool,
    /// Request id.
    pub request: String,
    /// Source address.
    pub source_ip: String,
    /// Call-chain depth of the source address.
    pub depth: u32,
    /// Whether the request may create a bucket.
    pub may_create: bool,
    /// Rules of the connection.
    pub connection: Arc<dyn ConnectionPolicy>,
}

impl Default for RequestContext {
    fn default() -> Self {
        Self {
            dialect: Dialect::default(),
            full_names: false,
            request: String::new(),
            source_ip: String::new(),
            depth: 0,
            may_create: false,
            connection: Arc::new(Unrestricted),
        }
    }
}

/// The caller and the request.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) principal: Option<Principal>,
    pub(super) call: RequestContext,
}

impl Context {
    pub(super) fn of(extensions: &Extensions) -> Self {
        Self {
            principal: extensions.get::<Principal>().cloned(),
            call: extensions
                .get::<RequestContext>()
                .cloned()
                .unwrap_or_default(),
        }
    }

    /// Returns the origin of the request's changes.
    pub(super) fn origin(&self) -> ChangeOrigin {
        let principal = self.principal.as_ref();
        ChangeOrigin {
            request: self.call.request.clone(),
            source_ip: self.call.source_ip.clone(),
            by: principal.map(|principal| principal.key_id.clone()),
            depth: principal
                .map_or(0, |principal| principal.depth)
                .max(self.call.depth),
        }
    }

    /// Returns a bucket's name as the caller knows it.
    pub(super) fn shown(&self, name: &BucketName) -> String {
        let own = self
            .principal
            .as_ref()
            .is_some_and(|principal| principal.app_id == name.app_id());
        if own && self.call.dialect == Dialect::S3 && !self.call.full_names {
            name.name().to_owned()
        } else {
            name.as_str().to_owned()
        }
    }
}

impl S3Handler {
    /// Resolves a bucket name. It is a full name if that bucket exists or would be the caller's own, else a short
    /// name.
    pub(super) fn name(&self, context: &Context, name: &str) -> S3Result<BucketName> {
        let invalid = |e: crate::InvalidName| s3_error!(InvalidBucketName, "{e}");
        let full = BucketName::parse(name);
        if context.call.dialect == Dialect::Cos {
            return full.map_err(invalid);
        }
        let Some(principal) = &context.principal else {
            return full.map_err(|_| {
                s3_error!(
                    AccessDenied,
                    "nobody signed, and {name} does not say whose it is; say <name>-<appid>"
                )
            });
        };
        match full {
            Ok(full) if full.app_id() == principal.app_id || self.store.bucket(&full).is_ok() => {
                Ok(full)
            }
            _ => BucketName::new(name, principal.app_id).map_err(invalid),
        }
    }

    /// Like `name`, for an existing bucket.
    pub(super) fn bucket(&self, context: &Context, name: &str) -> S3Result<Arc<Bucket>> {
        let name = self.name(context, name)?;
        self.store.bucket(&name).map_err(to_s3_error)
    }

    /// Returns a request's context, full bucket name and key.
    pub(super) fn object<T>(
        &self,
        request: &S3Request<T>,
        bucket: &str,
        key: &str,
    ) -> S3Result<(Context, BucketName, ObjectKey)> {
        let context = Context::of(&request.extensions);
        let bucket = self.name(&context, bucket)?;
        Ok((context, bucket, self::key(key)?))
    }

    /// Authorizes an action by the ACL, else by the caller's permissions.
    pub(super) fn authorize(
        &self,
        context: &Context,
        access: &AccessRequest<'_>,
        acl: Acl,
        writes: bool,
    ) -> S3Result<()> {
        let listed = match acl {
            Acl::Private => false,
            Acl::PublicRead => !writes,
            Acl::PublicReadWrite => true,
            Acl::AuthenticatedRead => !writes && context.principal.is_some(),
        };
        if listed {
            return Ok(());
        }
        let own = context
            .principal
            .as_ref()
            .filter(|principal| principal.app_id == access.app_id);
        if own.is_some_and(|principal| self.authorizer.allows(principal, access)) {
            return Ok(());
        }
        Err(denied(context, access))
    }
}

/// Returns the default content type of an object. S3's dialect has none.
pub(super) fn default_type(extensions: &Extensions, key: &str) -> Option<String> {
    let call = extensions.get::<RequestContext>()?;
    (call.dialect == Dialect::Cos).then(|| cos::content_type(key))
}

pub(super) fn key(key: &str) -> S3Result<ObjectKey> {
    ObjectKey::parse(key).map_err(|e| s3_error!(KeyTooLongError, "{e}"))
}

pub(super) fn denied(context: &Context, access: &AccessRequest<'_>) -> S3Error {
    let AccessRequest {
        action,
        app_id,
        bucket,
        key,
    } = access;
    let what = match (bucket, key) {
        (Some(bucket), Some(key)) => format!("{key:?} in bucket {bucket}-{app_id}"),
        (Some(bucket), None) => format!("bucket {bucket}-{app_id}"),
        (None, _) => "buckets".to_owned(),
    };
    match &context.principal {
        None => s3_error!(
            AccessDenied,
            "nobody signed this request, and {what} is not open to everybody for {action}; sign it"
        ),
        Some(_) => s3_error!(
            AccessDenied,
            "this key may not do name/cos:{action} on {what}; its account's owner can allow it by a policy"
        ),
    }
}
