//! API errors: a code from the published list and a message.

use thiserror::Error;

/// An API error.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}: {message}", code.as_str())]
pub struct Error {
    /// API error code.
    pub code: Code,
    /// Message: the field, the value given and the values allowed.
    pub message: String,
    /// Whether it is a fault of the server, which its operator must see. Every internal error is, unless it is
    /// [temporary](Self::temporary).
    pub fault: bool,
}

impl Error {
    /// Creates an error.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            fault: code == Code::InternalError,
        }
    }

    /// Marks an error as temporary, as while the server shuts down: it is no fault.
    #[must_use]
    pub fn temporary(self) -> Self {
        Self {
            fault: false,
            ..self
        }
    }
}

macro_rules! codes {
    ($($name:ident = $text:literal,)*) => {
        /// The API error codes that virga returns.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = concat!("`", $text, "`")] $name,)*
        }

        impl Code {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the code on the wire.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    // Common to all APIs of the cloud; not in SCF's own list.
    InvalidAuthorization = "AuthFailure.InvalidAuthorization",
    SecretIdNotFound = "AuthFailure.SecretIdNotFound",
    SignatureExpire = "AuthFailure.SignatureExpire",
    SignatureFailure = "AuthFailure.SignatureFailure",
    TokenFailure = "AuthFailure.TokenFailure",
    InvalidAction = "InvalidAction",
    InvalidParameter = "InvalidParameter",
    NoSuchProduct = "NoSuchProduct",
    NoSuchVersion = "NoSuchVersion",
    RequestLimitExceeded = "RequestLimitExceeded",
    RequestSizeLimitExceeded = "RequestSizeLimitExceeded",
    UnsupportedProtocol = "UnsupportedProtocol",
    // Specific to SCF.
    FailedOperation = "FailedOperation",
    DeleteAliasFailed = "FailedOperation.DeleteAlias",
    PublishVersionFailed = "FailedOperation.PublishVersion",
    ProvisionedExceedAvailable = "FailedOperation.ProvisionedExceedAvailable",
    ProvisionedExceedReserved = "FailedOperation.ProvisionedExceedReserved",
    ProvisionedInProgress = "FailedOperation.ProvisionedInProgress",
    ReservedExceedTotal = "FailedOperation.ReservedExceedTotal",
    CopyFunctionFailed = "FailedOperation.CopyFunction",
    DomainNotFound = "FailedOperation.Domain.UnExist",
    AsyncEventStatus = "FailedOperation.AsyncEventStatus",
    FunctionStatusError = "FailedOperation.FunctionStatusError",
    OperationConflict = "FailedOperation.OperationConflict",
    InvokeFunctionFailed = "FailedOperation.InvokeFunction",
    InternalError = "InternalError",
    InvalidParameterValue = "InvalidParameterValue",
    InvalidAdditionalVersionWeights = "InvalidParameterValue.AdditionalVersionWeights",
    InvalidAsyncTriggerConfig = "InvalidParameterValue.AsyncTriggerConfig",
    InvalidAlias = "InvalidParameterValue.Alias",
    InvalidClientContext = "InvalidParameterValue.ClientContext",
    InvalidCode = "InvalidParameterValue.Code",
    InvalidCosBucketName = "InvalidParameterValue.CosBucketName",
    InvalidCosBucketRegion = "InvalidParameterValue.CosBucketRegion",
    InvalidCosObjectName = "InvalidParameterValue.CosObjectName",
    InvalidCustomArgument = "InvalidParameterValue.CustomArgument",
    InvalidDateTime = "InvalidParameterValue.DateTime",
    DefaultNamespace = "InvalidParameterValue.DefaultNamespace",
    InvalidDeadLetterConfig = "InvalidParameterValue.DeadLetterConfig",
    InvalidDescription = "InvalidParameterValue.Description",
    InvalidDomain = "InvalidParameterValue.Domain",
    InvalidEnable = "InvalidParameterValue.Enable",
    InvalidEnvironment = "InvalidParameterValue.Environment",
    EnvironmentExceededLimit = "InvalidParameterValue.EnvironmentExceededLimit",
    EnvironmentSystemProtect = "InvalidParameterValue.EnvironmentSystemProtect",
    InvalidFilters = "InvalidParameterValue.Filters",
    InvalidFunctionName = "InvalidParameterValue.FunctionName",
    InvalidFunctionRequestId = "InvalidParameterValue.FunctionRequestId",
    InvalidFunctionType = "InvalidParameterValue.FunctionType",
    InvalidHandler = "InvalidParameterValue.Handler",
    InvalidInvokeType = "InvalidParameterValue.InvokeType",
    InvalidLayerName = "InvalidParameterValue.LayerName",
    InvalidLayers = "InvalidParameterValue.Layers",
    InvalidLimit = "InvalidParameterValue.Limit",
    InvalidMemorySize = "InvalidParameterValue.MemorySize",
    InvalidMinCapacity = "InvalidParameterValue.MinCapacity",
    InvalidNamespace = "InvalidParameterValue.NamespaceInvalid",
    InvalidOffset = "InvalidParameterValue.Offset",
    InvalidOrder = "InvalidParameterValue.Order",
    InvalidOrderBy = "InvalidParameterValue.OrderBy",
    InvalidParam = "InvalidParameterValue.Param",
    InvalidProvisionTriggerName = "InvalidParameterValue.ProvisionTriggerName",
    InvalidProvisionType = "InvalidParameterValue.ProvisionType",
    ProvisionTriggerCronConfigDuplicate = "InvalidParameterValue.ProvisionTriggerCronConfigDuplicate",
    ProvisionTriggerNameDuplicate = "InvalidParameterValue.ProvisionTriggerNameDuplicate",
    InvalidProtocolType = "InvalidParameterValue.ProtocolType",
    InvalidQualifier = "InvalidParameterValue.Qualifier",
    InvalidRetCode = "InvalidParameterValue.RetCode",
    InvalidRoutingConfig = "InvalidParameterValue.RoutingConfig",
    InvalidRuntime = "InvalidParameterValue.Runtime",
    InvalidStatus = "InvalidParameterValue.Status",
    InvalidStartTimeOrEndTime = "InvalidParameterValue.StartTimeOrEndTime",
    InvalidTriggerDesc = "InvalidParameterValue.TriggerDesc",
    InvalidTriggerName = "InvalidParameterValue.TriggerName",
    InvalidType = "InvalidParameterValue.Type",
    InvalidTrackingTarget = "InvalidParameterValue.TrackingTarget",
    InvalidTriggerCronConfig = "InvalidParameterValue.TriggerCronConfig",
    InvalidTriggerProvisionedNum = "InvalidParameterValue.TriggerProvisionedConcurrencyNum",
    InvalidZipFile = "InvalidParameterValue.ZipFile",
    InvalidZipFileBase64 = "InvalidParameterValue.ZipFileBase64BinasciiError",
    Payload = "InvalidParameter.Payload",
    RequestTooLarge = "InvalidParameter.RequestTooLarge",
    LimitExceeded = "InvalidParameterValue.LimitExceeded",
    LimitExceededAlias = "LimitExceeded.Alias",
    LimitExceededFunctionVersions = "LimitExceeded.FunctionVersions",
    LimitExceededFunction = "LimitExceeded.Function",
    LimitExceededInitTimeout = "LimitExceeded.InitTimeout",
    LimitExceededLayerVersions = "LimitExceeded.LayerVersions",
    LimitExceededLayers = "LimitExceeded.Layers",
    LimitExceededMemory = "LimitExceeded.Memory",
    LimitExceededMsgTtl = "LimitExceeded.MsgTTL",
    LimitExceededNamespace = "LimitExceeded.Namespace",
    LimitExceededQuota = "LimitExceeded.Quota",
    LimitExceededProvisionTriggerAction = "LimitExceeded.ProvisionTriggerAction",
    LimitExceededReserved = "LimitExceeded.FunctionReservedConcurrencyMemory",
    LimitExceededOffset = "LimitExceeded.Offset",
    LimitExceededTotal = "LimitExceeded.TotalConcurrencyMemory",
    LimitExceededRetryNum = "LimitExceeded.RetryNum",
    LimitExceededTimeout = "LimitExceeded.Timeout",
    LimitExceededTrigger = "LimitExceeded.Trigger",
    MissingParameter = "MissingParameter",
    MissingCode = "MissingParameter.Code",
    MissingRuntime = "MissingParameter.Runtime",
    InUse = "ResourceInUse",
    CosInUse = "ResourceInUse.Cos",
    AliasInUse = "ResourceInUse.Alias",
    FunctionNameInUse = "ResourceInUse.FunctionName",
    NamespaceInUse = "ResourceInUse.Namespace",
    TriggerInUse = "ResourceInUse.Trigger",
    TriggerNameInUse = "ResourceInUse.TriggerName",
    CosNotFound = "ResourceNotFound.Cos",
    CosObjectNotFound = "ResourceNotFound.CosObject",
    AliasNotFound = "ResourceNotFound.Alias",
    AsyncEventNotFound = "ResourceNotFound.AsyncEvent",
    FunctionNotFound = "ResourceNotFound.Function",
    FunctionNameNotFound = "ResourceNotFound.FunctionName",
    FunctionVersionNotFound = "ResourceNotFound.FunctionVersion",
    LayerNotFound = "ResourceNotFound.Layer",
    LayerVersionNotFound = "ResourceNotFound.LayerVersion",
    NamespaceNotFound = "ResourceNotFound.Namespace",
    QualifierNotFound = "ResourceNotFound.Qualifier",
    RoleNotFound = "ResourceNotFound.Role",
    TriggerNotFound = "ResourceNotFound.Trigger",
    UnauthorizedOperation = "UnauthorizedOperation",
    UnsupportedOperation = "UnsupportedOperation",
    AliasBind = "UnsupportedOperation.AliasBind",
    UnsupportedTrigger = "UnsupportedOperation.Trigger",
    UnsupportedRegion = "UnsupportedOperation.Region",
    // The tag service's own.
    TagAttachedResource = "FailedOperation.TagAttachedResource",
    PaginationTokenInvalid = "InvalidParameter.PaginationTokenInvalid",
    DeleteTagsParamError = "InvalidParameterValue.DeleteTagsParamError",
    RegionInvalid = "InvalidParameterValue.RegionInvalid",
    ReservedTagKey = "InvalidParameterValue.ReservedTagKey",
    ResourceDescriptionError = "InvalidParameterValue.ResourceDescriptionError",
    ResourceIdInvalid = "InvalidParameterValue.ResourceIdInvalid",
    ResourcePrefixInvalid = "InvalidParameterValue.ResourcePrefixInvalid",
    ServiceTypeInvalid = "InvalidParameterValue.ServiceTypeInvalid",
    TagKeyEmpty = "InvalidParameterValue.TagKeyEmpty",
    ResourceAttachedTags = "LimitExceeded.ResourceAttachedTags",
    TagDuplicate = "ResourceInUse.TagDuplicate",
    TagKeyAttached = "ResourceInUse.TagKeyAttached",
    AttachedTagKeyNotFound = "ResourceNotFound.AttachedTagKeyNotFound",
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lists of SCF and of the tag service, and the common codes of all the cloud's APIs.
    const PUBLISHED: &str = include_str!("../tests/error-codes.txt");

    #[test]
    fn every_code_is_published() {
        let published: Vec<_> = PUBLISHED.lines().collect();
        let unknown: Vec<_> = Code::ALL
            .iter()
            .map(|c| c.as_str())
            .filter(|c| !published.contains(c))
            .collect();
        assert!(unknown.is_empty(), "not published: {unknown:?}");
    }
}
