//! Errors of operations: a neutral reason, which each gateway maps to a code of its API.

use model::{Field, Invalid};
use worker::PackageError;

/// An error of an operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", field.map(|field| format!("{field}: ")).unwrap_or_default())]
pub struct Error {
    /// The reason.
    pub reason: Reason,
    /// The field that it concerns. A gateway writes its name before the message.
    pub field: Option<Field>,
    /// The fault, the value and the allowed values.
    pub message: String,
}

/// Why an operation is refused or failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The value of the field is not allowed.
    Invalid,
    /// The namespace does not exist.
    NamespaceMissing,
    /// The function does not exist.
    FunctionMissing,
    /// The function has no such version.
    VersionMissing,
    /// The function has no such alias.
    AliasMissing,
    /// The account has no such role.
    RoleMissing,
    /// The account has no such layer.
    LayerMissing,
    /// The layer has no such version.
    LayerVersionMissing,
    /// The account has no such bucket.
    BucketMissing,
    /// The bucket has no such object.
    ObjectMissing,
    /// No interpreter serves the runtime.
    InterpreterMissing,
    /// The function has no such version or alias.
    QualifierMissing,
    /// The function has no such trigger.
    TriggerMissing,
    /// Several triggers of the function have this name.
    TriggerAmbiguous,
    /// The account has no such event.
    EventMissing,
    /// A function of this name exists.
    FunctionExists,
    /// A namespace of this name exists.
    NamespaceExists,
    /// An alias of this name exists.
    AliasExists,
    /// The function has such a trigger.
    TriggerExists,
    /// The version or alias has a trigger of a kind of which it has at most one.
    QualifierTaken,
    /// Another trigger gets some of the object events.
    EventsTaken,
    /// The function takes no events of this kind of trigger.
    UnsuitableTrigger,
    /// Another scheduled action has this name.
    ActionNameTaken,
    /// Another scheduled action has this schedule.
    ActionScheduleTaken,
    /// The alias belongs to every function and cannot be deleted.
    AliasPermanent,
    /// The namespace belongs to every account and cannot be deleted.
    NamespacePermanent,
    /// The namespace holds functions.
    NamespaceInUse,
    /// Functions use the role. A forced deletion takes their rights away.
    RoleInUse,
    /// The account has no such custom domain.
    DomainMissing,
    /// The name is in use, by a custom domain or by the platform.
    DomainTaken,
    /// The account does not prove that it owns the domain.
    DomainUnproved,
    /// The function has no such tag.
    TagMissing,
    /// The function has the tag with another value.
    TagConflict,
    /// The tag is attached to functions.
    TagInUse,
    /// The tag exists, since a function has it.
    TagExists,
    /// The tag's key begins with a word of the platform's own.
    TagReserved,
    /// Only the operator may do it.
    OperatorOnly,
    /// Aliases use the version. A forced deletion changes them.
    UsedByAliases,
    /// Triggers are bound to the version or alias.
    UsedByTriggers {
        /// Whether a forced deletion is possible.
        can_force: bool,
    },
    /// The state of the function does not allow it.
    FunctionState,
    /// The function has no code to publish.
    NothingToPublish,
    /// The function has no code to copy.
    NothingToCopy,
    /// The name is the platform's own.
    ReservedName,
    /// virga does not offer it.
    Unsupported,
    /// The installation of dependencies failed.
    BuildFailed,
    /// The event has completed.
    EventEnded,
    /// The last change of the provisioned concurrency is still being applied.
    ProvisionedInProgress,
    /// The provisioned concurrency is greater than the reserved one.
    ProvisionedExceedsReserved,
    /// The memory for the provisioned concurrency is not there.
    ProvisionedExceedsAvailable,
    /// The memory cannot be reserved.
    ReservedExceedsAvailable,
    /// A limit is reached.
    LimitReached(Limit),
    /// The account is being deleted, or still owns resources.
    Account,
    /// A concurrent change came first.
    Conflict,
    /// The platform failed. The message is for the operator.
    Internal,
}

/// A limit on a number or a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Functions of a namespace.
    Functions,
    /// Published versions of a function.
    Versions,
    /// Aliases of a function.
    Aliases,
    /// Namespaces of an account.
    Namespaces,
    /// Custom domains of an account.
    Domains,
    /// Tags of a function.
    Tags,
    /// Accounts, or keys or roles of one.
    Accounts,
    /// Layers of an account.
    Layers,
    /// Versions of a layer.
    LayerVersions,
    /// Layers that one function has.
    LayersOfFunction,
    /// Bytes of all environment variables of a function.
    EnvironmentBytes,
    /// Bytes of a package in a bucket.
    PackageObjectBytes,
    /// Bytes of a package in a request.
    PackageBytes,
    /// Triggers of one kind of a function.
    Triggers,
    /// Scheduled actions of a version.
    ScheduledActions,
    /// Events in the queue.
    QueuedEvents,
    /// Bytes of an account's records.
    RecordBytes,
}

impl Error {
    /// Creates an error that concerns no field.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            field: None,
            message: message.into(),
        }
    }

    /// Creates an error that concerns a field.
    pub fn of(field: Field, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            field: Some(field),
            ..Self::new(reason, message)
        }
    }

    /// Creates the error for a rejected value of a field.
    pub fn invalid(field: Field, message: impl Into<String>) -> Self {
        Self::of(field, Reason::Invalid, message)
    }

    /// Creates the error for a rejected value of a field that is usually another one.
    pub fn invalid_as(field: Field, error: Invalid) -> Self {
        Self {
            field: Some(field),
            ..error.into()
        }
    }

    /// Creates an internal error; its details are for the operator.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        Self::new(Reason::Internal, error.to_string())
    }

    /// Describes an error of a change to a function.
    pub fn function(error: catalog::Error) -> Self {
        use catalog::Error as Change;
        match &error {
            Change::Exists => Self::of(
                Field::FunctionName,
                Reason::FunctionExists,
                "a function of this name exists in the namespace",
            ),
            Change::Quota(limit) => {
                let message =
                    format!("the namespace has its {limit} functions already; delete some first");
                Self::new(Reason::LimitReached(Limit::Functions), message)
            }
            Change::Full(_) => Self::record(Reason::LimitReached(Limit::Versions), &error),
            Change::Conflict | Change::IdUsed { .. } => Self::record(Reason::Conflict, &error),
            Change::NoNamespace(_) => Self::record(Reason::NamespaceMissing, &error),
            Change::NotEmpty(_) => Self::record(Reason::NamespaceInUse, &error),
            Change::InUse | Change::Closed => Self::record(Reason::Account, &error),
            Change::Bytes { .. } => Self::record(Reason::LimitReached(Limit::RecordBytes), &error),
            Change::InvalidId { .. } => Self::record(Reason::Invalid, &error),
            Change::Store(_) | Change::Format { .. } => Self::record(Reason::Internal, &error),
        }
    }

    /// Describes an error of a change to a layer.
    pub fn layer(error: catalog::Error) -> Self {
        match &error {
            catalog::Error::Quota(limit) => {
                let message =
                    format!("the account has its {limit} layers already; delete one first");
                Self::new(Reason::LimitReached(Limit::Layers), message)
            }
            catalog::Error::Full(_) => {
                Self::record(Reason::LimitReached(Limit::LayerVersions), &error)
            }
            _ => Self::function(error),
        }
    }

    /// Describes an error of a change to an account, a key or a role.
    pub(crate) fn access(error: catalog::Error) -> Self {
        match &error {
            catalog::Error::Quota(limit) => {
                let message = format!("there are {limit} of them already; delete one first");
                Self::new(Reason::LimitReached(Limit::Accounts), message)
            }
            catalog::Error::Exists => Self::record(Reason::Conflict, &error),
            _ => Self::function(error),
        }
    }

    /// Describes an error of the package store.
    pub fn package(error: PackageError) -> Self {
        match error {
            PackageError::Refused(why) => Self::invalid(Field::Package, why),
            other => Self::new(Reason::Internal, other.to_string()),
        }
    }

    /// Passes on the message of the catalog.
    fn record(reason: Reason, error: &catalog::Error) -> Self {
        Self::new(reason, error.to_string())
    }
}

impl From<Invalid> for Error {
    fn from(error: Invalid) -> Self {
        let Invalid {
            field,
            given,
            allowed,
        } = error;
        Self::invalid(field, format!("{given} is not allowed; {allowed}"))
    }
}
