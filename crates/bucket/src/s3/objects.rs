//! Operations on objects.

use futures_util::{StreamExt, TryStreamExt, stream};
use http::HeaderValue;
use http_body_util::StreamBody;
use hyper::body::Frame;
use s3s::dto::*;
use s3s::{Body, S3Request, S3Response, S3Result, s3_error};

use super::buckets::requested_acl;
use super::context::{Context, default_type, key};
use super::convert::{
    acl, announced, body, checksum_type, class, condition, conditions, etag, kinds, meta,
    part_number, put_conditions, put_sums, range, restore, shown_class, shown_version, tags,
    version,
};
use super::crc::{digest, with_crc};
use super::dates::{seconds, timestamp};
use super::errors::to_s3_error;
use super::handler::S3Handler;
use super::{guard, lenient};
use crate::error::StoreError;
use crate::names::{BucketName, ObjectKey};
use crate::notice::ChangeKind;
use crate::store::{
    Bucket, Checksums, CopyMeta, DeleteConditions, DeleteTarget, Get, Object, ObjectKind, Put,
    PutConditions, ReadConditions, SourceObject, Staged, StoredPart,
};

type Answer<T> = S3Result<S3Response<T>>;

/// Builds a `Get` from an input of a read operation.
macro_rules! get_options {
    ($input:expr) => {
        Get {
            version: version($input.version_id.as_deref())?,
            when: conditions(
                $input.if_match.take(),
                $input.if_none_match.take(),
                $input.if_modified_since.as_ref(),
                $input.if_unmodified_since.as_ref(),
            ),
            range: range($input.range),
            part: part_number($input.part_number)?,
        }
    };
}

/// Sets an output's fields from an object.
macro_rules! describe {
    ($output:expr, $object:expr, $bucket:expr, $request:expr) => {{
        let meta = $object.meta.clone();
        $output.cache_control = meta.cache_control;
        $output.content_disposition = meta.content_disposition;
        $output.content_encoding = meta.content_encoding;
        $output.content_language = meta.content_language;
        $output.content_type = Some(
            meta.content_type
                .or_else(|| default_type(&$request.extensions, &$request.input.key))
                .unwrap_or_else(|| "binary/octet-stream".to_owned()),
        );
        $output.e_tag = etag(&$object);
        $output.last_modified = Some(timestamp($object.modified_ms));
        $output.metadata = Some(meta.user.into_iter().collect());
        $output.website_redirect_location = meta.redirect;
        $output.restore = restore(&$object);
        $output.storage_class = shown_class(&$object);
        $output.version_id = shown_version(&$object, $bucket.versioning);
        $output.parts_count = match $object.kind {
            ObjectKind::Multipart(count) if $request.input.part_number.is_some() => {
                Some(count as i32)
            }
            _ => None,
        };
    }};
}

impl S3Handler {
    pub(super) async fn put_object(
        &self,
        mut request: S3Request<PutObjectInput>,
    ) -> Answer<PutObjectOutput> {
        let (context, name, key) =
            self.object(&request, &request.input.bucket, &request.input.key)?;
        let input = &mut request.input;
        let put = Put {
            meta: meta!(input, request.extensions),
            tags: tags(input.tagging.as_deref()),
            acl: requested_acl(
                acl(input.acl.as_ref().map(ObjectCannedACL::as_str))?,
                None,
                &request.headers,
                "",
            )?,
            class: class(input.storage_class.as_ref().map(StorageClass::as_str))?,
            when: PutConditions {
                if_match: condition(input.if_match.take()),
                if_none_match: condition(input.if_none_match.take()),
            },
        };
        let staged = self
            .stage_body(&mut request, |input| input.body.take())
            .await?;
        if let Some(md5) = &request.input.content_md5 {
            staged.check_md5(md5).map_err(digest)?;
        }
        let stored = self
            .store
            .put(&name, &key, staged, put, ChangeKind::Put, context.origin())
            .await;
        let object = stored.map_err(to_s3_error)?;
        let bucket = self.store.bucket(&name).map_err(to_s3_error)?;
        let mut output = PutObjectOutput {
            checksum_type: checksum_type(&object.sums),
            e_tag: etag(&object),
            version_id: shown_version(&object, bucket.versioning),
            ..PutObjectOutput::default()
        };
        put_sums!(output, object.sums);
        Ok(with_crc(S3Response::new(output), &object))
    }

    /// Receives a request's body and verifies its announced checksums.
    pub(super) async fn stage_body<T>(
        &self,
        request: &mut S3Request<T>,
        take: impl FnOnce(&mut T) -> Option<StreamingBlob>,
    ) -> S3Result<Staged> {
        let kinds = kinds(&request.headers)?;
        let content = body(take(&mut request.input));
        let staged = self
            .store
            .stage(content, &kinds)
            .await
            .map_err(to_s3_error)?;
        staged.check(&announced(request)).map_err(to_s3_error)?;
        Ok(staged)
    }

    pub(super) async fn get_object(
        &self,
        mut request: S3Request<GetObjectInput>,
    ) -> Answer<GetObjectOutput> {
        let (context, name, key) =
            self.object(&request, &request.input.bucket, &request.input.key)?;
        if context.principal.is_none() && chooses_headers(&request.input) {
            return Err(s3_error!(
                InvalidRequest,
                "who chooses the answer's headers (response-…) signs the request"
            ));
        }
        let bucket = self.store.bucket(&name).map_err(to_s3_error)?;
        let get = get_options!(request.input);
        let partial = get.range.is_some() || get.part.is_some();
        let got = self
            .store
            .get(&name, &key, get)
            .await
            .map_err(to_s3_error)?;
        let object = got.object;
        self.authorize_found(&context, &bucket, key.as_str(), "GetObject", &object)?;
        // Read errors at the start become an error response. Later the connection can only be closed.
        let mut content = got.content.into_stream();
        let first = content.try_next().await.map_err(to_s3_error)?;
        let content = stream::iter(first.map(Ok)).chain(content);
        let frames = content.map_ok(Frame::data);
        let mut output = GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            body: Some(Body::http_body_unsync(StreamBody::new(frames)).into()),
            content_length: Some((got.range.end - got.range.start) as i64),
            content_range: partial.then(|| content_range(&got.range, object.size)),
            ..GetObjectOutput::default()
        };
        describe!(output, object, bucket, request);
        output.tag_count = Some(object.tags.len() as i32).filter(|count| *count > 0);
        if request.input.checksum_mode.is_some()
            && let Some(sums) = self
                .checksums_of_read(&object, partial, request.input.part_number)
                .await?
        {
            put_sums!(output, sums);
            output.checksum_type = checksum_type(&object.sums);
        }
        let mut response = with_crc(S3Response::new(output), &object);
        if request.input.response_expires.is_none() {
            let kept = object.meta.expires.as_deref();
            set_expires(
                &mut response.headers,
                lenient::answered(&request.extensions, kept),
            );
        }
        Ok(response)
    }

    pub(super) async fn head_object(
        &self,
        mut request: S3Request<HeadObjectInput>,
    ) -> Answer<HeadObjectOutput> {
        let (context, name, key) =
            self.object(&request, &request.input.bucket, &request.input.key)?;
        let bucket = self.store.bucket(&name).map_err(to_s3_error)?;
        let get = get_options!(request.input);
        let partial = get.range.is_some() || get.part.is_some();
        let (object, range) = self
            .store
            .head(&name, &key, get)
            .await
            .map_err(to_s3_error)?;
        self.authorize_found(&context, &bucket, key.as_str(), "HeadObject", &object)?;
        let mut output = HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some((range.end - range.start) as i64),
            content_range: partial.then(|| content_range(&range, object.size)),
            ..HeadObjectOutput::default()
        };
        describe!(output, object, bucket, request);
        if request.input.checksum_mode.is_some()
            && let Some(sums) = self
                .checksums_of_read(&object, partial, request.input.part_number)
                .await?
        {
            put_sums!(output, sums);
            output.checksum_type = checksum_type(&object.sums);
        }
        let mut response = with_crc(S3Response::new(output), &object);
        let kept = object.meta.expires.as_deref();
        set_expires(
            &mut response.headers,
            lenient::answered(&request.extensions, kept),
        );
        if !object.tags.is_empty() {
            let count = http::HeaderValue::from(object.tags.len());
            response.headers.insert("x-amz-tagging-count", count);
        }
        if partial {
            response.status = Some(http::StatusCode::PARTIAL_CONTENT);
        }
        Ok(response)
    }

    pub(super) async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> Answer<DeleteObjectOutput> {
        let (context, name, key) =
            self.object(&request, &request.input.bucket, &request.input.key)?;
        let input = request.input;
        let removed = DeleteTarget {
            version: version(input.version_id.as_deref())?,
            key,
            when: DeleteConditions {
                if_match: condition(input.if_match),
                modified: input.if_match_last_modified_time.as_ref().and_then(seconds),
                size: input.if_match_size,
            },
        };
        let deleted = self
            .store
            .delete(&name, removed, context.origin())
            .await
            .map_err(to_s3_error)?;
        Ok(S3Response::new(DeleteObjectOutput {
            delete_marker: deleted.marker.then_some(true),
            version_id: deleted.version.map(|version| version.to_string()),
            ..DeleteObjectOutput::default()
        }))
    }

    pub(super) async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> Answer<DeleteObjectsOutput> {
        let context = Context::of(&request.extensions);
        let bucket = self.bucket(&context, &request.input.bucket)?;
        let wanted = request.input.delete.objects;
        if wanted.is_empty() || wanted.len() > 1000 {
            let count = wanted.len();
            return Err(s3_error!(
                MalformedXML,
                "the document names {count} objects; it may name 1 to 1000"
            ));
        }
        let quiet = request.input.delete.quiet == Some(true);
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        let removals = wanted
            .into_iter()
            .map(|one| self.remove(&context, &bucket, one));
        for (one, result) in futures_util::future::join_all(removals).await {
            match result {
                Ok(_) if quiet => {}
                Ok(done) => deleted.push(DeletedObject {
                    delete_marker: done.marker.then_some(true),
                    delete_marker_version_id: done
                        .version
                        .filter(|_| done.marker)
                        .map(|version| version.to_string()),
                    key: Some(one.key),
                    version_id: one.version_id,
                }),
                Err(refused) => errors.push(Error {
                    code: Some(refused.code().as_str().to_owned()),
                    key: Some(one.key),
                    message: refused.message().map(str::to_owned),
                    version_id: one.version_id,
                }),
            }
        }
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: Some(deleted),
            errors: Some(errors),
            request_charged: None,
        }))
    }

    async fn remove(
        &self,
        context: &Context,
        bucket: &Bucket,
        one: ObjectIdentifier,
    ) -> (ObjectIdentifier, S3Result<crate::store::Deleted>) {
        let removal = async {
            self.authorize_write(context, bucket, &one.key, "DeleteMultipleObjects")?;
            let removed = DeleteTarget {
                key: key(&one.key)?,
                version: version(one.version_id.as_deref())?,
                when: DeleteConditions {
                    if_match: one.e_tag.as_ref().map(|etag| etag.value().to_owned()),
                    modified: one.last_modified_time.as_ref().and_then(seconds),
                    size: one.size,
                },
            };
            self.store
                .delete(&bucket.name, removed, context.origin())
                .await
                .map_err(to_s3_error)
        };
        let result = removal.await;
        (one, result)
    }

    pub(super) async fn copy_object(
        &self,
        mut request: S3Request<CopyObjectInput>,
    ) -> Answer<CopyObjectOutput> {
        let (context, name, key) =
            self.object(&request, &request.input.bucket, &request.input.key)?;
        let input = &mut request.input;
        let when = conditions(
            input.copy_source_if_match.take(),
            input.copy_source_if_none_match.take(),
            input.copy_source_if_modified_since.as_ref(),
            input.copy_source_if_unmodified_since.as_ref(),
        );
        let replaces = directive(
            input
                .metadata_directive
                .as_ref()
                .map(MetadataDirective::as_str),
            "x-amz-metadata-directive",
        )?;
        let retags = directive(
            input
                .tagging_directive
                .as_ref()
                .map(TaggingDirective::as_str),
            "x-amz-tagging-directive",
        )?;
        let change = CopyMeta {
            meta: replaces.then(|| meta!(input, request.extensions)),
            tags: retags.then(|| tags(input.tagging.as_deref())),
            class: input
                .storage_class
                .as_ref()
                .map(|name| class(Some(name.as_str())))
                .transpose()?,
            acl: requested_acl(
                acl(input.acl.as_ref().map(ObjectCannedACL::as_str))?,
                None,
                &request.headers,
                "",
            )?,
            when: put_conditions(&request.headers),
        };
        let source = self
            .source(
                &context,
                &request.input.copy_source,
                when,
                request.input.expected_source_bucket_owner.as_deref(),
            )
            .await?;
        let from = self.store.bucket(&source.bucket).map_err(to_s3_error)?;
        let copied = self
            .store
            .copy(source, &name, &key, change, context.origin())
            .await;
        let (copy, old) = copied.map_err(to_s3_error)?;
        let bucket = self.store.bucket(&name).map_err(to_s3_error)?;
        let mut result = CopyObjectResult {
            checksum_type: checksum_type(&copy.sums),
            e_tag: etag(&copy),
            last_modified: Some(timestamp(copy.modified_ms)),
            ..CopyObjectResult::default()
        };
        put_sums!(result, copy.sums);
        let output = CopyObjectOutput {
            copy_object_result: Some(result),
            copy_source_version_id: shown_version(&old, from.versioning),
            version_id: shown_version(&copy, bucket.versioning),
            ..CopyObjectOutput::default()
        };
        Ok(with_crc(S3Response::new(output), &copy))
    }

    /// Resolves a copy source and authorizes reading it.
    pub(super) async fn source(
        &self,
        context: &Context,
        source: &CopySource,
        when: ReadConditions,
        owner: Option<&str>,
    ) -> S3Result<SourceObject> {
        let CopySource::Bucket {
            bucket,
            key: wanted,
            version_id,
        } = source
        else {
            return Err(s3_error!(
                NotImplemented,
                "a copy's source is <bucket>/<key>; access points are not implemented"
            ));
        };
        let bucket = self.bucket(context, bucket)?;
        guard::check_owner(
            &*self.authorizer,
            bucket.name.app_id(),
            owner,
            "x-amz-source-expected-bucket-owner",
        )?;
        let version = version(version_id.as_deref())?;
        let seen = self
            .authorize_read(context, &bucket, wanted, version, "GetObject")
            .await?;
        let when = match seen {
            Some(seen) => pin_to_seen(&seen, &when)?,
            None => when,
        };
        Ok(SourceObject {
            bucket: bucket.name.clone(),
            key: key(wanted)?,
            version,
            when,
        })
    }

    /// Returns the checksums of the bytes read: the whole object, or one part.
    async fn checksums_of_read(
        &self,
        object: &Object,
        partial: bool,
        part: Option<i32>,
    ) -> S3Result<Option<Checksums>> {
        match (partial, part, object.kind) {
            (false, ..) => Ok(Some(object.sums.clone())),
            (true, Some(number), ObjectKind::Multipart(_)) => {
                let parts = self.store.object_parts(object).await.map_err(to_s3_error)?;
                let of = |part: &StoredPart| i64::from(part.number) == i64::from(number);
                Ok(parts.into_iter().find(of).map(|part| part.sums))
            }
            _ => Ok(None),
        }
    }

    pub(super) async fn known(
        &self,
        name: &BucketName,
        key: &ObjectKey,
        wanted: Option<&str>,
    ) -> S3Result<Object> {
        let get = Get {
            version: version(wanted)?,
            ..Get::default()
        };
        let (object, _) = self.store.head(name, key, get).await.map_err(to_s3_error)?;
        Ok(object)
    }

    pub(super) fn versioned(&self, name: &BucketName, object: &Object) -> S3Result<Option<String>> {
        let bucket = self.store.bucket(name).map_err(to_s3_error)?;
        Ok(shown_version(object, bucket.versioning))
    }
}

fn set_expires(headers: &mut http::HeaderMap, expires: Option<HeaderValue>) {
    if let Some(expires) = expires {
        headers.insert(http::header::EXPIRES, expires);
    }
}

fn content_range(range: &std::ops::Range<u64>, size: u64) -> String {
    // A part may be empty; a range never is.
    format!(
        "bytes {}-{}/{size}",
        range.start,
        range.end.saturating_sub(1)
    )
}

/// Adds preconditions so that the copy uses the object that was authorized, and not one that replaced it.
fn pin_to_seen(seen: &Object, when: &ReadConditions) -> S3Result<ReadConditions> {
    when.check(seen).map_err(|why| match why {
        StoreError::NotModified { .. } => {
            to_s3_error(StoreError::PreconditionFailed("x-amz-copy-source-if"))
        }
        other => to_s3_error(other),
    })?;
    Ok(ReadConditions {
        if_match: Some(vec![seen.etag.clone()]),
        ..ReadConditions::default()
    })
}

/// Parses a directive. Returns whether it says to replace.
fn directive(given: Option<&str>, name: &str) -> S3Result<bool> {
    match given {
        None | Some("COPY" | "Copy") => Ok(false),
        Some("REPLACE" | "Replaced") => Ok(true),
        Some(other) => Err(s3_error!(
            InvalidArgument,
            "{name} is {other:?}; it may be COPY or REPLACE"
        )),
    }
}

/// Returns whether a read overrides response headers. Anonymous callers could turn an object into a web page.
fn chooses_headers(input: &GetObjectInput) -> bool {
    input.response_cache_control.is_some()
        || input.response_content_disposition.is_some()
        || input.response_content_encoding.is_some()
        || input.response_content_language.is_some()
        || input.response_content_type.is_some()
        || input.response_expires.is_some()
}
