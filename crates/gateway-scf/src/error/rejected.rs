//! The codes of what is rejected while a request is read, before an operation begins.

use bucket::StoreError;
use model::BucketName;
use scf::{Code, Error};

use crate::object_source::ObjectReadError;

/// A part of a request whose rejection has a code that its name does not tell.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rejected {
    /// The type of a function.
    FunctionType,
    /// The sources of a package, of which there are several.
    CodeSource,
    /// The source of a package, which is missing.
    CodeMissing,
    /// The bucket of a package.
    Bucket,
    /// The base64 of a package.
    Base64,
    /// The event of `Invoke`.
    ClientContext,
    /// The event of `InvokeFunction`.
    Event,
    /// The size of an event.
    EventSize,
    /// The end of a page of a log, which is too far.
    LogOffset,
    /// A time.
    Time,
    /// The results that a log is searched for.
    Result,
    /// An event that has ended.
    EventEnded,
    /// A parameter that is missing.
    Missing,
}

/// Returns the error for a rejected part of a request. The message begins with the field's name.
pub(crate) fn rejected(part: Rejected, message: impl Into<String>) -> Error {
    let code = match part {
        Rejected::FunctionType => Code::InvalidFunctionType,
        Rejected::CodeSource => Code::InvalidCode,
        Rejected::CodeMissing => Code::MissingCode,
        Rejected::Bucket => Code::InvalidCosBucketName,
        Rejected::Base64 => Code::InvalidZipFileBase64,
        Rejected::ClientContext => Code::InvalidClientContext,
        Rejected::Event => Code::Payload,
        Rejected::EventSize => Code::RequestTooLarge,
        Rejected::LogOffset => Code::LimitExceededOffset,
        Rejected::Time => Code::InvalidDateTime,
        Rejected::Result => Code::InvalidRetCode,
        Rejected::EventEnded => Code::AsyncEventStatus,
        Rejected::Missing => Code::MissingParameter,
    };
    Error::new(code, message)
}

/// Returns the error for a value without a code of its own. The message begins with the field's name.
pub(crate) fn parameter(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidParameterValue, message)
}

/// Returns the error for a field that only this API has. The code follows from its name.
pub(crate) fn wire_field(field: &'static str, message: impl std::fmt::Display) -> Error {
    let code = match field {
        "CosBucketRegion" => Code::InvalidCosBucketRegion,
        "CosObjectName" => Code::InvalidCosObjectName,
        "Enable" => Code::InvalidEnable,
        "Filters" => Code::InvalidFilters,
        "InvocationType" => Code::InvalidInvokeType,
        "Limit" => Code::InvalidLimit,
        "Offset" => Code::InvalidOffset,
        "Order" => Code::InvalidOrder,
        "OrderBy" | "Orderby" => Code::InvalidOrderBy,
        "ProtocolType" => Code::InvalidProtocolType,
        "StartTime and EndTime" => Code::InvalidStartTimeOrEndTime,
        "State" | "Status" => Code::InvalidStatus,
        "TargetRegion" => Code::UnsupportedRegion,
        _ => Code::InvalidParameterValue,
    };
    Error::new(code, format!("{field}: {message}"))
}

/// Maps an error of reading a package of up to `limit` bytes from a bucket.
pub(crate) fn object(why: &ObjectReadError, bucket: &BucketName, key: &str, limit: u64) -> Error {
    let shown: String = key.chars().take(200).collect();
    let (code, field) = match why {
        ObjectReadError::Off => (Code::UnsupportedOperation, "CosBucketName"),
        ObjectReadError::NoBucket => (Code::CosNotFound, "CosBucketName"),
        ObjectReadError::NoObject => (Code::CosObjectNotFound, "CosObjectName"),
        ObjectReadError::Denied => (Code::UnauthorizedOperation, "CosObjectName"),
        ObjectReadError::TooLarge(_) => (Code::InvalidZipFile, "CosObjectName"),
        ObjectReadError::Other(StoreError::Archived(_)) => {
            (Code::InvalidCosObjectName, "CosObjectName")
        }
        ObjectReadError::Other(_) => (Code::InternalError, "CosObjectName"),
    };
    let allowed = match why {
        ObjectReadError::TooLarge(_) => {
            format!("; a package in a bucket may have up to {limit} (unpacked_bytes)")
        }
        _ => String::new(),
    };
    Error::new(code, format!("{field}: {bucket}/{shown}: {why}{allowed}"))
}
