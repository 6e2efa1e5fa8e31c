//! Listing operations.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::buckets::shown;
use super::context::Context;
use super::convert::{checksum_algorithms, checksum_type, etag, kind_name, type_name, version};
use super::dates::timestamp;
use super::errors::to_s3_error;
use super::handler::S3Handler;
use crate::store::{ListQuery, ListedObject, UploadQuery, VersionQuery};

type Answer<T> = S3Result<S3Response<T>>;

/// Characters that `encoding-type=url` leaves unencoded.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/')
    .remove(b'*');

impl S3Handler {
    pub(super) async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> Answer<ListObjectsV2Output> {
        let context = Context::of(&request.extensions);
        let input = request.input;
        let bucket = self.bucket(&context, &input.bucket)?;
        let url = Encode::of(input.encoding_type.as_ref())?;
        let after = match &input.continuation_token {
            Some(token) => Some(decode_token(token)?),
            None => input.start_after.clone(),
        };
        let limit = limit(input.max_keys, "max-keys")?;
        let of = ListQuery {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone(),
            after,
            limit,
        };
        let page = self
            .store
            .list(&bucket.name, of)
            .await
            .map_err(to_s3_error)?;
        let with_owner =
            (input.fetch_owner == Some(true)).then(|| self.owner(bucket.name.app_id()));
        let count = page.items.len() + page.prefixes.len();
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(shown(&context, &bucket)),
            prefix: Some(url.text(input.prefix.unwrap_or_default())),
            max_keys: Some(limit as i32),
            key_count: Some(count as i32),
            continuation_token: input.continuation_token,
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.map(|next| URL_SAFE_NO_PAD.encode(next)),
            contents: Some(
                page.items
                    .into_iter()
                    .map(|item| object(item, &url, with_owner.clone()))
                    .collect(),
            ),
            common_prefixes: url.prefixes(page.prefixes),
            delimiter: url.delimiter(input.delimiter),
            encoding_type: input.encoding_type,
            start_after: input.start_after.map(|after| url.text(after)),
            request_charged: None,
        }))
    }

    pub(super) async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> Answer<ListObjectsOutput> {
        let context = Context::of(&request.extensions);
        let input = request.input;
        let bucket = self.bucket(&context, &input.bucket)?;
        let url = Encode::of(input.encoding_type.as_ref())?;
        let limit = limit(input.max_keys, "max-keys")?;
        let of = ListQuery {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone(),
            after: input.marker.clone().filter(|marker| !marker.is_empty()),
            limit,
        };
        let page = self
            .store
            .list(&bucket.name, of)
            .await
            .map_err(to_s3_error)?;
        let own = Some(self.owner(bucket.name.app_id()));
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(shown(&context, &bucket)),
            prefix: Some(url.text(input.prefix.unwrap_or_default())),
            marker: Some(url.text(input.marker.unwrap_or_default())),
            max_keys: Some(limit as i32),
            is_truncated: Some(page.next.is_some()),
            contents: Some(
                page.items
                    .into_iter()
                    .map(|item| object(item, &url, own.clone()))
                    .collect(),
            ),
            common_prefixes: url.prefixes(page.prefixes),
            delimiter: url.delimiter(input.delimiter),
            next_marker: page.next.map(|next| url.text(next)),
            encoding_type: input.encoding_type,
            request_charged: None,
        }))
    }

    pub(super) async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> Answer<ListObjectVersionsOutput> {
        let context = Context::of(&request.extensions);
        let input = request.input;
        let bucket = self.bucket(&context, &input.bucket)?;
        let url = Encode::of(input.encoding_type.as_ref())?;
        let limit = limit(input.max_keys, "max-keys")?;
        let marker = input.key_marker.clone().filter(|marker| !marker.is_empty());
        let of = VersionQuery {
            after_version: version(input.version_id_marker.as_deref())?
                .filter(|_| marker.is_some()),
            of: ListQuery {
                prefix: input.prefix.clone().unwrap_or_default(),
                delimiter: input.delimiter.clone(),
                after: marker,
                limit,
            },
        };
        let page = self
            .store
            .versions(&bucket.name, of)
            .await
            .map_err(to_s3_error)?;
        let last = page.items.last();
        // A page that ends with a common prefix has no version marker.
        let last = last.filter(|last| page.next.as_deref() == Some(last.key.as_str()));
        let next_version = last.map(|last| last.object.version().to_string());
        let own = Some(self.owner(bucket.name.app_id()));
        let (markers, versions): (Vec<_>, Vec<_>) =
            page.items.into_iter().partition(|item| item.marker);
        let versions = versions.into_iter().map(|item| ObjectVersion {
            checksum_algorithm: checksum_algorithms(&item.object.sums),
            checksum_type: checksum_type(&item.object.sums),
            e_tag: etag(&item.object),
            is_latest: Some(item.latest),
            key: Some(url.text(item.key.as_str().to_owned())),
            last_modified: Some(timestamp(item.object.modified_ms)),
            owner: own.clone(),
            size: Some(item.object.size as i64),
            storage_class: Some(item.object.class.as_str().to_owned().into()),
            version_id: Some(item.object.version().to_string()),
            ..ObjectVersion::default()
        });
        let markers = markers.into_iter().map(|item| DeleteMarkerEntry {
            is_latest: Some(item.latest),
            key: Some(url.text(item.key.as_str().to_owned())),
            last_modified: Some(timestamp(item.object.modified_ms)),
            owner: own.clone(),
            version_id: Some(item.object.version().to_string()),
        });
        Ok(S3Response::new(ListObjectVersionsOutput {
            common_prefixes: url.prefixes(page.prefixes),
            delete_markers: Some(markers.collect()),
            delimiter: url.delimiter(input.delimiter),
            encoding_type: input.encoding_type,
            is_truncated: Some(page.next.is_some()),
            key_marker: Some(url.text(input.key_marker.unwrap_or_default())),
            max_keys: Some(limit as i32),
            name: Some(shown(&context, &bucket)),
            next_key_marker: page.next.map(|next| url.text(next)),
            next_version_id_marker: next_version,
            prefix: Some(url.text(input.prefix.unwrap_or_default())),
            request_charged: None,
            version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
            versions: Some(versions.collect()),
        }))
    }

    pub(super) async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> Answer<ListMultipartUploadsOutput> {
        let context = Context::of(&request.extensions);
        let input = request.input;
        let bucket = self.bucket(&context, &input.bucket)?;
        let url = Encode::of(input.encoding_type.as_ref())?;
        let limit = limit(input.max_uploads, "max-uploads")?;
        let marker = input.key_marker.clone().filter(|marker| !marker.is_empty());
        let of = UploadQuery {
            after_upload: input
                .upload_id_marker
                .clone()
                .filter(|id| !id.is_empty() && marker.is_some()),
            of: ListQuery {
                prefix: input.prefix.clone().unwrap_or_default(),
                delimiter: input.delimiter.clone(),
                after: marker,
                limit,
            },
        };
        let page = self
            .store
            .uploads(&bucket.name, of)
            .await
            .map_err(to_s3_error)?;
        let last = page.items.last();
        let last = last.filter(|last| page.next.as_deref() == Some(last.key.as_str()));
        let next_upload = last.map(|last| last.id.clone());
        let app_id = bucket.name.app_id();
        let own = self.owner(app_id);
        let uploads = page.items.into_iter().map(|upload| MultipartUpload {
            checksum_type: upload.checksum.map(|_| type_name(upload.full_object)),
            checksum_algorithm: upload
                .checksum
                .map(|kind| kind_name(kind).to_owned().into()),
            initiated: Some(timestamp(upload.begun_ms)),
            initiator: Some(self.initiator(&upload, app_id)),
            key: Some(url.text(upload.key.as_str().to_owned())),
            owner: Some(own.clone()),
            storage_class: Some(upload.class.as_str().to_owned().into()),
            upload_id: Some(upload.id),
        });
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(shown(&context, &bucket)),
            common_prefixes: url.prefixes(page.prefixes),
            delimiter: url.delimiter(input.delimiter),
            encoding_type: input.encoding_type,
            is_truncated: Some(page.next.is_some()),
            key_marker: Some(url.text(input.key_marker.unwrap_or_default())),
            max_uploads: Some(limit as i32),
            next_key_marker: page.next.map(|next| url.text(next)),
            next_upload_id_marker: next_upload,
            prefix: Some(url.text(input.prefix.unwrap_or_default())),
            request_charged: None,
            upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
            uploads: Some(uploads.collect()),
        }))
    }
}

fn object(item: ListedObject, url: &Encode, owner: Option<Owner>) -> Object {
    Object {
        checksum_algorithm: checksum_algorithms(&item.object.sums),
        checksum_type: checksum_type(&item.object.sums),
        e_tag: etag(&item.object),
        key: Some(url.text(item.key.as_str().to_owned())),
        last_modified: Some(timestamp(item.object.modified_ms)),
        owner,
        size: Some(item.object.size as i64),
        storage_class: Some(item.object.class.as_str().to_owned().into()),
        ..Object::default()
    }
}

/// Parses the maximum number of entries of a page.
pub(super) fn limit(given: Option<i32>, name: &str) -> S3Result<usize> {
    match given {
        None => Ok(1000),
        Some(given) if given < 0 => Err(s3_error!(
            InvalidArgument,
            "{name} is {given}; it may be 0 to 1000"
        )),
        Some(given) => Ok(given.min(1000) as usize),
    }
}

fn decode_token(token: &str) -> S3Result<String> {
    let decoded = URL_SAFE_NO_PAD
        .decode(token)
        .ok()
        .and_then(|key| String::from_utf8(key).ok());
    decoded.ok_or_else(|| {
        s3_error!(
            InvalidArgument,
            "continuation-token is not one that a listing gave"
        )
    })
}

/// How names are written: plain, or URL-encoded because XML cannot hold all characters.
struct Encode(bool);

impl Encode {
    fn of(asked: Option<&EncodingType>) -> S3Result<Self> {
        match asked.map(EncodingType::as_str) {
            None | Some("") => Ok(Self(false)),
            Some("url") => Ok(Self(true)),
            Some(other) => Err(s3_error!(
                InvalidArgument,
                "encoding-type is {other:?}; it may be url"
            )),
        }
    }

    fn text(&self, text: String) -> String {
        if self.0 {
            utf8_percent_encode(&text, PLAIN).to_string()
        } else {
            text
        }
    }

    /// Returns the delimiter for a response. An empty one counts as none.
    fn delimiter(&self, delimiter: Option<String>) -> Option<String> {
        let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty());
        delimiter.map(|delimiter| self.text(delimiter))
    }

    fn prefixes(&self, prefixes: Vec<String>) -> Option<Vec<CommonPrefix>> {
        let prefixes = prefixes.into_iter().map(|prefix| CommonPrefix {
            prefix: Some(self.text(prefix)),
        });
        Some(prefixes.collect())
    }
}
