//! The domain model: functions, versions, triggers, invocations and their outcomes.
//!
//! Constructors parse, so a value of these types is valid and is not checked again. The types know nothing of HTTP,
//! clocks or storage engines. They derive `serde` only so that the catalog can store them.
#![forbid(unsafe_code)]

mod access;
mod alias;
mod code;
mod concurrency;
mod config;
mod domain;
mod events;
mod function;
mod invalid;
mod invocation;
mod layer;
mod limits;
mod names;
mod outcome;
pub mod policy;
mod recursion;
mod runtime;
mod source;
mod time;
mod trace;
mod trigger;
mod version;

pub use access::{Account, AccountName, Key, Role, RoleName, Secret, SecretId};
pub use alias::{Alias, Expression, Routing, RoutingKey, RoutingRule, RuleTest, WeightedVersion};
pub use code::{CodeRef, Sha256};
pub use concurrency::{AccountSettings, Provisioned, ProvisionedPolicy, ScheduledAction};
pub use config::{FunctionConfig, FunctionKind, InstanceConcurrency, Seconds, WebConfig};
pub use domain::{Domain, DomainName, Firewall, PathPattern, Protocol, Rewrite, Route};
pub use events::{DeadLetter, EventConfig};
pub use function::{Function, FunctionState, NamespaceRecord, PendingCode, Serving, StatusReason};
pub use invalid::{Field, Invalid};
pub use invocation::InvocationOrigin;
pub use layer::{Layer, LayerRef, LayerVersion};
pub use limits::{Limits, MemoryMb};
pub use names::{
    AccountId, FunctionId, FunctionKey, FunctionName, Handler, LayerName, Namespace, Qualifier,
    RequestId,
};
pub use outcome::{Blame, Failure, FailureKind, Outcome, Usage, outcome_number};
pub use policy::{Decision, Policy, Resource};
pub use recursion::RecursionDepth;
pub use runtime::{Description, Language, PackageManager, Runtime, SourceFile};
pub use source::Source;
pub use time::Timestamp;
pub use trace::TraceContext;
pub use trigger::{
    ApiMethod, ApiPath, BucketName, Cors, FunctionUrl, GatewayApi, ObjectEvent, ObjectEvents,
    Stage, Timer, Trigger, TriggerDescription, TriggerKind, TriggerName, TriggerSpec, UrlAuth,
};
pub use version::{PublishedVersion, Version};
