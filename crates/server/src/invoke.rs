//! The one door to a function: every trigger and the API hand their events over here.

pub(crate) mod web;

use std::sync::Arc;

use bytes::Bytes;
use catalog::{Catalog, Stored};
use dispatch::{Limit, Reject};
use model::{
    Function, FunctionKey, FunctionKind, FunctionState, Invalid, Limits, MemoryMb, Qualifier,
    RequestId, RoutingKey, Serving, StatusCode, Usage, Version,
};
use thiserror::Error;
use tracing::warn;
use worker::failure_document;

use crate::call_chains::RecursionDepth;
use crate::clock;
use crate::driver::{
    AcquireError, Assigned, CompletedRun, Driver, LivePool, OpenError, StartFailure, limit_name,
};
pub(crate) use crate::driver::{AcquireOptions, Stopper};
use crate::queue::{NewEvent, Queue, QueueError, QueueFuture};
use crate::telemetry::{EventStep, Metrics, Record, Telemetry, log_text, tail};
use crate::usage::UsageEntry;

/// One event for one function.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    pub(crate) request: RequestId,
    pub(crate) function: FunctionKey,
    pub(crate) qualifier: Qualifier,
    /// What an alias chooses a version by.
    pub(crate) routing_key: RoutingKey,
    /// A JSON document.
    pub(crate) event: Bytes,
    /// Whether the end of the log is wanted.
    pub(crate) tail: bool,
    /// How often it was tried before.
    pub(crate) retry: u32,
    /// How deep it is in a chain of functions.
    pub(crate) depth: RecursionDepth,
}

/// What came of it, whether or not the function succeeded.
#[derive(Clone, Debug)]
pub(crate) struct InvocationResult {
    pub(crate) status: StatusCode,
    /// The answer, or the error document.
    pub(crate) answer: Bytes,
    /// The end of the log, if it was asked for.
    pub(crate) log: Option<String>,
    pub(crate) usage: Usage,
    /// What it counts for in the ledger.
    pub(crate) entry: Option<UsageEntry>,
}

/// Why an event was not taken. What goes wrong after it was is in [`InvocationResult`].
#[derive(Debug, Error)]
pub(crate) enum IngestError {
    #[error("function {} does not exist in namespace {}", .0.name, .0.namespace)]
    NoFunction(FunctionKey),
    #[error("namespace {} does not exist", .0.namespace)]
    NoNamespace(FunctionKey),
    #[error("function {} has no version or alias {qualifier}", key.name)]
    NoQualifier {
        key: FunctionKey,
        qualifier: Qualifier,
    },
    #[error("function {name} is {state}, so it cannot be invoked{why}", state = state.as_str())]
    State {
        name: String,
        state: FunctionState,
        why: String,
    },
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("the event has {given} bytes; up to {allowed} are allowed")]
    TooLarge { given: usize, allowed: u64 },
    #[error("function {name} cannot be served: {source}")]
    Open { name: String, source: OpenError },
    #[error(
        "function {0} is a web function, which takes no events; it is reached by its URL or a custom domain"
    )]
    Web(String),
    #[error("virga is shutting down; try again in a moment")]
    Draining,
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// A handle on the door. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Ingest {
    catalog: Catalog,
    driver: Driver,
    telemetry: Telemetry,
    limits: Arc<Limits>,
    queue: Arc<dyn Queue>,
    metrics: Arc<Metrics>,
}

impl Ingest {
    pub(crate) fn new(
        catalog: Catalog,
        driver: Driver,
        telemetry: Telemetry,
        limits: Arc<Limits>,
        queue: Arc<dyn Queue>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            catalog,
            driver,
            telemetry,
            limits,
            queue,
            metrics,
        }
    }

    /// Takes an event that runs later: when this returns it is on stable storage, and it runs at least once or is recorded
    /// as given up. A second event with the request id of a first is the first, and does not run again.
    pub(crate) async fn accept(&self, event: NewEvent) -> Result<(), IngestError> {
        self.check_acceptable(&event)?;
        self.count_acceptance(Ok(self.queue.accept(event))).await
    }

    /// Takes several of which each [may be accepted](Self::check_acceptable), with an answer for each. None runs before all have
    /// been kept, or refused.
    pub(crate) fn accept_batch(
        &self,
        events: Vec<NewEvent>,
    ) -> impl Iterator<Item = impl Future<Output = Result<(), IngestError>> + Send + use<>> {
        let accepted = self.queue.accept_batch(events);
        accepted
            .into_iter()
            .map(|later| self.count_acceptance(Ok(later)))
    }

    /// Whether an event is in order, and its function is there to take it.
    pub(crate) fn check_acceptable(&self, event: &NewEvent) -> Result<(), IngestError> {
        self.check_size(event)?;
        self.check_takes_events(&event.function)?;
        let function = self.find(&event.function)?;
        resolve(
            &function.value,
            &event.qualifier,
            &event.routing_key,
            event.request,
        )?;
        Ok(())
    }

    /// Takes an event of something that has happened already, so that nobody is left to be told that its function is not there,
    /// or not in order: it is kept all the same, and whoever runs it sees, and records, what becomes of it.
    ///
    /// It is on its way when this returns, so that events which are sent one after another are in that order.
    pub(crate) fn accept_unchecked(
        &self,
        event: NewEvent,
    ) -> impl Future<Output = Result<(), IngestError>> + Send + use<> {
        let accepted = self.check_size(&event).map(|()| self.queue.accept(event));
        self.count_acceptance(accepted)
    }

    /// An acceptance that is counted when it has ended.
    fn count_acceptance(
        &self,
        accepted: Result<QueueFuture<'static, ()>, IngestError>,
    ) -> impl Future<Output = Result<(), IngestError>> + Send + use<> {
        let metrics = self.metrics.clone();
        async move {
            let accepted = accepted?.await;
            metrics.event(match &accepted {
                Ok(()) => EventStep::Accepted,
                Err(_) => EventStep::Refused,
            });
            Ok(accepted?)
        }
    }

    fn check_size(&self, event: &NewEvent) -> Result<(), IngestError> {
        let (given, allowed) = (event.event.len(), self.limits.async_event_bytes);
        if given as u64 > allowed {
            return Err(IngestError::TooLarge { given, allowed });
        }
        Ok(())
    }

    /// Runs a function and waits for what comes of it.
    pub(crate) async fn invoke(
        &self,
        invocation: Invocation,
    ) -> Result<InvocationResult, IngestError> {
        if invocation.event.len() as u64 > self.limits.sync_event_bytes {
            let (given, allowed) = (invocation.event.len(), self.limits.sync_event_bytes);
            return Err(IngestError::TooLarge { given, allowed });
        }
        self.check_takes_events(&invocation.function)?;
        let placed = self
            .place_sync(&invocation, &mut AcquireOptions::default())
            .await?;
        match placed {
            Placement::Ready(ready) => Ok(ready.run(invocation.event).await),
            Placement::Refused(finished) => Ok(finished),
        }
    }

    /// The same with an event that is made when an instance is there for it, so that nothing waits in memory.
    pub(crate) async fn invoke_deferred<E: From<IngestError>>(
        &self,
        invocation: &Invocation,
        event: impl Future<Output = Result<Bytes, E>>,
    ) -> Result<InvocationResult, E> {
        self.check_takes_events(&invocation.function)?;
        let mut waiting = AcquireOptions::default();
        match self.place_sync(invocation, &mut waiting).await? {
            Placement::Ready(ready) => {
                let event = event.await?;
                let (given, allowed) = (event.len(), self.limits.sync_event_bytes);
                if given as u64 > allowed {
                    return Err(IngestError::TooLarge { given, allowed }.into());
                }
                Ok(ready.run(event).await)
            }
            Placement::Refused(finished) => Ok(finished),
        }
    }

    /// The same as [`Ingest::place`] for what is answered at once, and counted when it has ended.
    pub(crate) async fn place_sync(
        &self,
        invocation: &Invocation,
        waiting: &mut AcquireOptions,
    ) -> Result<Placement, IngestError> {
        let mut placed = self.place(invocation, waiting).await?;
        match &mut placed {
            Placement::Ready(ready) => ready.report.ledger = Some(self.queue.clone()),
            Placement::Refused(finished) => {
                if let Some(entry) = finished.entry.take() {
                    self.queue.meter(entry);
                }
            }
        }
        Ok(placed)
    }

    /// Finds an instance for an invocation, whose event is not looked at.
    pub(crate) async fn place(
        &self,
        invocation: &Invocation,
        waiting: &mut AcquireOptions,
    ) -> Result<Placement, IngestError> {
        // A function that changes between being found and being asked is looked up again.
        for _ in 0..4 {
            let function = self.find(&invocation.function)?;
            let Invocation {
                qualifier,
                routing_key,
                request,
                ..
            } = invocation;
            let serving = resolve(&function.value, qualifier, routing_key, *request)?;
            let live = self.open(&serving).await?;
            match self.acquire(invocation, &serving, live, waiting).await {
                Err(PoolRetired) => {}
                Ok(placed) => return placed,
            }
        }
        Err(IngestError::NoFunction(invocation.function.clone()))
    }

    /// Whether a function is called with events; one that does not exist is told of elsewhere.
    fn check_takes_events(&self, key: &FunctionKey) -> Result<(), IngestError> {
        let kind = self.catalog.function(key).map(|stored| stored.value.kind);
        match kind {
            Some(FunctionKind::Http) => Err(IngestError::Web(key.name.to_string())),
            _ => Ok(()),
        }
    }

    fn find(&self, key: &FunctionKey) -> Result<Arc<Stored<Function>>, IngestError> {
        let Some(function) = self.catalog.function(key) else {
            let known = self.catalog.has_namespace(key.account, &key.namespace);
            let missing = if known {
                IngestError::NoFunction
            } else {
                IngestError::NoNamespace
            };
            return Err(missing(key.clone()));
        };
        Ok(function)
    }

    async fn open(&self, serving: &Serving<'_>) -> Result<Arc<LivePool>, IngestError> {
        if let Some(live) = self.driver.live(serving) {
            return Ok(live);
        }
        let opened = self.driver.open(serving).await;
        let function = serving.function;
        // It may have been changed or deleted meanwhile, before there was a pool to retire.
        let now = self.catalog.function(&function.key);
        self.driver
            .retire(&function.key, now.as_ref().map(|stored| &stored.value));
        opened.map_err(|source| {
            let name = function.key.name.to_string();
            warn!(function = name, error = %source, "a function cannot be served");
            IngestError::Open { name, source }
        })
    }

    async fn acquire(
        &self,
        invocation: &Invocation,
        serving: &Serving<'_>,
        live: Arc<LivePool>,
        waiting: &mut AcquireOptions,
    ) -> Result<Result<Placement, IngestError>, PoolRetired> {
        let report = Report {
            telemetry: self.telemetry.clone(),
            request: invocation.request,
            live: live.clone(),
            memory: serving.config.memory,
            started: clock::now_ms(),
            tail: invocation.tail,
            retry: invocation.retry,
            depth: invocation.depth,
            recycle: serving.function.async_run,
            ledger: None,
        };
        let refused = match self.driver.acquire(&live, waiting).await {
            Ok(assigned) => return Ok(Ok(Placement::Ready(Ready { assigned, report }))),
            Err(refused) => refused,
        };
        Ok(Ok(Placement::Refused(match refused {
            AcquireError::Start(failure) => report.start_failed(failure),
            AcquireError::Rejected(Reject::Gone) => return Err(PoolRetired),
            AcquireError::Rejected(Reject::Draining) => return Ok(Err(IngestError::Draining)),
            AcquireError::Rejected(reject) => {
                let shared = self.driver.unreserved_mb(serving.function.key.account);
                let rate = self.limits.scale_out_per_minute;
                let (status, message) = rejection(reject, serving, shared, rate);
                report.refused(status, &message)
            }
        })))
    }
}

/// Where an invocation stands after an instance was looked for.
pub(crate) enum Placement {
    /// It has one.
    Ready(Ready),
    /// It has none, and that is its end.
    Refused(InvocationResult),
}

/// An invocation with an instance.
pub(crate) struct Ready {
    assigned: Assigned,
    report: Report,
}

impl Ready {
    /// Runs it. It runs to its end even when nobody waits for that any more.
    pub(crate) async fn run(self, event: Bytes) -> InvocationResult {
        let Self { assigned, report } = self;
        let (request, depth, recycle) = (report.request, report.depth, report.recycle);
        let live = report.live.clone();
        assigned
            .run(live, request, depth, event, recycle, |ran| report.ran(ran))
            .await
    }

    /// What ends it before it has ended.
    pub(crate) fn stopper(&self) -> Stopper {
        self.assigned.stopper()
    }
}

/// The version that serves an invocation, by its qualifier and the state that it is in.
fn resolve<'a>(
    function: &'a Function,
    qualifier: &Qualifier,
    routing_key: &RoutingKey,
    request: RequestId,
) -> Result<Serving<'a>, IngestError> {
    let key = &function.key;
    let version = match qualifier {
        Qualifier::Latest => Some(Version::Latest),
        Qualifier::Version(number) => Some(Version::Number(*number)),
        Qualifier::Alias(name) => function.route(name, routing_key, random_fraction(request)),
    };
    let serving = version.and_then(|version| function.serving(version));
    let serving = serving.ok_or_else(|| IngestError::NoQualifier {
        key: key.clone(),
        qualifier: qualifier.clone(),
    })?;
    // What was published serves whatever becomes of `$LATEST`.
    let state = function.state;
    let serves = match serving.version {
        Version::Latest => state.serves(),
        Version::Number(_) => state != FunctionState::Deleting,
    };
    if serves {
        return Ok(serving);
    }
    let reasons = function
        .reasons
        .iter()
        .map(|reason| format!(": {}", reason.message));
    let (name, why) = (key.name.to_string(), reasons.collect());
    Err(IngestError::State { name, state, why })
}

/// A number from 0 to below 1 that is a request's own: the last bits of its id are random.
fn random_fraction(request: RequestId) -> f64 {
    let bytes = request.as_bytes();
    let last = bytes
        .iter()
        .rev()
        .take(4)
        .fold(0u32, |number, byte| number << 8 | u32::from(*byte));
    f64::from(last) / (f64::from(u32::MAX) + 1.0)
}

/// The pool was retired in between.
struct PoolRetired;

/// SCF's words for a concurrency limit that was reached. Source: its list of function status codes.
fn rejection(
    reject: Reject,
    serving: &Serving<'_>,
    unreserved_mb: u64,
    per_minute: u32,
) -> (StatusCode, String) {
    let name = &serving.function.key.name;
    match reject {
        Reject::Never { limit: Limit::Node } => {
            let message = format!(
                "{} of memory for function {name} are more than this node has",
                serving.config.memory
            );
            (StatusCode::InsufficientResources, message)
        }
        Reject::Deadline {
            limit: limit @ (Limit::Node | Limit::Starting),
        } => {
            let message = format!(
                "Function [ {name} ] found no free instance in time: {} are short",
                limit_name(limit)
            );
            (StatusCode::ResourceLimitReached, message)
        }
        Reject::Deadline { limit: Limit::Rate } => {
            let message = format!(
                "Function [ {name} ] found no free instance in time: the account has started as many as it may, {per_minute} a \
                 minute"
            );
            (StatusCode::ResourceLimit, message)
        }
        Reject::Deadline { limit } | Reject::Never { limit } => {
            let mb = match limit {
                Limit::Group => serving.function.reserved_mb.unwrap_or_default().into(),
                _ => unreserved_mb,
            };
            let quota = limit_name(limit);
            let message = format!("Function [ {name} ] concurrency exceeded {quota} {mb}MB");
            (StatusCode::ResourceLimitReached, message)
        }
        Reject::QueueFull => {
            let message =
                format!("Function [ {name} ] has too many requests waiting; try again in a moment");
            (StatusCode::ResourceLimitReached, message)
        }
        Reject::StartFailed { .. } | Reject::Gone | Reject::Draining => {
            (StatusCode::InternalError, "the request was lost".into())
        }
    }
}

/// What is known of a request before its end.
struct Report {
    telemetry: Telemetry,
    request: RequestId,
    live: Arc<LivePool>,
    memory: MemoryMb,
    started: model::Timestamp,
    tail: bool,
    retry: u32,
    depth: RecursionDepth,
    /// Whether an instance ends whose request fails.
    recycle: bool,
    /// Where a call is counted when it has ended. An event is counted by whoever runs it, with what came of it.
    ledger: Option<Arc<dyn Queue>>,
}

impl Report {
    fn ran(self, ran: CompletedRun) -> InvocationResult {
        let outcome = ran.outcome;
        let mut record = self.record(outcome.status, outcome.answer.into(), outcome.usage);
        record.note = ran.cold.and(self.live.note.clone());
        record.log = outcome.log.into();
        record.init_log = ran.init_log.into();
        record.cold = ran.cold;
        self.finish(record)
    }

    fn start_failed(self, failed: StartFailure) -> InvocationResult {
        let answer = failed.failure.document(self.request).into();
        let mut record = self.record(failed.failure.status, answer, failed.usage);
        record.note = self.live.note.clone();
        record.init_log = failed.log.into();
        self.finish(record)
    }

    fn refused(self, status: StatusCode, message: &str) -> InvocationResult {
        let answer = failure_document(status, message, None, self.request).into();
        let record = self.record(status, answer, Usage::default());
        self.finish(record)
    }

    fn record(&self, status: StatusCode, answer: Bytes, usage: Usage) -> Record {
        Record {
            request: self.request,
            function: self.live.spec.function.clone(),
            version: self.live.spec.version,
            memory: self.memory,
            started: self.started,
            retry: self.retry,
            status,
            usage,
            billed_us: usage.duration_us,
            answer,
            init_log: Bytes::new(),
            log: Bytes::new(),
            cold: None,
            note: None,
        }
    }

    fn finish(self, record: Record) -> InvocationResult {
        let log = self.tail.then(|| tail(&log_text(&record)).to_owned());
        let entry = UsageEntry::of(&record);
        if let Some(ledger) = &self.ledger {
            ledger.meter(entry.clone());
        }
        let finished = InvocationResult {
            entry: Some(entry),
            status: record.status,
            answer: record.answer.clone(),
            log,
            usage: record.usage,
        };
        self.telemetry.report(record);
        finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alias_traffic_follows_its_weights() {
        let count = 100_000;
        for weight in [0.01, 0.1, 0.5, 0.9] {
            let chosen = (0..count)
                .map(|_| clock::new_request_id())
                .filter(|request| random_fraction(*request) < weight)
                .count();
            let mean = weight * f64::from(count);
            let deviation = (mean * (1.0 - weight)).sqrt();
            // Of a million such tests one fails by chance.
            let off = (chosen as f64 - mean).abs() / deviation;
            assert!(off < 4.9, "{weight}: {chosen}, off by {off} deviations");
        }
    }
}
