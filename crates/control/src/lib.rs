//! The operations behind every API, the console and the command line: create, publish, update and delete functions and what
//! belongs to them.
//!
//! Owns the checks of an operation, their order, and the change of the records. A caller passes values by plain types,
//! since a value is checked only after what it depends on, such as a function that must exist. Never knows wire formats,
//! an API's names of fields, or its error codes: an [`Error`] has a neutral [`Reason`], which each gateway maps.
#![forbid(unsafe_code)]

pub mod accounts;
pub mod aliases;
pub mod async_events;
mod change;
pub mod concurrency;
pub mod domains;
mod error;
pub mod functions;
mod identity;
pub mod keys;
pub mod layers;
mod namespaces;
mod object_source;
mod objects;
pub mod packages;
pub mod provisioned;
mod random;
mod roles;
pub mod tags;
pub mod text;
pub mod triggers;
pub mod versions;

pub use error::{Error, Limit, Reason};
pub use identity::Identity;
pub use object_source::ObjectSource;
pub use random::random;

use std::sync::Arc;

use access::Access;
use catalog::Catalog;
use dispatch::cron::WeekdayZero;
use engine::builds::Builds;
use engine::driver::Driver;
use engine::provisioner::Provisioner;
use engine::runner::Runner;
use events::Queue;
use hosts::ApiHosts;
use model::Limits;
use ownership::Ownership;
use purge::Purge;
use telemetry::InvocationLog;
use worker::{PackageStore, Worker};

/// The operations, and the stores that they change. A clone shares them.
#[derive(Clone, Debug)]
pub struct Control {
    /// Keys, roles and policies, ready to use.
    pub access: Access,
    /// The catalog.
    pub catalog: Catalog,
    /// The platform's limits.
    pub limits: Arc<Limits>,
    /// The buckets that packages may be in.
    pub objects: ObjectSource,
    /// The packages of functions and layers.
    pub packages: PackageStore,
    /// The interpreters.
    pub worker: Arc<Worker>,
    /// Installs dependencies and compiles layers.
    pub builds: Builds,
    /// Runs queued events; knows the allowed dead-letter targets.
    pub runner: Runner,
    /// The meaning of weekday 0 in cron expressions.
    pub weekday_zero: WeekdayZero,
    /// Starts and stops instances.
    pub driver: Driver,
    /// Keeps provisioned minimums.
    pub provisioner: Provisioner,
    /// The event queue.
    pub queue: Arc<dyn Queue>,
    /// The log of invocations.
    pub log: InvocationLog,
    /// Host names that cannot become custom domains.
    pub hosts: Arc<ApiHosts>,
    /// The proofs of ownership of custom domains.
    pub ownership: Arc<Ownership>,
    /// Deletes accounts with everything they own.
    pub purge: Purge,
}
