//! The state of the gateway, and what the actions share.

use std::sync::Arc;

use access::{Access, Principal};
use catalog::Catalog;
use control::Control;
use engine::driver::Driver;
use engine::invoke::Ingest;
use engine::runner::Runner;
use events::Queue;
use hosts::Addresses;
use model::{AccountId, Limits, RecursionDepth, RequestId, TraceContext};
use scf::{Action, Error};
use telemetry::{Exporter, InvocationLog, Metrics};
use tokio::sync::Semaphore;
use traffic::FairSemaphore;
use triggers::Receiver;
use worker::{PackageStore, Worker};

use super::metrics_access::MetricsAccess;

/// The state that all requests share.
#[derive(Debug)]
pub struct Gateway {
    /// Authentication and authorisation.
    pub access: Access,
    /// Whether signatures of version 1 are accepted.
    pub signature_v1: bool,
    /// The region of the installation.
    pub region: String,
    /// The base URL of the API, if it is configured.
    pub public_url: Option<String>,
    /// The kinds of triggers that other systems notify.
    pub receivers: Vec<Arc<dyn Receiver>>,
    /// Addresses of function URLs.
    pub addresses: Arc<Addresses>,
    /// The platform's limits.
    pub limits: Arc<Limits>,
    /// Size limits of request fields.
    pub bounds: Arc<scf::Bounds>,
    /// The operations behind the actions.
    pub control: Control,
    /// The catalog.
    pub catalog: Catalog,
    /// Runs functions.
    pub ingest: Ingest,
    /// The event queue.
    pub queue: Arc<dyn Queue>,
    /// Runs queued events.
    pub runner: Runner,
    /// Starts and stops instances.
    pub driver: Driver,
    /// The interpreters and zygotes.
    pub worker: Arc<Worker>,
    /// The packages.
    pub packages: PackageStore,
    /// The log of invocations.
    pub log: InvocationLog,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Renders the metrics, with the gauges of all parts.
    pub exporter: Exporter,
    /// Decides who may read metrics.
    pub monitoring: MetricsAccess,
    /// Memory for bodies, shared fairly between accounts.
    pub body_memory: FairSemaphore<AccountId>,
    /// Serializes the verification of large version 1 forms.
    pub forms: Semaphore,
}

/// The authenticated caller of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'a> {
    pub(super) account: AccountId,
    pub(super) principal: &'a Principal,
    pub(super) host: Option<&'a str>,
    pub(super) request: RequestId,
    /// Recursion depth in the chain of functions that led to the request.
    pub(super) depth: RecursionDepth,
    /// Whether the caller is a function.
    pub(super) from_function: bool,
    /// Whether the request came over TLS.
    pub(super) secure: bool,
    pub(super) trace: Option<&'a TraceContext>,
}

/// The implementation of an action.
pub(super) trait Serve: Action {
    /// Replaces other names of resources by those that policies use, before the caller's policy is checked.
    fn normalize(_: &Gateway, _: Caller<'_>, _: &mut Self::Request) {}

    fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: Self::Request,
    ) -> impl Future<Output = Result<Self::Response, Error>> + Send;
}
