//! The codes of values that are rejected while a request is read, before an operation begins.

use model::BucketName;
use scf::{Code, Error};

/// A part of a request whose code does not follow from its name.
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
    /// The tags to be deleted.
    DeletedTags,
    /// The service of a tagged resource.
    ServiceType,
    /// The prefix of tagged resources.
    ResourcePrefix,
    /// The region of tagged resources.
    ResourceRegion,
    /// The name of a tagged resource in six parts.
    ResourceName,
    /// The id of a tagged resource.
    ResourceId,
    /// The place at which a list of tagged resources continues.
    PaginationToken,
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
        Rejected::DeletedTags => Code::DeleteTagsParamError,
        Rejected::ServiceType => Code::ServiceTypeInvalid,
        Rejected::ResourcePrefix => Code::ResourcePrefixInvalid,
        Rejected::ResourceRegion => Code::RegionInvalid,
        Rejected::ResourceName => Code::ResourceDescriptionError,
        Rejected::ResourceId => Code::ResourceIdInvalid,
        Rejected::PaginationToken => Code::PaginationTokenInvalid,
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

/// Returns the error for a package in a bucket that the caller may not read.
pub(crate) fn object_denied(bucket: &BucketName, key: &str) -> Error {
    let shown: String = key.chars().take(200).collect();
    let message = format!(
        "CosObjectName: {bucket}/{shown}: this key may not do name/cos:GetObject on the object"
    );
    Error::new(Code::UnauthorizedOperation, message)
}
