//! What the handlers of both dialects share: the store, the authorizer, and the checks before a request is carried out.

use std::sync::Arc;

use http::StatusCode;
use s3s::S3ErrorCode;

use crate::authorizer::{AccessRequest, Authorizer, Principal};
use crate::cos::signature::{Authorization, SignatureError};
use crate::error_response::ErrorResponse;
use crate::names::{BucketName, ObjectKey};
use crate::request_head::RequestHead;
use crate::store::{Acl, Store};

/// The store and who may use it.
pub(crate) struct Core {
    pub(crate) store: Store,
    pub(crate) authorizer: Arc<dyn Authorizer>,
}

impl Core {
    /// Verifies a COS signature.
    pub(crate) fn verify(
        &self,
        head: &RequestHead,
        read: Result<Authorization, SignatureError>,
        token: Option<&str>,
        compare: impl FnOnce(&Authorization, &str, i64) -> Result<(), SignatureError>,
    ) -> Result<Principal, ErrorResponse> {
        let read = read.map_err(refused)?;
        let now = jiff::Timestamp::now().as_second();
        self.authenticate(head, &read.key_id, token, |secret| {
            compare(&read, secret, now).map_err(refused)
        })
    }

    /// Authenticates a request: looks up its key and verifies the signature. Apart from requests that `s3s` verifies,
    /// every authentication passes here.
    pub(crate) fn authenticate(
        &self,
        head: &RequestHead,
        id: &str,
        token: Option<&str>,
        compare: impl FnOnce(&str) -> Result<(), ErrorResponse>,
    ) -> Result<Principal, ErrorResponse> {
        let token = token.filter(|token| !token.is_empty());
        let key = self.authorizer.key(id, token).ok_or_else(|| {
            let message = "the Access Key Id you provided does not exist in our records, is disabled, or its token is not its own";
            ErrorResponse::new(StatusCode::FORBIDDEN, "InvalidAccessKeyId", message)
        });
        let verified = key.and_then(|key| {
            compare(&key.secret)?;
            Ok(key.principal)
        });
        let principal =
            verified.inspect_err(|error_response| self.count_failure(head, error_response))?;
        let accepted = head.client.connection.verified(&principal);
        accepted.map_err(|why| ErrorResponse::new(StatusCode::FORBIDDEN, "AccessDenied", why))?;
        Ok(principal)
    }

    /// Counts a failed authentication against the source address.
    pub(crate) fn count_failure(&self, head: &RequestHead, error_response: &ErrorResponse) {
        if ["SignatureDoesNotMatch", "InvalidAccessKeyId"].contains(&error_response.code.as_str()) {
            self.authorizer.record_failure(head.client.from);
        }
    }

    /// Returns the bucket of a request. A short name belongs to the signer's account.
    pub(crate) fn bucket(
        &self,
        head: &RequestHead,
        signer: Option<&Principal>,
    ) -> Result<BucketName, ErrorResponse> {
        let none = || ErrorResponse::from(S3ErrorCode::NoSuchBucket);
        let name = head.bucket_name().ok_or_else(none)?;
        let full = BucketName::parse(&name).ok();
        let own = signer.and_then(|signer| BucketName::new(&name, signer.app_id).ok());
        let named = [full, own].into_iter().flatten();
        let mut there = named.filter(|name| self.store.bucket(name).is_ok());
        there.next().ok_or_else(none)
    }

    /// Authorizes a write: by the signer's permissions, else by the bucket's ACL.
    pub(crate) fn authorize_write(
        &self,
        signer: Option<&Principal>,
        action: &str,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<(), ErrorResponse> {
        let access = AccessRequest {
            action,
            app_id: bucket.app_id(),
            bucket: Some(bucket.name()),
            key: Some(key.as_str()),
        };
        let own = signer.is_some_and(|signer| self.authorizer.allows(signer, &access));
        let open = || {
            self.store
                .bucket(bucket)
                .is_ok_and(|bucket| bucket.acl == Acl::PublicReadWrite)
        };
        if own || open() {
            Ok(())
        } else {
            Err(S3ErrorCode::AccessDenied.into())
        }
    }
}

fn refused(error: SignatureError) -> ErrorResponse {
    let code = match error {
        SignatureError::Malformed(_) | SignatureError::Repeated(_) => {
            return ErrorResponse::new(
                StatusCode::BAD_REQUEST,
                "InvalidArgument",
                error.to_string(),
            );
        }
        SignatureError::NotYetValid => "RequestTimeTooSkewed",
        SignatureError::Expired | SignatureError::Unsigned(_) => "AccessDenied",
        SignatureError::Mismatch => "SignatureDoesNotMatch",
    };
    ErrorResponse::new(StatusCode::FORBIDDEN, code, error.to_string())
}
