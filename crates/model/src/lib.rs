//! The domain's words: what a function, a version, an invocation and an outcome are.
//!
//! Every value here was checked when it was made: the constructors parse, and what they return needs no
//! second look. The types know nothing of HTTP, of the SCF wire names, of clocks or of storage engines;
//! they carry `serde` only so that the catalog can store them.
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
mod trigger;
mod url;
mod version;

pub use access::{Account, AccountName, Key, Role, RoleName, Secret, SecretId};
pub use apigw::{ApiMethod, ApiPath, GatewayApi, Stage};
pub use code::{CodeRef, Sha256};
pub use concurrency::{AccountRecord, Provisioned, ProvisionedPolicy, ScheduledAction};
pub use cos::{BucketName, ObjectEvent, ObjectEvents};
pub use domain::{Domain, DomainName, Firewall, PathPattern, Protocol, Rewrite, Route};
pub use events::{DeadLetter, EventConfig};
pub use function::{
    Concurrency, Function, FunctionConfig, FunctionKind, FunctionState, NamespaceRecord,
    PendingCode, Seconds, StatusReason, Timestamp, WebConfig,
};
pub use invalid::Invalid;
pub use invocation::{InvocationContext, Outcome, StatusCode, Usage};
pub use layer::{Layer, LayerRef, LayerVersion};
pub use limits::{Limits, MemoryMb};
pub use names::{
    AccountId, FunctionId, FunctionKey, FunctionName, Handler, LayerName, Namespace, Qualifier,
    RequestId, Runtime,
};
pub use policy::{Decision, Policy, Resource};
pub use trigger::{Timer, Trigger, TriggerKind, TriggerName, TriggerSpec};
pub use url::{Cors, FunctionUrl, UrlAuth};
pub use version::{
    Alias, Expression, Published, Routing, RoutingKey, Rule, Serving, Share, Test, Version,
};
