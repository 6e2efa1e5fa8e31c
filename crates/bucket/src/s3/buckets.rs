//! Operations on buckets.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::context::{Context, Dialect};
use super::convert::{acl, shown_tags, tag_set, tags};
use super::dates::timestamp;
use super::document;
use super::errors::to_s3_error;
use super::handler::S3Handler;
use crate::cos::response::GROUPS;
use crate::store::{Acl, Bucket as StoredBucket, CorsRule, Versioning};

type Answer<T> = S3Result<S3Response<T>>;

impl S3Handler {
    pub(super) async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> Answer<CreateBucketOutput> {
        let context = Context::of(&request.extensions);
        let name = self.name(&context, &request.input.bucket)?;
        let own = context
            .principal
            .as_ref()
            .is_some_and(|principal| principal.app_id == name.app_id());
        if !own {
            return Err(s3_error!(
                AccessDenied,
                "a bucket's name ends with the number of its owner's account"
            ));
        }
        if request.input.object_lock_enabled_for_bucket == Some(true) {
            return Err(s3_error!(
                NotImplemented,
                "object lock is not implemented; leave it out"
            ));
        }
        let configuration = request.input.create_bucket_configuration;
        let configuration = configuration.unwrap_or_default();
        if configuration.bucket.is_some() || configuration.location.is_some() {
            return Err(s3_error!(
                NotImplemented,
                "Bucket and Location of a CreateBucketConfiguration are not implemented; leave them out"
            ));
        }
        let canned = acl(request.input.acl.as_ref().map(|acl| acl.as_str()))?;
        let list = requested_acl(canned, None, &request.headers, "")?;
        // COS sends tags of a new bucket in a header, S3 in the document.
        let given = request.headers.get("x-amz-tagging");
        let mut tags = tags(given.and_then(|value| value.to_str().ok()));
        let of_document = document::tags(&request.extensions)?;
        if !of_document.is_empty() {
            if !tags.is_empty() {
                return Err(s3_error!(
                    InvalidArgument,
                    "the bucket's tags are in x-amz-tagging and in the CreateBucketConfiguration; send them once"
                ));
            }
            tags = of_document;
        }
        let bucket = self
            .store
            .create_bucket(&name, list.unwrap_or_default(), tags)
            .await;
        let bucket = bucket.map_err(to_s3_error)?;
        Ok(S3Response::new(CreateBucketOutput {
            location: Some(format!("/{}", context.shown(&bucket.name))),
        }))
    }

    pub(super) async fn list_buckets(
        &self,
        request: S3Request<ListBucketsInput>,
    ) -> Answer<ListBucketsOutput> {
        let context = Context::of(&request.extensions);
        let app_id = context
            .principal
            .as_ref()
            .map_or(0, |principal| principal.app_id);
        let prefix = request.input.prefix.clone().unwrap_or_default();
        let after = request.input.continuation_token.clone().unwrap_or_default();
        let most = request
            .input
            .max_buckets
            .map_or(usize::MAX, |most| most.max(1) as usize);
        let named = self
            .store
            .buckets(app_id)
            .into_iter()
            .map(|bucket| (context.shown(&bucket.name), bucket));
        let region = self.authorizer.region();
        let other_region = request.input.bucket_region.as_ref();
        let other_region = other_region.is_some_and(|asked| *asked != region);
        let mut buckets: Vec<_> = named
            .filter(|_| !other_region)
            .filter(|(name, _)| name.starts_with(&prefix) && *name > after)
            .collect();
        buckets.sort_by(|a, b| a.0.cmp(&b.0));
        let more = buckets.len() > most;
        buckets.truncate(most);
        let continuation_token = buckets
            .last()
            .filter(|_| more)
            .map(|(name, _)| name.clone());
        let buckets = buckets.into_iter().map(|(name, bucket)| Bucket {
            bucket_region: Some(region.clone()),
            creation_date: Some(timestamp(bucket.created_ms)),
            name: Some(name),
        });
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(buckets.collect()),
            continuation_token,
            owner: Some(self.owner(app_id)),
            prefix: request.input.prefix,
        }))
    }

    pub(super) async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> Answer<HeadBucketOutput> {
        self.bucket(&Context::of(&request.extensions), &request.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput {
            bucket_region: Some(self.authorizer.region()),
            ..HeadBucketOutput::default()
        }))
    }

    pub(super) async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> Answer<DeleteBucketOutput> {
        let context = Context::of(&request.extensions);
        let name = self.name(&context, &request.input.bucket)?;
        // COS requires uploads to be finished first; S3 does not.
        let uploads = context.call.dialect == Dialect::S3;
        let deleted = self.store.delete_bucket(&name, uploads).await;
        deleted.map_err(to_s3_error)?;
        Ok(S3Response::new(DeleteBucketOutput {}))
    }

    pub(super) async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> Answer<GetBucketLocationOutput> {
        self.bucket(&Context::of(&request.extensions), &request.input.bucket)?;
        Ok(S3Response::new(GetBucketLocationOutput {
            location_constraint: Some(BucketLocationConstraint::from(self.authorizer.region())),
        }))
    }

    pub(super) async fn get_bucket_acl(
        &self,
        request: S3Request<GetBucketAclInput>,
    ) -> Answer<GetBucketAclOutput> {
        let bucket = self.bucket(&Context::of(&request.extensions), &request.input.bucket)?;
        Ok(S3Response::new(GetBucketAclOutput {
            grants: Some(grants(self.owner(bucket.name.app_id()), bucket.acl)),
            owner: Some(self.owner(bucket.name.app_id())),
        }))
    }

    pub(super) async fn put_bucket_acl(
        &self,
        request: S3Request<PutBucketAclInput>,
    ) -> Answer<PutBucketAclOutput> {
        let name = self.name(&Context::of(&request.extensions), &request.input.bucket)?;
        let canned = acl(request.input.acl.as_ref().map(|acl| acl.as_str()))?;
        let list = requested_acl(
            canned,
            request.input.access_control_policy,
            &request.headers,
            &self.authorizer.owner(name.app_id()),
        )?;
        self.store
            .set_bucket_acl(&name, list.unwrap_or_default())
            .await
            .map_err(to_s3_error)?;
        Ok(S3Response::new(PutBucketAclOutput::default()))
    }

    pub(super) async fn get_bucket_cors(
        &self,
        request: S3Request<GetBucketCorsInput>,
    ) -> Answer<GetBucketCorsOutput> {
        let bucket = self.bucket(&Context::of(&request.extensions), &request.input.bucket)?;
        if bucket.cors.is_empty() {
            return Err(s3_error!(
                NoSuchCORSConfiguration,
                "the bucket has no rules for pages of other origins"
            ));
        }
        let rules = bucket.cors.iter().map(|rule| CORSRule {
            allowed_headers: Some(rule.headers.clone()).filter(|headers| !headers.is_empty()),
            allowed_methods: rule.methods.clone(),
            allowed_origins: rule.origins.clone(),
            expose_headers: Some(rule.expose.clone()).filter(|headers| !headers.is_empty()),
            id: rule.id.clone(),
            max_age_seconds: rule.max_age.map(|seconds| seconds as i32),
        });
        Ok(S3Response::new(GetBucketCorsOutput {
            cors_rules: Some(rules.collect()),
        }))
    }

    pub(super) async fn put_bucket_cors(
        &self,
        request: S3Request<PutBucketCorsInput>,
    ) -> Answer<PutBucketCorsOutput> {
        const METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];
        let name = self.name(&Context::of(&request.extensions), &request.input.bucket)?;
        let rules = request
            .input
            .cors_configuration
            .cors_rules
            .into_iter()
            .map(|rule| {
                if let Some(wrong) = rule
                    .allowed_methods
                    .iter()
                    .find(|method| !METHODS.contains(&method.as_str()))
                {
                    return Err(s3_error!(
                        InvalidRequest,
                        "AllowedMethod is {wrong:?}; it may be GET, PUT, HEAD, POST or DELETE"
                    ));
                }
                if rule
                    .allowed_origins
                    .iter()
                    .any(|origin| origin.matches('*').count() > 1)
                {
                    return Err(s3_error!(InvalidRequest, "an AllowedOrigin may have one *"));
                }
                Ok(CorsRule {
                    id: rule.id,
                    origins: rule.allowed_origins,
                    methods: rule.allowed_methods,
                    headers: rule.allowed_headers.unwrap_or_default(),
                    expose: rule.expose_headers.unwrap_or_default(),
                    max_age: rule
                        .max_age_seconds
                        .and_then(|seconds| u32::try_from(seconds).ok()),
                })
            });
        let rules = rules.collect::<S3Result<Vec<_>>>()?;
        self.store
            .set_cors(&name, rules)
            .await
            .map_err(to_s3_error)?;
        Ok(S3Response::new(PutBucketCorsOutput::default()))
    }

    pub(super) async fn delete_bucket_cors(
        &self,
        request: S3Request<DeleteBucketCorsInput>,
    ) -> Answer<DeleteBucketCorsOutput> {
        let name = self.name(&Context::of(&request.extensions), &request.input.bucket)?;
        self.store
            .set_cors(&name, Vec::new())
            .await
            .map_err(to_s3_error)?;
        Ok(S3Response::new(DeleteBucketCorsOutput::default()))
    }

    pub(super) async fn get_bucket_tagging(
        &self,
        request: S3Request<GetBucketTaggingInput>,
    ) -> Answer<GetBucketTaggingOutput> {
        let bucket = self.bucket(&Context::of(&request.extensions), &request.input.bucket)?;
        if bucket.tags.is_empty() {
            return Err(s3_error!(NoSuchTagSet, "the bucket has no tags"));
        }
        Ok(S3Response::new(GetBucketTaggingOutput {
            tag_set: shown_tags(&bucket.tags),
        }))
    }

    pub(super) async fn put_bucket_tagging(
        &self,
        request: S3Request<PutBucketTaggingInput>,
    ) -> Answer<PutBucketTaggingOutput> {
        let name = self.name(&Context::of(&request.extensions), &request.input.bucket)?;
        let tags = tag_set(request.input.tagging.tag_set);
        self.store
            .set_bucket_tags(&name, tags)
            .await
            .map_err(to_s3_error)?;
        Ok(S3Response::new(PutBucketTaggingOutput::default()))
    }

    pub(super) async fn delete_bucket_tagging(
        &self,
        request: S3Request<DeleteBucketTaggingInput>,
    ) -> Answer<DeleteBucketTaggingOutput> {
        let name = self.name(&Context::of(&request.extensions), &request.input.bucket)?;
        self.store
            .set_bucket_tags(&name, Vec::new())
            .await
            .map_err(to_s3_error)?;
        Ok(S3Response::new(DeleteBucketTaggingOutput::default()))
    }

    pub(super) async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> Answer<GetBucketVersioningOutput> {
        let bucket = self.bucket(&Context::of(&request.extensions), &request.input.bucket)?;
        let status = match bucket.versioning {
            Versioning::Off => None,
            Versioning::Enabled => Some(BucketVersioningStatus::from_static(
                BucketVersioningStatus::ENABLED,
            )),
            Versioning::Suspended => Some(BucketVersioningStatus::from_static(
                BucketVersioningStatus::SUSPENDED,
            )),
        };
        Ok(S3Response::new(GetBucketVersioningOutput {
            status,
            ..GetBucketVersioningOutput::default()
        }))
    }

    pub(super) async fn put_bucket_versioning(
        &self,
        request: S3Request<PutBucketVersioningInput>,
    ) -> Answer<PutBucketVersioningOutput> {
        let name = self.name(&Context::of(&request.extensions), &request.input.bucket)?;
        let wanted = request.input.versioning_configuration;
        if wanted
            .mfa_delete
            .is_some_and(|mfa| mfa.as_str() != MFADelete::DISABLED)
        {
            return Err(s3_error!(
                NotImplemented,
                "MfaDelete is not implemented, and would not be kept; leave it out"
            ));
        }
        let status = wanted.status;
        let enabled = match status.as_ref().map(BucketVersioningStatus::as_str) {
            Some("Enabled") => true,
            Some("Suspended") => false,
            other => {
                let given = other.unwrap_or_default();
                return Err(s3_error!(
                    MalformedXML,
                    "Status is {given:?}; it may be Enabled or Suspended"
                ));
            }
        };
        self.store
            .set_versioning(&name, enabled)
            .await
            .map_err(to_s3_error)?;
        Ok(S3Response::new(PutBucketVersioningOutput::default()))
    }
}

impl S3Handler {
    /// Returns the owner of an account's buckets.
    pub(super) fn owner(&self, app_id: u64) -> Owner {
        let name = self.authorizer.owner(app_id);
        Owner {
            display_name: Some(name.clone()),
            id: Some(name),
        }
    }
}

const EVERYBODY: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const SIGNED: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";

/// Returns an ACL as a list of grants.
pub(super) fn grants(owner: Owner, acl: Acl) -> Vec<Grant> {
    let grant = |grantee, permission: &'static str| Grant {
        grantee: Some(grantee),
        permission: Some(Permission::from_static(permission)),
    };
    let group = |uri: &str| Grantee {
        display_name: None,
        email_address: None,
        id: None,
        type_: Type::from_static(Type::GROUP),
        uri: Some(uri.to_owned()),
    };
    let own = Grantee {
        display_name: owner.display_name,
        email_address: None,
        id: owner.id,
        type_: Type::from_static(Type::CANONICAL_USER),
        uri: None,
    };
    let mut grants = vec![grant(own, Permission::FULL_CONTROL)];
    match acl {
        Acl::Private => {}
        Acl::PublicRead => grants.push(grant(group(EVERYBODY), Permission::READ)),
        Acl::PublicReadWrite => {
            grants.push(grant(group(EVERYBODY), Permission::READ));
            grants.push(grant(group(EVERYBODY), Permission::WRITE));
        }
        Acl::AuthenticatedRead => grants.push(grant(group(SIGNED), Permission::READ)),
    }
    grants
}

/// Returns the ACL that a request sets: a canned one, or grants that are equivalent to one.
pub(super) fn requested_acl(
    canned: Option<Acl>,
    spelled: Option<AccessControlPolicy>,
    headers: &http::HeaderMap,
    owner: &str,
) -> S3Result<Option<Acl>> {
    let unknown = || {
        s3_error!(
            NotImplemented,
            "lists that name single grantees are not implemented; use a canned one (private, public-read, public-read-write, \
             authenticated-read), or a policy of the account"
        )
    };
    if headers
        .keys()
        .any(|name| name.as_str().starts_with("x-amz-grant-"))
    {
        return Err(unknown());
    }
    let Some(spelled) = spelled else {
        return Ok(canned);
    };
    let said = spelled.owner.and_then(|owner| owner.id);
    if said.is_some_and(|said| said != owner) {
        return Err(s3_error!(
            AccessDenied,
            "the list's Owner is another than the bucket's, {owner}; an owner cannot be changed"
        ));
    }
    let (mut read, mut write, mut signed, mut owns) = (false, false, false, false);
    for grant in spelled.grants.unwrap_or_default() {
        let permission = grant
            .permission
            .as_ref()
            .map(Permission::as_str)
            .unwrap_or_default()
            .to_owned();
        let grantee = grant.grantee.ok_or_else(unknown)?;
        let group = group_of(&grantee);
        match (group, permission.as_str()) {
            (None, "FULL_CONTROL") if grantee.id.as_deref() == Some(owner) => owns = true,
            (Some("AllUsers"), "READ") => read = true,
            (Some("AllUsers"), "WRITE") => write = true,
            (Some("AuthenticatedUsers"), "READ") => signed = true,
            _ => return Err(unknown()),
        }
    }
    if !owns {
        return Err(s3_error!(
            NotImplemented,
            "a list that does not give its owner, {owner}, FULL_CONTROL is not implemented: the owner always has it"
        ));
    }
    match (read, write, signed) {
        (false, false, false) => Ok(Some(Acl::Private)),
        (true, false, _) => Ok(Some(Acl::PublicRead)),
        (true, true, _) => Ok(Some(Acl::PublicReadWrite)),
        (false, false, true) => Ok(Some(Acl::AuthenticatedRead)),
        (false, true, _) => Err(unknown()),
    }
}

/// Returns the group of a grantee, given as S3's or COS's URI, or as COS's id for everyone.
fn group_of(grantee: &Grantee) -> Option<&str> {
    if grantee.id.as_deref() == Some("qcs::cam::anyone:anyone") {
        return Some("AllUsers");
    }
    let uri = grantee.uri.as_deref()?;
    let named = GROUPS.iter().find_map(|prefix| uri.strip_prefix(prefix));
    Some(named.unwrap_or(uri))
}

/// Returns the bucket's name as a listing shows it.
pub(super) fn shown(context: &Context, bucket: &StoredBucket) -> String {
    match context.call.dialect {
        Dialect::S3 => context.shown(&bucket.name),
        Dialect::Cos => bucket.name.as_str().to_owned(),
    }
}
