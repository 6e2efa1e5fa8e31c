//! The codes of what is rejected while a request is read, before an operation begins.

use bucket::StoreError;
use model::BucketName;
use scf::{Code, Error};

use crate::object_source::ObjectReadError;

/// A part of a request whose rejection has a code.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rejected {
    /// A value without a code of its own.
    Parameter,
    /// The offset of a page.
    PageOffset,
    /// The length of a page.
    PageLength,
    /// The direction of a list.
    Order,
    /// The key that a list is sorted by.
    OrderBy,
    /// The conditions of a list.
    Filters,
    /// The type of a function.
    FunctionType,
    /// The protocol of a web function.
    ProtocolType,
    /// The region of a copy.
    Region,
    /// The sources of a package, of which there are several.
    CodeSource,
    /// The source of a package, which is missing.
    CodeMissing,
    /// The bucket of a package.
    Bucket,
    /// The object's key of a package.
    ObjectKey,
    /// The region of a package's bucket.
    BucketRegion,
    /// The base64 of a package.
    Base64,
    /// The kind of an invocation.
    InvocationType,
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
    /// A period.
    Period,
    /// The results that a log is searched for.
    Result,
    /// The state of events.
    EventState,
    /// An event that has ended.
    EventEnded,
    /// A parameter that is missing.
    Missing,
}

/// Returns the error for a rejected part of a request. The message begins with the field's name.
pub(crate) fn rejected(part: Rejected, message: impl Into<String>) -> Error {
    let code = match part {
        Rejected::Parameter => Code::InvalidParameterValue,
        Rejected::PageOffset => Code::InvalidOffset,
        Rejected::PageLength => Code::InvalidLimit,
        Rejected::Order => Code::InvalidOrder,
        Rejected::OrderBy => Code::InvalidOrderBy,
        Rejected::Filters => Code::InvalidFilters,
        Rejected::FunctionType => Code::InvalidFunctionType,
        Rejected::ProtocolType => Code::InvalidProtocolType,
        Rejected::Region => Code::UnsupportedRegion,
        Rejected::CodeSource => Code::InvalidCode,
        Rejected::CodeMissing => Code::MissingCode,
        Rejected::Bucket => Code::InvalidCosBucketName,
        Rejected::ObjectKey => Code::InvalidCosObjectName,
        Rejected::BucketRegion => Code::InvalidCosBucketRegion,
        Rejected::Base64 => Code::InvalidZipFileBase64,
        Rejected::InvocationType => Code::InvalidInvokeType,
        Rejected::ClientContext => Code::InvalidClientContext,
        Rejected::Event => Code::Payload,
        Rejected::EventSize => Code::RequestTooLarge,
        Rejected::LogOffset => Code::LimitExceededOffset,
        Rejected::Time => Code::InvalidDateTime,
        Rejected::Period => Code::InvalidStartTimeOrEndTime,
        Rejected::Result => Code::InvalidRetCode,
        Rejected::EventState => Code::InvalidStatus,
        Rejected::EventEnded => Code::AsyncEventStatus,
        Rejected::Missing => Code::MissingParameter,
    };
    Error::new(code, message)
}

/// Returns the error for a value without a code of its own. The message begins with the field's name.
pub(crate) fn parameter(message: impl Into<String>) -> Error {
    rejected(Rejected::Parameter, message)
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
