//! Packages with code: embedded in a request, or an object in a bucket.

use ::control::packages::StoredPackage;
use access::GET_OBJECT;
use model::BucketName;
use scf::Error;
use scf::types::Code as CodeFields;

use super::error::{self, Refused, Rejected, unsupported};
use super::{Caller, Gateway};
use scf::lenient_base64;

/// The source of a package.
enum PackageSource {
    /// Base64 in the request.
    Text(String),
    /// An object in a bucket of the caller's account.
    Object { bucket: BucketName, key: String },
}

/// Stores and unpacks the package that a request contains or references.
pub(super) async fn store_package(
    gateway: &Gateway,
    caller: Caller<'_>,
    fields: CodeFields,
) -> Result<StoredPackage, Refused> {
    match package_source(caller, &gateway.region, fields)? {
        PackageSource::Text(text) => {
            let decoded = tokio::task::spawn_blocking(move || decode(text)).await;
            let bytes = decoded.map_err(|e| error::internal(&e))??;
            Ok(gateway.control.store_package(bytes).await?)
        }
        PackageSource::Object { bucket, key } => {
            let control = &gateway.control;
            // An unauthorized caller must not learn what exists.
            if control.objects.is_served() && !may_read(gateway, caller, &bucket, &key) {
                return Err(error::object_denied(&bucket, &key).into());
            }
            let fetched = control.fetch_package(caller.account, &bucket, &key);
            Ok(fetched.await?)
        }
    }
}

/// Returns whether the caller may read an object of its account.
fn may_read(gateway: &Gateway, caller: Caller<'_>, bucket: &BucketName, key: &str) -> bool {
    let path = format!("{}-{}/{key}", bucket.as_str(), caller.account.0);
    caller
        .principal
        .allows(&GET_OBJECT, &gateway.region, &[path])
}

fn package_source(
    caller: Caller<'_>,
    region: &str,
    fields: CodeFields,
) -> Result<PackageSource, Error> {
    let given = |field: &Option<String>| field.as_deref().is_some_and(|text| !text.is_empty());
    let in_bucket = given(&fields.cos_bucket_name) || given(&fields.cos_object_name);
    let others = [
        (
            given(&fields.temp_cos_object_name),
            "a package in a temporary bucket (TempCosObjectName)",
        ),
        (given(&fields.demo_id), "a template (DemoId)"),
        (given(&fields.git_url), "a repository (GitUrl)"),
        (
            fields
                .image_config
                .as_ref()
                .is_some_and(|config| !config.is_null()),
            "an image (ImageConfig)",
        ),
    ];
    let others: Vec<_> = others
        .iter()
        .filter(|(given, _)| *given)
        .map(|(_, what)| *what)
        .collect();
    let zip_file = fields.zip_file.filter(|text| !text.is_empty());
    let sources = others.len() + usize::from(in_bucket) + usize::from(zip_file.is_some());
    if sources > 1 && (in_bucket || zip_file.is_some()) {
        return Err(error::rejected(
            Rejected::CodeSource,
            "Code: exactly one source is allowed; send ZipFile, or CosBucketName and CosObjectName, and no other",
        ));
    }
    match (zip_file, others.first()) {
        (Some(text), _) => Ok(PackageSource::Text(text)),
        (None, Some(what)) => Err(unsupported(&format!(
            "Code: {what} is not available; send the package as ZipFile, or put it into a bucket"
        ))),
        (None, None) if in_bucket => object(
            caller,
            region,
            fields.cos_bucket_name.as_deref().unwrap_or_default(),
            fields.cos_object_name.as_deref().unwrap_or_default(),
            fields.cos_bucket_region.as_deref().unwrap_or_default(),
        ),
        (None, None) => Err(error::rejected(
            Rejected::CodeMissing,
            "Code: ZipFile, a zip archive in base64, is missing, and so are CosBucketName and CosObjectName",
        )),
    }
}

/// Parses an object's name as SCF's clients write it: the bucket with or without the AppId, the key with or without a leading
/// `/`.
fn object(
    caller: Caller<'_>,
    own_region: &str,
    bucket: &str,
    key: &str,
    region: &str,
) -> Result<PackageSource, Error> {
    let bucket = BucketName::of(caller.account, bucket)
        .map_err(|e| error::rejected(Rejected::Bucket, error::rejection(&e)))?;
    let key = key.strip_prefix('/').unwrap_or(key);
    if key.is_empty() {
        let message = "it is missing; the key of a zip archive in the bucket is expected";
        return Err(error::wire_field("CosObjectName", message));
    }
    if !region.is_empty() && region != own_region {
        let shown: String = region.chars().take(60).collect();
        let message =
            format!("{shown:?} is not allowed; {own_region} is, where virga's buckets are");
        return Err(error::wire_field("CosBucketRegion", message));
    }
    let key = key.to_owned();
    Ok(PackageSource::Object { bucket, key })
}

fn decode(text: String) -> Result<Vec<u8>, Error> {
    lenient_base64::decode(text)
        .map_err(|e| error::rejected(Rejected::Base64, format!("ZipFile: it is not base64: {e}")))
}

/// Parses `TRUE` or `FALSE`; nothing and an empty text are none.
pub(super) fn flag_if_given(field: &str, given: Option<&str>) -> Result<Option<bool>, Error> {
    let given = given.filter(|text| !text.is_empty());
    given.map(|text| flag(field, Some(text))).transpose()
}

/// Parses `TRUE` or `FALSE`, case-insensitively.
pub(super) fn flag(field: &str, given: Option<&str>) -> Result<bool, Error> {
    match given.map(str::to_ascii_uppercase).as_deref() {
        None | Some("" | "FALSE") => Ok(false),
        Some("TRUE") => Ok(true),
        Some(other) => {
            let message = format!("{field}: {other:?} is not allowed; TRUE and FALSE are");
            Err(error::parameter(message))
        }
    }
}
