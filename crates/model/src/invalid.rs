//! The error that every parsing constructor returns.

use std::fmt;

use thiserror::Error;

/// A rejected value: the field, the value given and the values allowed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {given} is not allowed; {allowed}")]
pub struct Invalid {
    /// The field.
    pub field: Field,
    /// The rejected value, quoted and truncated.
    pub given: String,
    /// Description of the accepted values.
    pub allowed: String,
}

impl Invalid {
    /// Describes a rejected value. Truncates long values so that an error never echoes a whole request.
    pub fn new(field: Field, given: impl std::fmt::Debug, allowed: impl Into<String>) -> Self {
        const SHOWN: usize = 80;
        let mut given = format!("{given:?}");
        if given.chars().count() > SHOWN {
            given = given.chars().take(SHOWN).collect();
            given.push('…');
        }
        Self {
            field,
            given,
            allowed: allowed.into(),
        }
    }
}

/// A field whose values are checked when they are made. Each API has names of its own for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Function name.
    FunctionName,
    /// Namespace.
    Namespace,
    /// Layer name.
    LayerName,
    /// Version or alias.
    Qualifier,
    /// Version.
    Version,
    /// Request id.
    RequestId,
    /// Handler.
    Handler,
    /// Runtime.
    Runtime,
    /// Memory.
    Memory,
    /// Timeout.
    Timeout,
    /// Start timeout.
    InitTimeout,
    /// Dead-letter target.
    DeadLetter,
    /// Number of retries.
    Retries,
    /// Maximum age of an event.
    EventAge,
    /// Trigger name.
    TriggerName,
    /// Trigger type.
    TriggerKind,
    /// Bucket name.
    BucketName,
    /// Key of an object.
    ObjectKey,
    /// Object event.
    ObjectEvent,
    /// Key prefix.
    KeyPrefix,
    /// Key suffix.
    KeySuffix,
    /// Method of the API.
    ApiMethod,
    /// Path of the API.
    ApiPath,
    /// Release stage.
    Stage,
    /// Domain.
    Domain,
    /// Protocol.
    Protocol,
    /// Path pattern.
    PathPattern,
    /// New name of a copy.
    CopyName,
    /// Package with code.
    Package,
    /// Whether dependencies are installed.
    InstallDependencies,
    /// Environment variables.
    Environment,
    /// Layers of a function.
    Layers,
    /// Version of a layer.
    LayerVersion,
    /// Licence of a layer.
    License,
    /// Runtimes that a layer is for.
    CompatibleRuntimes,
    /// Tags.
    Tags,
    /// Alias name.
    AliasName,
    /// Description.
    Description,
    /// Routing of an alias.
    Routing,
    /// Weight of a version in the routing.
    Weight,
    /// Key of the routing rule.
    RuleKey,
    /// Method of the routing rule.
    RuleMethod,
    /// Expression of the routing rule.
    RuleExpression,
    /// Description of a trigger's event source.
    TriggerDescription,
    /// Message in a timer's events.
    TriggerMessage,
    /// Concurrency quota of the account.
    TotalConcurrency,
    /// Reserved concurrency of a function.
    ReservedConcurrency,
    /// Number of provisioned instances.
    ProvisionedInstances,
    /// Kind of provisioned concurrency.
    ProvisionedPolicy,
    /// Share of the provisioned instances to be kept busy.
    TrackingTarget,
    /// Minimum number of provisioned instances.
    MinInstances,
    /// Scheduled changes of provisioned concurrency.
    ScheduledActions,
    /// Name of a scheduled action.
    ActionName,
    /// Number of instances of a scheduled action.
    ActionInstances,
    /// Schedule of a scheduled action.
    ActionSchedule,
    /// Settings for events.
    EventConfig,
    /// Request id of an event.
    Event,
    /// Functions that a custom domain leads to.
    Routes,
    /// Rewriting of a path.
    Rewrite,
    /// Certificate of a custom domain.
    Certificate,
    /// Tag of a function.
    Tag,
    /// Key of a tag.
    TagKey,
    /// Account, by name or id.
    Account,
    /// Account name.
    AccountName,
    /// Validity of temporary credentials.
    Session,
    /// Secret id.
    SecretId,
    /// Role name.
    RoleName,
    /// Policy.
    Policy,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FunctionName => "function name",
            Self::Namespace => "namespace",
            Self::LayerName => "layer name",
            Self::Qualifier => "version or alias",
            Self::Version => "version",
            Self::RequestId => "request id",
            Self::Handler => "handler",
            Self::Runtime => "runtime",
            Self::Memory => "memory",
            Self::Timeout => "timeout",
            Self::InitTimeout => "start timeout",
            Self::DeadLetter => "dead-letter target",
            Self::Retries => "number of retries",
            Self::EventAge => "maximum age of an event",
            Self::TriggerName => "trigger name",
            Self::TriggerKind => "trigger type",
            Self::BucketName => "bucket name",
            Self::ObjectKey => "object key",
            Self::ObjectEvent => "object event",
            Self::KeyPrefix => "key prefix",
            Self::KeySuffix => "key suffix",
            Self::ApiMethod => "method of the API",
            Self::ApiPath => "path of the API",
            Self::Stage => "release stage",
            Self::Domain => "domain",
            Self::Protocol => "protocol",
            Self::PathPattern => "path pattern",
            Self::CopyName => "new name of a copy",
            Self::Package => "package",
            Self::InstallDependencies => "installation of dependencies",
            Self::Environment => "environment variables",
            Self::Layers => "layers",
            Self::LayerVersion => "layer version",
            Self::License => "license",
            Self::CompatibleRuntimes => "compatible runtimes",
            Self::Tags => "tags",
            Self::AliasName => "alias name",
            Self::Description => "description",
            Self::Routing => "routing",
            Self::Weight => "weight",
            Self::RuleKey => "key of the routing rule",
            Self::RuleMethod => "method of the routing rule",
            Self::RuleExpression => "expression of the routing rule",
            Self::TriggerDescription => "description of the event source",
            Self::TriggerMessage => "message of the timer",
            Self::TotalConcurrency => "concurrency quota",
            Self::ReservedConcurrency => "reserved concurrency",
            Self::ProvisionedInstances => "number of provisioned instances",
            Self::ProvisionedPolicy => "kind of provisioned concurrency",
            Self::TrackingTarget => "target of the tracking",
            Self::MinInstances => "minimum number of provisioned instances",
            Self::ScheduledActions => "scheduled actions",
            Self::ActionName => "name of the scheduled action",
            Self::ActionInstances => "number of instances of the scheduled action",
            Self::ActionSchedule => "schedule of the scheduled action",
            Self::EventConfig => "settings for events",
            Self::Event => "event",
            Self::Routes => "routes",
            Self::Rewrite => "rewriting of a path",
            Self::Certificate => "certificate",
            Self::Tag => "tag",
            Self::TagKey => "key of the tag",
            Self::Account => "account",
            Self::AccountName => "account name",
            Self::Session => "validity in seconds",
            Self::SecretId => "secret id",
            Self::RoleName => "role name",
            Self::Policy => "policy",
        })
    }
}
