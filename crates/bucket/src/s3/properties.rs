//! Operations on what an object has besides its bytes: ACL, tags, attributes, and whether it is restored from an archive.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::buckets::{grants, requested_acl};
use super::convert::{acl, checksum_type, etag, put_sums, shown_tags, tag_set, version};
use super::dates::timestamp;
use super::errors::to_s3_error;
use super::handler::S3Handler;
use super::listing::limit;
use crate::store::{ObjectKind, StoredPart};

type Answer<T> = S3Result<S3Response<T>>;

impl S3Handler {
    pub(super) async fn get_object_acl(
        &self,
        request: S3Request<GetObjectAclInput>,
    ) -> Answer<GetObjectAclOutput> {
        let (_, name, key) = self.object(&request, &request.input.bucket, &request.input.key)?;
        let object = self
            .known(&name, &key, request.input.version_id.as_deref())
            .await?;
        Ok(S3Response::new(GetObjectAclOutput {
            grants: Some(grants(
                self.owner(name.app_id()),
                object.acl.unwrap_or_default(),
            )),
            owner: Some(self.owner(name.app_id())),
            request_charged: None,
        }))
    }

    pub(super) async fn put_object_acl(
        &self,
        request: S3Request<PutObjectAclInput>,
    ) -> Answer<PutObjectAclOutput> {
        let (_, name, key) = self.object(&request, &request.input.bucket, &request.input.key)?;
        let canned = acl(request.input.acl.as_ref().map(ObjectCannedACL::as_str))?;
        let list = requested_acl(
            canned,
            request.input.access_control_policy,
            &request.headers,
            &self.authorizer.owner(name.app_id()),
        )?;
        let version = version(request.input.version_id.as_deref())?;
        self.store
            .set_object_acl(&name, &key, version, list)
            .await
            .map_err(to_s3_error)?;
        Ok(S3Response::new(PutObjectAclOutput::default()))
    }

    pub(super) async fn get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> Answer<GetObjectTaggingOutput> {
        let (_, name, key) = self.object(&request, &request.input.bucket, &request.input.key)?;
        let object = self
            .known(&name, &key, request.input.version_id.as_deref())
            .await?;
        Ok(S3Response::new(GetObjectTaggingOutput {
            tag_set: shown_tags(&object.tags),
            version_id: self.versioned(&name, &object)?,
        }))
    }

    pub(super) async fn put_object_tagging(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> Answer<PutObjectTaggingOutput> {
        let (_, name, key) = self.object(&request, &request.input.bucket, &request.input.key)?;
        let version = version(request.input.version_id.as_deref())?;
        let tags = tag_set(request.input.tagging.tag_set);
        self.store
            .set_object_tags(&name, &key, version, tags)
            .await
            .map_err(to_s3_error)?;
        Ok(S3Response::new(PutObjectTaggingOutput::default()))
    }

    pub(super) async fn delete_object_tagging(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> Answer<DeleteObjectTaggingOutput> {
        let (_, name, key) = self.object(&request, &request.input.bucket, &request.input.key)?;
        let version = version(request.input.version_id.as_deref())?;
        self.store
            .set_object_tags(&name, &key, version, Vec::new())
            .await
            .map_err(to_s3_error)?;
        Ok(S3Response::new(DeleteObjectTaggingOutput::default()))
    }

    pub(super) async fn get_object_attributes(
        &self,
        request: S3Request<GetObjectAttributesInput>,
    ) -> Answer<GetObjectAttributesOutput> {
        let (context, name, key) =
            self.object(&request, &request.input.bucket, &request.input.key)?;
        let object = self
            .known(&name, &key, request.input.version_id.as_deref())
            .await?;
        let bucket = self.store.bucket(&name).map_err(to_s3_error)?;
        self.authorize_found(&context, &bucket, key.as_str(), "HeadObject", &object)?;
        // Each value may itself be a list.
        let wanted: Vec<_> = request
            .input
            .object_attributes
            .iter()
            .flat_map(|given| given.as_str().split(',').map(str::trim))
            .collect();
        const ATTRIBUTES: [&str; 5] = [
            "Checksum",
            "ETag",
            "ObjectParts",
            "ObjectSize",
            "StorageClass",
        ];
        let unknown = |given: &&&str| {
            !ATTRIBUTES
                .iter()
                .any(|known| known.eq_ignore_ascii_case(given))
        };
        if let Some(unknown) = wanted.iter().find(unknown) {
            return Err(s3_error!(
                InvalidArgument,
                "attribute {unknown:?} is not known; there are Checksum, ETag, ObjectParts, ObjectSize and StorageClass"
            ));
        }
        let asks = |attribute: &str| wanted.iter().any(|one| one.eq_ignore_ascii_case(attribute));
        let mut checksum = Checksum {
            checksum_type: checksum_type(&object.sums),
            ..Checksum::default()
        };
        put_sums!(checksum, object.sums);
        let parts = match object.kind {
            ObjectKind::Multipart(count) if asks("ObjectParts") => {
                let limit = limit(request.input.max_parts, "x-amz-max-parts")?;
                let after = request.input.part_number_marker.unwrap_or_default();
                let after = u32::try_from(after).map_err(|_| {
                    s3_error!(
                        InvalidArgument,
                        "x-amz-part-number-marker is {after}; it is a number"
                    )
                })?;
                let parts = self
                    .store
                    .object_parts(&object)
                    .await
                    .map_err(to_s3_error)?;
                Some(page_of_parts(parts, count, after, limit))
            }
            _ => None,
        };
        Ok(S3Response::new(GetObjectAttributesOutput {
            checksum: (asks("Checksum") && !object.sums.is_empty()).then_some(checksum),
            e_tag: etag(&object).filter(|_| asks("ETag")),
            last_modified: Some(timestamp(object.modified_ms)),
            object_parts: parts,
            object_size: asks("ObjectSize").then_some(object.size as i64),
            storage_class: asks("StorageClass").then(|| object.class.as_str().to_owned().into()),
            version_id: self.versioned(&name, &object)?,
            ..GetObjectAttributesOutput::default()
        }))
    }

    pub(super) async fn restore_object(
        &self,
        request: S3Request<RestoreObjectInput>,
    ) -> Answer<RestoreObjectOutput> {
        let (context, name, key) =
            self.object(&request, &request.input.bucket, &request.input.key)?;
        let days = request
            .input
            .restore_request
            .and_then(|restore| restore.days)
            .unwrap_or(1);
        let version = version(request.input.version_id.as_deref())?;
        let days = u32::try_from(days).unwrap_or_default();
        let begun = self
            .store
            .restore(&name, &key, version, days, context.origin())
            .await
            .map_err(to_s3_error)?;
        let status = if begun {
            http::StatusCode::ACCEPTED
        } else {
            http::StatusCode::OK
        };
        Ok(S3Response::with_status(
            RestoreObjectOutput::default(),
            status,
        ))
    }
}

fn page_of_parts(
    parts: Vec<StoredPart>,
    count: u32,
    after: u32,
    limit: usize,
) -> GetObjectAttributesParts {
    let mut left: Vec<_> = parts
        .into_iter()
        .filter(|part| part.number > after)
        .collect();
    let more = left.len() > limit;
    left.truncate(limit);
    let next = left.last().map_or(after, |part| part.number);
    let shown = left.into_iter().map(|part| {
        let mut shown = ObjectPart {
            part_number: Some(part.number as i32),
            size: Some(part.size as i64),
            ..ObjectPart::default()
        };
        put_sums!(shown, part.sums);
        shown
    });
    GetObjectAttributesParts {
        is_truncated: Some(more),
        max_parts: Some(limit as i32),
        next_part_number_marker: Some(next as i32),
        part_number_marker: Some(after as i32),
        parts: Some(shown.collect()),
        total_parts_count: Some(count as i32),
    }
}
