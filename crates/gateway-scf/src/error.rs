//! The mapping of internal errors to the API's codes.

mod bound;
mod refused;
mod rejected;

pub(super) use bound::{large_field, long_list, long_text};
pub(super) use refused::{
    body, is_temporary, is_throttled, is_too_long, no_action, operator_denied, unauthorized,
};
pub(super) use rejected::{Rejected, object_denied, parameter, rejected, wire_field};

use access::{Denied, PlainRootKey, RateLimited};
use control::{Limit, Reason};
use engine::invoke::IngestError;
use events::QueueError;
use model::{Field, Invalid};
use scf::{Code, Error};
use telemetry::LogStoreError;

/// An error in the middle of an operation: its own, or of a part that the gateway adds, such as a document in the request.
pub(super) struct Refused(Error);

impl From<control::Error> for Refused {
    fn from(error: control::Error) -> Self {
        Self(control(error))
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<Refused> for Error {
    fn from(Refused(error): Refused) -> Self {
        error
    }
}

/// Maps an error of an operation.
pub(super) fn control(error: control::Error) -> Error {
    let control::Error {
        reason,
        field,
        message,
    } = error;
    let code = match reason {
        Reason::Invalid => field.map_or(Code::InvalidParameterValue, field_code),
        Reason::NamespaceMissing => Code::NamespaceNotFound,
        Reason::FunctionMissing => Code::FunctionNotFound,
        Reason::VersionMissing => Code::FunctionVersionNotFound,
        Reason::AliasMissing => Code::AliasNotFound,
        Reason::RoleMissing => Code::RoleNotFound,
        Reason::LayerMissing => Code::LayerNotFound,
        Reason::LayerVersionMissing => Code::LayerVersionNotFound,
        Reason::BucketMissing => Code::CosNotFound,
        Reason::ObjectMissing => Code::CosObjectNotFound,
        Reason::InterpreterMissing => Code::InvalidRuntime,
        Reason::QualifierMissing => Code::QualifierNotFound,
        Reason::TriggerMissing => Code::TriggerNotFound,
        Reason::TriggerAmbiguous => Code::InvalidTriggerDesc,
        Reason::EventMissing => Code::AsyncEventNotFound,
        Reason::FunctionExists => Code::FunctionNameInUse,
        Reason::NamespaceExists => Code::NamespaceInUse,
        Reason::AliasExists => Code::AliasInUse,
        Reason::TriggerExists => Code::TriggerNameInUse,
        Reason::QualifierTaken => Code::TriggerInUse,
        Reason::EventsTaken => Code::CosInUse,
        Reason::UnsuitableTrigger => Code::UnsupportedTrigger,
        Reason::ActionNameTaken => Code::ProvisionTriggerNameDuplicate,
        Reason::ActionScheduleTaken => Code::ProvisionTriggerCronConfigDuplicate,
        Reason::AliasPermanent => Code::DeleteAliasFailed,
        Reason::NamespacePermanent => Code::DefaultNamespace,
        Reason::NamespaceInUse => Code::NamespaceInUse,
        Reason::RoleInUse | Reason::DomainTaken => Code::InUse,
        Reason::DomainMissing => Code::DomainNotFound,
        Reason::DomainUnproved => Code::FailedOperation,
        Reason::TagMissing => Code::AttachedTagKeyNotFound,
        Reason::TagConflict => Code::TagKeyAttached,
        Reason::TagInUse => Code::TagAttachedResource,
        Reason::TagExists => Code::TagDuplicate,
        Reason::TagReserved => Code::ReservedTagKey,
        Reason::OperatorOnly => Code::UnauthorizedOperation,
        Reason::UsedByAliases => Code::AliasBind,
        Reason::UsedByTriggers { .. } => Code::TriggerInUse,
        Reason::FunctionState => Code::FunctionStatusError,
        Reason::NothingToPublish => Code::PublishVersionFailed,
        Reason::NothingToCopy => Code::CopyFunctionFailed,
        Reason::ReservedName => Code::EnvironmentSystemProtect,
        Reason::Unsupported => Code::UnsupportedOperation,
        Reason::BuildFailed => Code::FailedOperation,
        Reason::EventEnded => Code::AsyncEventStatus,
        Reason::ProvisionedInProgress => Code::ProvisionedInProgress,
        Reason::ProvisionedExceedsReserved => Code::ProvisionedExceedReserved,
        Reason::ProvisionedExceedsAvailable => Code::ProvisionedExceedAvailable,
        Reason::ReservedExceedsAvailable => Code::ReservedExceedTotal,
        Reason::LimitReached(limit) => limit_code(limit),
        Reason::Account => Code::FailedOperation,
        Reason::Conflict => Code::OperationConflict,
        Reason::Internal => Code::InternalError,
    };
    let advice = match reason {
        // The Serverless tool-kit looks for this text of the cloud's to decide that it must create the alias.
        Reason::AliasMissing => " (未找到指定的Alias)",
        Reason::UsedByAliases | Reason::UsedByTriggers { can_force: true } => {
            ", or set ForceDelete to TRUE"
        }
        Reason::LimitReached(Limit::PackageBytes) => refused::LARGER_PACKAGE_HINT,
        Reason::TriggerAmbiguous => ", as ListTriggers shows it",
        Reason::RoleInUse => ", or set Force to take their rights away at once",
        Reason::TagConflict => ", or change it with ModifyResourceTags",
        _ => "",
    };
    let name = match reason {
        // The field of DeleteRole; in other actions a role is a setting.
        Reason::RoleInUse => Some("Name"),
        _ => field.map(wire_name),
    };
    let message = match name {
        Some(name) => format!("{name}: {message}{advice}"),
        None => message + advice,
    };
    Error::new(code, message)
}

fn limit_code(limit: Limit) -> Code {
    match limit {
        Limit::Functions => Code::LimitExceededFunction,
        Limit::Versions => Code::LimitExceededFunctionVersions,
        Limit::Aliases => Code::LimitExceededAlias,
        Limit::Layers | Limit::LayersOfFunction => Code::LimitExceededLayers,
        Limit::Namespaces => Code::LimitExceededNamespace,
        Limit::Domains => Code::LimitExceeded,
        Limit::Tags => Code::ResourceAttachedTags,
        Limit::Accounts => Code::FailedOperation,
        Limit::LayerVersions => Code::LimitExceededLayerVersions,
        Limit::EnvironmentBytes => Code::EnvironmentExceededLimit,
        Limit::PackageBytes | Limit::PackageObjectBytes => Code::InvalidZipFile,
        Limit::Triggers => Code::LimitExceededTrigger,
        Limit::ScheduledActions => Code::LimitExceededProvisionTriggerAction,
        Limit::QueuedEvents => Code::RequestLimitExceeded,
        Limit::RecordBytes => Code::LimitExceededQuota,
    }
}

/// Returns the error code for an invalid value of a field.
fn field_code(field: Field) -> Code {
    match field {
        Field::ObjectKey => Code::InvalidCosObjectName,
        Field::Package => Code::InvalidZipFile,
        Field::Environment => Code::InvalidEnvironment,
        Field::Layers => Code::InvalidLayers,
        Field::AliasName => Code::InvalidAlias,
        Field::Description => Code::InvalidDescription,
        Field::Routing | Field::RuleKey | Field::RuleMethod | Field::RuleExpression => {
            Code::InvalidRoutingConfig
        }
        Field::Weight => Code::InvalidAdditionalVersionWeights,
        Field::TriggerDescription => Code::InvalidTriggerDesc,
        Field::TriggerMessage => Code::InvalidCustomArgument,
        Field::TotalConcurrency => Code::LimitExceededTotal,
        Field::ReservedConcurrency => Code::LimitExceededReserved,
        Field::ProvisionedPolicy => Code::InvalidProvisionType,
        Field::TrackingTarget => Code::InvalidTrackingTarget,
        Field::MinInstances => Code::InvalidMinCapacity,
        Field::ActionName => Code::InvalidProvisionTriggerName,
        Field::ActionInstances => Code::InvalidTriggerProvisionedNum,
        Field::ActionSchedule => Code::InvalidTriggerCronConfig,
        Field::EventConfig => Code::InvalidAsyncTriggerConfig,
        Field::TagKey => Code::TagKeyEmpty,
        other => code_of(wire_name(other)),
    }
}

/// Maps a rejected value.
pub(super) fn invalid(error: Invalid) -> Error {
    control(error.into())
}

/// Returns the message about a rejected value, for fields whose code depends on where they stand.
pub(super) fn rejection(error: &Invalid) -> String {
    refusal(wire_name(error.field), error)
}

/// Maps a rejected value of a field with another name than usual.
pub(super) fn invalid_field(name: &str, error: Invalid) -> Error {
    Error::new(code_of(name), refusal(name, &error))
}

/// Returns the message about a rejected value.
pub(super) fn refusal(name: &str, error: &Invalid) -> String {
    let Invalid { given, allowed, .. } = error;
    format!("{name}: {given} is not allowed; {allowed}")
}

/// Returns SCF's name of a field.
pub(super) fn wire_name(field: Field) -> &'static str {
    match field {
        Field::FunctionName => "FunctionName",
        Field::Namespace => "Namespace",
        Field::LayerName => "LayerName",
        Field::Qualifier => "Qualifier",
        Field::Version => "FunctionVersion",
        Field::RequestId => "FunctionRequestId",
        Field::Handler => "Handler",
        Field::Runtime => "Runtime",
        Field::Memory => "MemorySize",
        Field::Timeout => "Timeout",
        Field::InitTimeout => "InitTimeout",
        Field::DeadLetter => "DeadLetterConfig",
        Field::Retries => "RetryNum",
        Field::EventAge => "MsgTTL",
        Field::TriggerName => "TriggerName",
        Field::TriggerKind => "Type",
        Field::BucketName => "CosBucketName",
        Field::ObjectKey => "CosObjectName",
        Field::ObjectEvent => "event",
        Field::KeyPrefix => "Prefix",
        Field::KeySuffix => "Suffix",
        Field::ApiMethod => "requestConfig.method",
        Field::ApiPath => "requestConfig.path",
        Field::Stage => "release.environmentName",
        Field::Domain => "Domain",
        Field::Protocol => "Protocol",
        Field::PathPattern => "PathMatch",
        Field::CopyName => "NewFunctionName",
        Field::Package => "ZipFile",
        Field::InstallDependencies => "InstallDependency",
        Field::Environment => "Environment",
        Field::Layers => "Layers",
        Field::LayerVersion => "LayerVersion",
        Field::License => "LicenseInfo",
        Field::CompatibleRuntimes => "CompatibleRuntimes",
        Field::Tags => "Tags",
        Field::AliasName => "Name",
        Field::Description => "Description",
        Field::Routing => "RoutingConfig",
        Field::Weight => "Weight",
        Field::RuleKey => "Key",
        Field::RuleMethod => "Method",
        Field::RuleExpression => "Expression",
        Field::TriggerDescription => "TriggerDesc",
        Field::TriggerMessage => "CustomArgument",
        Field::TotalConcurrency => "TotalConcurrencyMem",
        Field::ReservedConcurrency => "ReservedConcurrencyMem",
        Field::ProvisionedInstances => "VersionProvisionedConcurrencyNum",
        Field::ProvisionedPolicy => "ProvisionedType",
        Field::TrackingTarget => "TrackingTarget",
        Field::MinInstances => "MinCapacity",
        Field::ScheduledActions => "TriggerActions",
        Field::ActionName => "TriggerName",
        Field::ActionInstances => "TriggerProvisionedConcurrencyNum",
        Field::ActionSchedule => "TriggerCronConfig",
        Field::EventConfig => "AsyncTriggerConfig",
        Field::Event => "InvokeRequestId",
        Field::Routes => "EndpointsConfig",
        Field::Rewrite => "PathRewrite",
        Field::Certificate => "CertConfig",
        Field::Tag => "TagKey, TagValue",
        Field::TagKey => "TagKey",
        Field::Account => "Account",
        Field::AccountName => "Name",
        Field::Session => "Seconds",
        Field::SecretId => "SecretId",
        Field::RoleName => "Role",
        Field::Policy => "Policy",
    }
}

/// Returns the error code for an invalid value of a field, by SCF's name.
pub(super) fn code_of(field: &str) -> Code {
    match field {
        "FunctionName" => Code::InvalidFunctionName,
        "Namespace" => Code::InvalidNamespace,
        "LayerName" => Code::InvalidLayerName,
        "Qualifier" => Code::InvalidQualifier,
        "TriggerName" => Code::InvalidTriggerName,
        "Type" => Code::InvalidType,
        "FunctionRequestId" => Code::InvalidFunctionRequestId,
        "Domain" => Code::InvalidDomain,
        "Handler" => Code::InvalidHandler,
        "Runtime" => Code::InvalidRuntime,
        "MemorySize" => Code::InvalidMemorySize,
        "Timeout" => Code::LimitExceededTimeout,
        "DeadLetterConfig" => Code::InvalidDeadLetterConfig,
        "MsgTTL" => Code::LimitExceededMsgTtl,
        "RetryNum" => Code::LimitExceededRetryNum,
        "InvokeRequestId" => Code::InvalidParameterValue,
        "InitTimeout" => Code::LimitExceededInitTimeout,
        _ => Code::InvalidParameterValue,
    }
}

/// Maps a policy's refusal.
pub(super) fn denied(refused: &Denied) -> Error {
    Error::new(Code::UnauthorizedOperation, refused.to_string())
}

/// Maps the refusal of a root key in plain text.
pub(super) fn plain_root_key(refused: &PlainRootKey) -> Error {
    Error::new(Code::UnauthorizedOperation, refused.to_string())
}

/// Maps an exhausted rate limit.
pub(super) fn rate_limited(refused: &RateLimited) -> Error {
    Error::new(Code::RequestLimitExceeded, refused.to_string())
}

/// Returns an internal error; its details are for the operator.
pub(super) fn internal(error: &dyn std::fmt::Display) -> Error {
    Error::new(Code::InternalError, error.to_string())
}

pub(super) fn logs(error: LogStoreError) -> Error {
    internal(&error)
}

pub(super) fn ingest(error: IngestError) -> Error {
    let code = match &error {
        IngestError::NoFunction(_) => Code::FunctionNotFound,
        IngestError::NoNamespace(_) => Code::NamespaceNotFound,
        IngestError::NoQualifier { .. } => Code::QualifierNotFound,
        IngestError::State { .. } => Code::FunctionStatusError,
        IngestError::TooLarge { .. } => Code::RequestTooLarge,
        IngestError::Open { .. } => Code::InvokeFunctionFailed,
        IngestError::Web(_) => Code::UnsupportedOperation,
        IngestError::Draining => Code::InternalError,
        IngestError::Invalid(_) => Code::InvalidParameterValue,
        IngestError::Queue(QueueError::Unavailable(_)) => Code::InternalError,
        IngestError::Queue(_) => Code::RequestLimitExceeded,
    };
    match error {
        IngestError::Invalid(error) => invalid(error),
        // Every orderly stop cuts off calls that wait.
        IngestError::Draining => Error::new(code, error.to_string()).temporary(),
        other => Error::new(code, other.to_string()),
    }
}

/// Maps an error of the event queue.
pub(super) fn queue(error: QueueError) -> Error {
    ingest(IngestError::Queue(error))
}

/// Returns the error for an unsupported feature.
pub(super) fn unsupported(what: &str) -> Error {
    Error::new(Code::UnsupportedOperation, what)
}
