//! Where a function's code comes from: the package in a request.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use model::Sha256;
use scf::types::Code as CodeFields;
use scf::{Code, Error};

use super::Gateway;
use super::error::{self, unsupported};

/// Some clients leave the padding away.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A package that is in the store, and unpacked.
pub(super) struct Taken {
    pub(super) package: Sha256,
    pub(super) size: u64,
}

/// Takes the package that a request carries.
pub(super) async fn take(gateway: &Gateway, fields: CodeFields) -> Result<Taken, Error> {
    let zip_file = zip_file(fields)?;
    let limit = gateway.limits.package_bytes;
    let packages = gateway.packages.clone();
    let taken = tokio::task::spawn_blocking(move || {
        let bytes = decode(zip_file)?;
        let size = bytes.len() as u64;
        if size > limit {
            let message =
                format!("ZipFile: the package has {size} bytes; up to {limit} are allowed");
            return Err(Error::new(Code::InvalidZipFile, message));
        }
        let package = packages.put(&bytes).map_err(error::package)?;
        packages.unpack(&package).map_err(error::package)?;
        Ok(Taken { package, size })
    });
    taken.await.map_err(|e| error::internal(&e))?
}

fn zip_file(fields: CodeFields) -> Result<String, Error> {
    let given = |field: &Option<String>| field.as_deref().is_some_and(|text| !text.is_empty());
    let others = [
        (
            given(&fields.cos_bucket_name) || given(&fields.cos_object_name),
            "a package in a bucket (CosBucketName)",
        ),
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
    match (
        fields.zip_file.filter(|text| !text.is_empty()),
        others.as_slice(),
    ) {
        (Some(zip_file), []) => Ok(zip_file),
        (Some(_), _) => Err(Error::new(
            Code::InvalidCode,
            "Code: exactly one source is allowed; ZipFile came with another",
        )),
        (None, []) => Err(Error::new(
            Code::MissingCode,
            "Code: ZipFile, a zip archive in base64, is missing",
        )),
        (None, [what, ..]) => Err(unsupported(&format!(
            "Code: {what} is not available yet; send the package as ZipFile"
        ))),
    }
}

fn decode(text: String) -> Result<Vec<u8>, Error> {
    let decoded = BASE64.decode(&text).or_else(|_| {
        // Line breaks, as some encoders put them in.
        let mut bytes = text.into_bytes();
        bytes.retain(|byte| !byte.is_ascii_whitespace());
        BASE64.decode(bytes)
    });
    decoded.map_err(|e| {
        Error::new(
            Code::InvalidZipFileBase64,
            format!("ZipFile: it is not base64: {e}"),
        )
    })
}

/// A string that is `TRUE` or `FALSE`, in any case.
pub(super) fn flag(field: &str, given: Option<&str>) -> Result<bool, Error> {
    match given.map(str::to_ascii_uppercase).as_deref() {
        None | Some("" | "FALSE") => Ok(false),
        Some("TRUE") => Ok(true),
        Some(other) => {
            let message = format!("{field}: {other:?} is not allowed; TRUE and FALSE are");
            Err(Error::new(Code::InvalidParameterValue, message))
        }
    }
}
