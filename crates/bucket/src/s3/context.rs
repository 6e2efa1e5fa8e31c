//! Who asks, in which dialect, and which bucket is meant.

use std::sync::Arc;

use http::Extensions;
use s3s::{S3Error, S3Request, S3Result, s3_error};

use super::S3Handler;
use super::errors::to_s3_error;
use crate::authorizer::{AccessRequest, ConnectionPolicy, Principal, Unrestricted};
use crate::cos;
use crate::names::{BucketName, ObjectKey};
use crate::store::{Acl, Bucket, ChangeOrigin};

/// How a client names buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// By their full names, or without their owner's number, which is then the caller's.
    #[default]
    S3,
    /// By their full names alone.
    Cos,
}

impl Dialect {
    /// For messages and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Cos => "cos",
        }
    }
}

/// What is known of a request before it is read.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// How it names buckets.
    pub dialect: Dialect,
    /// Whether it came to a host of COS, where all names are full, whatever the dialect.
    pub full_names: bool,
    /// Its id.
    pub request: String,
    /// The address that it came from.
    pub source_ip: String,
    /// How deep in a chain of functions that cause each other that address is.
    pub depth: u32,
    /// Whether it may be for a new bucket.
    pub may_create: bool,
    /// The connection that it came over.
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

/// Who asks, and how.
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

    /// Where a change comes from.
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

    /// The name under which the caller knows a bucket.
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
    /// The bucket that a name means to a caller. A name that ends like a full one is one if there is such a bucket, or if it is
    /// the caller's own; else it is short.
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

    /// As `name`, of a bucket that there is.
    pub(super) fn bucket(&self, context: &Context, name: &str) -> S3Result<Arc<Bucket>> {
        let name = self.name(context, name)?;
        self.store.bucket(&name).map_err(to_s3_error)
    }

    /// The context of a request, its bucket's full name and its key.
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

    /// Refuses what neither the caller's rights nor the bucket's or object's access list allows.
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

/// The type that an object gets whose writer does not say it. In S3's dialect it has none.
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
