//! The domain model: functions, versions, triggers, invocations and their outcomes.
//!
//! Constructors parse, so a value of these types is valid and is not checked again. The types know nothing of HTTP,
//! clocks or storage engines. They derive `serde` only so that the catalog can store them.
#![forbid(unsafe_code)]

mod access;
mod apigw;
mod code;
mod concurrency;
mod cos;
mod domain;
mod events;
mod function;
mod invalid;
mod invocation;
mod layer;
mod limits;
mod names;
pub mod policy;
mod trace;
mod trigger;
mod url;
mod version;

pub use access::{Account, AccountName, Key, Role, RoleName, Secret, SecretId};
pub use apigw::{ApiMethod, ApiPath, GatewayApi, Stage};
pub use code::{CodeRef, Sha256};
pub use concurrency::{AccountSettings, Provisioned, ProvisionedPolicy, ScheduledAction};
pub use cos::{BucketName, ObjectEvent, ObjectEvents};
pub use domain::{Domain, DomainName, Firewall, PathPattern, Protocol, Rewrite, Route};
pub use events::{DeadLetter, EventConfig};
pub use function::{
    Function, FunctionConfig, FunctionKind, FunctionState, InstanceConcurrency, NamespaceRecord,
    PendingCode, Seconds, StatusReason, Timestamp, WebConfig,
};
pub use invalid::Invalid;
pub use invocation::{InvocationOrigin, Outcome, StatusCode, Usage};
pub use layer::{Layer, LayerRef, LayerVersion};
pub use limits::{Limits, MemoryMb};
pub use names::{
    AccountId, FunctionId, FunctionKey, FunctionName, Handler, LayerName, Namespace, Qualifier,
    RequestId, Runtime,
};
pub use policy::{Decision, Policy, Resource};
pub use trace::TraceContext;
pub use trigger::{Timer, Trigger, TriggerKind, TriggerName, TriggerSpec};
pub use url::{Cors, FunctionUrl, UrlAuth};
pub use version::{
    Alias, Expression, PublishedVersion, Routing, RoutingKey, RoutingRule, RuleTest, Serving,
    Version, WeightedVersion,
};
