//! Multipart upload operations.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::buckets::requested_acl;
use super::convert::{
    acl, announced, checksum_type, class, condition, conditions, etag, kind, kind_name, meta,
    part_number, put_conditions, put_sums, tags, type_name,
};
use super::crc::{CRC64, digest, with_crc};
use super::dates::timestamp;
use super::errors::to_s3_error;
use super::handler::S3Handler;
use super::listing::limit;
use crate::store::{self, ByteRange, ChecksumKind, Checksums, Get, Put, PutConditions, UploadSpec};

type Answer<T> = S3Result<S3Response<T>>;

impl S3Handler {
    pub(super) async fn create_multipart_upload(
        &self,
        mut request: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        let (context, name, key) =
            self.object(&request, &request.input.bucket, &request.input.key)?;
        let input = &mut request.input;
        let checksum = kind(
            input
                .checksum_algorithm
                .as_ref()
                .map_or("", ChecksumAlgorithm::as_str),
        )?;
        let full_object = full_object(checksum, input.checksum_type.as_ref())?;
        let spec = UploadSpec {
            put: Put {
                meta: meta!(input, request.extensions),
                tags: tags(input.tagging.as_deref()),
                acl: requested_acl(
                    acl(input.acl.as_ref().map(ObjectCannedACL::as_str))?,
                    None,
                    &request.headers,
                    "",
                )?,
                class: class(input.storage_class.as_ref().map(StorageClass::as_str))?,
                when: put_conditions(&request.headers),
            },
            checksum,
            full_object,
            by: context.principal.as_ref().map(|by| by.app_id),
        };
        let upload = self
            .store
            .begin_upload(&name, &key, spec)
            .await
            .map_err(to_s3_error)?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(context.shown(&name)),
            checksum_algorithm: checksum.map(|kind| kind_name(kind).to_owned().into()),
            checksum_type: checksum.map(|_| type_name(full_object)),
            key: Some(key.as_str().to_owned()),
            upload_id: Some(upload.id),
            ..CreateMultipartUploadOutput::default()
        }))
    }

    pub(super) async fn upload_part(
        &self,
        mut request: S3Request<UploadPartInput>,
    ) -> Answer<UploadPartOutput> {
        let (_, name, key) = self.object(&request, &request.input.bucket, &request.input.key)?;
        let number = number(request.input.part_number)?;
        // Check before the body is read.
        let upload = self
            .store
            .upload(&name, &key, &request.input.upload_id)
            .await
            .map_err(to_s3_error)?;
        with_kind(&mut request, upload.checksum);
        let staged = self
            .stage_body(&mut request, |input| input.body.take())
            .await?;
        if let Some(md5) = &request.input.content_md5 {
            staged.check_md5(md5).map_err(digest)?;
        }
        let part = self
            .store
            .put_part(&name, &key, &upload.id, number, staged)
            .await
            .map_err(to_s3_error)?;
        let mut output = UploadPartOutput {
            e_tag: Some(ETag::Strong(part.etag.clone())),
            ..UploadPartOutput::default()
        };
        put_sums!(output, part.sums);
        let mut response = S3Response::new(output);
        response.headers.insert(CRC64, part.crc64.into());
        Ok(response)
    }

    pub(super) async fn upload_part_copy(
        &self,
        mut request: S3Request<UploadPartCopyInput>,
    ) -> Answer<UploadPartCopyOutput> {
        let (context, name, key) =
            self.object(&request, &request.input.bucket, &request.input.key)?;
        let input = &mut request.input;
        let number = number(input.part_number)?;
        let when = conditions(
            input.copy_source_if_match.take(),
            input.copy_source_if_none_match.take(),
            input.copy_source_if_modified_since.as_ref(),
            input.copy_source_if_unmodified_since.as_ref(),
        );
        let upload = self
            .store
            .upload(&name, &key, &input.upload_id)
            .await
            .map_err(to_s3_error)?;
        let source = self
            .source(
                &context,
                &request.input.copy_source,
                when,
                request.input.expected_source_bucket_owner.as_deref(),
            )
            .await?;
        let range = request
            .input
            .copy_source_range
            .as_deref()
            .map(copy_range)
            .transpose()?;
        let get = Get {
            version: source.version,
            when: source.when,
            range,
            part: None,
        };
        let got = match self.store.get(&source.bucket, &source.key, get).await {
            Err(crate::StoreError::NotModified { .. }) => {
                return Err(to_s3_error(crate::StoreError::PreconditionFailed(
                    "x-amz-copy-source-if",
                )));
            }
            got => got.map_err(to_s3_error)?,
        };
        // The range of a read may exceed the object, but that of a part may not.
        if let Some(ByteRange::From(_, Some(last))) = range
            && last >= got.object.size
        {
            return Err(to_s3_error(crate::StoreError::InvalidRange(
                got.object.size,
            )));
        }
        let kinds: Vec<_> = upload.checksum.into_iter().collect();
        let staged = self
            .store
            .stage(got.content.into_stream(), &kinds)
            .await
            .map_err(to_s3_error)?;
        let part = self
            .store
            .put_part(&name, &key, &upload.id, number, staged)
            .await
            .map_err(to_s3_error)?;
        let from = self.store.bucket(&source.bucket).map_err(to_s3_error)?;
        let mut result = CopyPartResult {
            e_tag: Some(ETag::Strong(part.etag.clone())),
            last_modified: Some(timestamp(part.modified_ms)),
            ..CopyPartResult::default()
        };
        put_sums!(result, part.sums);
        Ok(S3Response::new(UploadPartCopyOutput {
            copy_part_result: Some(result),
            copy_source_version_id: super::convert::shown_version(&got.object, from.versioning),
            ..UploadPartCopyOutput::default()
        }))
    }

    pub(super) async fn list_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> Answer<ListPartsOutput> {
        let (context, name, key) =
            self.object(&request, &request.input.bucket, &request.input.key)?;
        let input = request.input;
        let limit = limit(input.max_parts, "max-parts")?;
        let after = match &input.part_number_marker {
            Some(marker) => u32::try_from(*marker).map_err(|_| {
                s3_error!(
                    InvalidArgument,
                    "part-number-marker is {marker}; it is a number"
                )
            })?,
            None => 0,
        };
        let page = self
            .store
            .parts(&name, &key, &input.upload_id, after, limit)
            .await
            .map_err(to_s3_error)?;
        let next = page.parts.last().map(|part| part.number);
        let own = self.owner(name.app_id());
        let parts = page.parts.into_iter().map(|part| {
            let mut shown = Part {
                e_tag: Some(ETag::Strong(part.etag)),
                last_modified: Some(timestamp(part.modified_ms)),
                part_number: Some(part.number as i32),
                size: Some(part.size as i64),
                ..Part::default()
            };
            put_sums!(shown, part.sums);
            shown
        });
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(context.shown(&name)),
            checksum_algorithm: page
                .upload
                .checksum
                .map(|kind| kind_name(kind).to_owned().into()),
            checksum_type: page
                .upload
                .checksum
                .map(|_| type_name(page.upload.full_object)),
            initiator: Some(self.initiator(&page.upload, name.app_id())),
            is_truncated: Some(page.more),
            key: Some(key.as_str().to_owned()),
            max_parts: Some(limit as i32),
            next_part_number_marker: next.map(|next| next as i32),
            owner: Some(own),
            part_number_marker: Some(after as i32),
            parts: Some(parts.collect()),
            storage_class: Some(page.upload.class.as_str().to_owned().into()),
            upload_id: Some(page.upload.id),
            ..ListPartsOutput::default()
        }))
    }

    pub(super) async fn complete_multipart_upload(
        &self,
        mut request: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let (context, name, key) =
            self.object(&request, &request.input.bucket, &request.input.key)?;
        let input = &mut request.input;
        let when = PutConditions {
            if_match: condition(input.if_match.take()),
            if_none_match: condition(input.if_none_match.take()),
        };
        let parts = input
            .multipart_upload
            .take()
            .and_then(|upload| upload.parts)
            .unwrap_or_default();
        let parts = parts
            .into_iter()
            .map(completed)
            .collect::<S3Result<Vec<_>>>()?;
        let id = input.upload_id.clone();
        let size = input.mpu_object_size;
        let sums = announced(&request);
        let done = self
            .store
            .complete_upload(&name, &key, &id, parts, sums, when, size, context.origin())
            .await;
        let object = done.map_err(to_s3_error)?;
        let bucket = self.store.bucket(&name).map_err(to_s3_error)?;
        let shown = context.shown(&name);
        let mut output = CompleteMultipartUploadOutput {
            location: Some(format!("/{shown}/{}", key.as_str())),
            bucket: Some(shown),
            checksum_type: checksum_type(&object.sums),
            e_tag: etag(&object),
            key: Some(key.as_str().to_owned()),
            version_id: super::convert::shown_version(&object, bucket.versioning),
            ..CompleteMultipartUploadOutput::default()
        };
        put_sums!(output, object.sums);
        Ok(with_crc(S3Response::new(output), &object))
    }

    pub(super) async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        let (_, name, key) = self.object(&request, &request.input.bucket, &request.input.key)?;
        self.store
            .abort_upload(&name, &key, &request.input.upload_id)
            .await
            .map_err(to_s3_error)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}

impl S3Handler {
    /// Returns the initiator of an upload.
    pub(super) fn initiator(&self, upload: &store::Upload, app_id: u64) -> Initiator {
        let by = self.owner(upload.by.unwrap_or(app_id));
        Initiator {
            display_name: by.display_name,
            id: by.id,
        }
    }
}

fn completed(part: CompletedPart) -> S3Result<store::CompletedPart> {
    Ok(store::CompletedPart {
        number: number(part.part_number.unwrap_or_default())?,
        etag: part.e_tag.map(ETag::into_value).unwrap_or_default(),
        sums: Checksums {
            crc32: part.checksum_crc32,
            crc32c: part.checksum_crc32c,
            crc64nvme: part.checksum_crc64nvme,
            sha1: part.checksum_sha1,
            sha256: part.checksum_sha256,
            composite: false,
        },
    })
}

fn number(number: i32) -> S3Result<u32> {
    Ok(part_number(Some(number))?.unwrap_or_default())
}

/// Returns whether the checksum covers the whole object. Checksums that cannot be combined are composite.
fn full_object(kind: Option<ChecksumKind>, asked: Option<&ChecksumType>) -> S3Result<bool> {
    let full = match asked.map(ChecksumType::as_str) {
        None => return Ok(kind == Some(ChecksumKind::Crc64Nvme)),
        Some("FULL_OBJECT") => true,
        Some("COMPOSITE") => false,
        Some(other) => {
            return Err(s3_error!(
                InvalidRequest,
                "x-amz-checksum-type is {other:?}; it may be FULL_OBJECT or COMPOSITE"
            ));
        }
    };
    match kind {
        Some(ChecksumKind::Sha1 | ChecksumKind::Sha256) if full => Err(s3_error!(
            InvalidRequest,
            "a FULL_OBJECT checksum of an upload in parts may be CRC32, CRC32C or CRC64NVME"
        )),
        Some(ChecksumKind::Crc64Nvme) if !full => Err(s3_error!(
            InvalidRequest,
            "CRC64NVME of an upload in parts is a FULL_OBJECT checksum"
        )),
        _ => Ok(full),
    }
}

/// Requests the upload's checksum for a part that does not announce it.
fn with_kind<T>(request: &mut S3Request<T>, kind: Option<ChecksumKind>) {
    const NAME: &str = "x-amz-checksum-algorithm";
    if let Some(kind) = kind {
        request
            .headers
            .insert(NAME, http::HeaderValue::from_static(kind_name(kind)));
    }
}

fn copy_range(range: &str) -> S3Result<ByteRange> {
    match Range::parse(range) {
        Ok(Range::Int {
            first,
            last: Some(last),
        }) => Ok(ByteRange::From(first, Some(last))),
        _ => Err(s3_error!(
            InvalidArgument,
            "x-amz-copy-source-range is {range:?}; it has the form bytes=<first>-<last>"
        )),
    }
}
