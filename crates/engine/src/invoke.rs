//! Invocation of functions: the single entry point for the API and all triggers.

mod error;
pub mod web;

use std::sync::Arc;

use bytes::Bytes;
use catalog::{Catalog, Stored};
use dispatch::{Limit, Reject};
use events::usage::UsageEntry;
use events::{NewEvent, Queue, QueueFuture};
use model::{
    Function, FunctionKey, FunctionKind, FunctionState, InvocationOrigin, Limits, MemoryMb,
    Qualifier, RecursionDepth, RequestId, RoutingKey, Serving, StatusCode, TraceContext, Usage,
    Version,
};
use telemetry::{EventStep, Metrics, Record, Telemetry, log_text, tail};
use tracing::warn;
use worker::{RequestMetadata, failure_document};

pub use self::error::IngestError;
pub use crate::driver::AcquireOptions;
pub(crate) use crate::driver::Stopper;
use crate::driver::{
    AcquireError, Assigned, CompletedRun, Driver, LivePool, StartFailure, limit_name,
};

/// An invocation of a function.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The request id.
    pub request: RequestId,
    /// The function.
    pub function: FunctionKey,
    /// The version or alias.
    pub qualifier: Qualifier,
    /// The key by which an alias chooses a version.
    pub routing_key: RoutingKey,
    /// A JSON document.
    pub event: Bytes,
    /// Whether to return the tail of the log.
    pub tail: bool,
    /// Number of earlier attempts.
    pub retry: u32,
    /// Recursion depth in its call chain.
    pub depth: RecursionDepth,
    /// Where the invocation comes from.
    pub origin: InvocationOrigin,
    /// The caller's trace context.
    pub trace: Option<TraceContext>,
}

/// The result of an invocation, successful or not.
#[derive(Clone, Debug)]
pub struct InvocationResult {
    /// The outcome.
    pub status: StatusCode,
    /// The response, or the error document.
    pub answer: Bytes,
    /// The tail of the log, if requested.
    pub log: Option<String>,
    /// The measured duration and memory.
    pub usage: Usage,
    /// Its entry in the usage ledger, unless that is recorded already.
    pub entry: Option<UsageEntry>,
}

/// Accepts events and runs invocations. Clones share it.
#[derive(Clone, Debug)]
pub struct Ingest {
    catalog: Catalog,
    driver: Driver,
    telemetry: Telemetry,
    limits: Arc<Limits>,
    queue: Arc<dyn Queue>,
    metrics: Arc<Metrics>,
}

impl Ingest {
    /// Creates the entry.
    pub fn new(
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

    /// Accepts an asynchronous event. When this returns, the event is on stable storage; it runs at least once or is recorded as
    /// failed permanently. Idempotent: an event with a known request id is a duplicate and does not run again.
    pub async fn accept(&self, event: NewEvent) -> Result<(), IngestError> {
        self.check_acceptable(&event)?;
        self.count_acceptance(Ok(self.queue.accept(event))).await
    }

    /// Accepts events that passed [`Self::check_acceptable`], with a result for each. None runs before all are stored or rejected.
    pub fn accept_batch(
        &self,
        events: Vec<NewEvent>,
    ) -> impl Iterator<Item = impl Future<Output = Result<(), IngestError>> + Send + use<>> {
        let accepted = self.queue.accept_batch(events);
        accepted
            .into_iter()
            .map(|later| self.count_acceptance(Ok(later)))
    }

    /// Checks that an event is valid and that its function exists and takes events.
    pub fn check_acceptable(&self, event: &NewEvent) -> Result<(), IngestError> {
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

    /// Accepts an event without checking its function, for sources that cannot react to an error, such as object changes. The
    /// runner records the failure if the function does not exist.
    ///
    /// The event is enqueued when this returns, before the future is polled, so that events keep the order of the calls.
    pub fn accept_unchecked(
        &self,
        event: NewEvent,
    ) -> impl Future<Output = Result<(), IngestError>> + Send + use<> {
        let accepted = self.check_size(&event).map(|()| self.queue.accept(event));
        self.count_acceptance(accepted)
    }

    /// Counts an acceptance or rejection in the metrics.
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

    /// Runs a function and waits for its result.
    pub async fn invoke(&self, invocation: Invocation) -> Result<InvocationResult, IngestError> {
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

    /// Like [`Self::invoke`], but creates the event only once an instance is available, so that waiting requests hold no memory.
    pub async fn invoke_deferred<E: From<IngestError>>(
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

    /// Like [`Ingest::place`] for a synchronous call: its usage is recorded when it ends.
    pub async fn place_sync(
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

    /// Acquires an instance for an invocation. Ignores its event.
    pub async fn place(
        &self,
        invocation: &Invocation,
        waiting: &mut AcquireOptions,
    ) -> Result<Placement, IngestError> {
        // Retries the look-up if the function changes in between.
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

    /// Rejects web functions. A missing function passes; [`Self::find`] reports it.
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
        // The function may have been changed or deleted before there was a pool to retire.
        let now = self.catalog.function(&function.key);
        self.driver
            .retire(&function.key, now.as_ref().map(|stored| &stored.value));
        opened.map_err(|source| {
            let name = function.key.name.to_string();
            warn!(function = name, error = %source, "failed to open a function");
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
            origin: invocation.origin,
            trace: invocation.trace.clone(),
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

/// The outcome of acquiring an instance.
pub enum Placement {
    /// An instance was acquired.
    Ready(Ready),
    /// No instance was acquired; the invocation has failed.
    Refused(InvocationResult),
}

impl std::fmt::Debug for Placement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Placement").finish_non_exhaustive()
    }
}

/// An invocation that holds an instance.
pub struct Ready {
    assigned: Assigned,
    report: Report,
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready").finish_non_exhaustive()
    }
}

impl Ready {
    /// Runs the function to its end, even if the caller goes away.
    pub async fn run(self, event: Bytes) -> InvocationResult {
        let Self { assigned, report } = self;
        let (depth, recycle) = (report.depth, report.recycle);
        let live = report.live.clone();
        let metadata = RequestMetadata {
            request: report.request,
            attempt: report.retry,
            origin: report.origin,
            trace: report.trace.clone(),
        };
        assigned
            .run(live, metadata, depth, event, recycle, |ran| report.ran(ran))
            .await
    }

    /// Returns a handle that stops the function.
    pub(crate) fn stopper(&self) -> Stopper {
        self.assigned.stopper()
    }
}

/// Resolves a qualifier to the version that serves an invocation.
///
/// # Errors
/// The version does not exist, or the function's state does not allow invocations.
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
    // A published version keeps serving while `$LATEST` is updated or has failed.
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

/// Returns a number in [0, 1) that is fixed for a request, from the random bits at the end of its id.
fn random_fraction(request: RequestId) -> f64 {
    let bytes = request.as_bytes();
    let last = bytes
        .iter()
        .rev()
        .take(4)
        .fold(0u32, |number, byte| number << 8 | u32::from(*byte));
    f64::from(last) / (f64::from(u32::MAX) + 1.0)
}

/// The pool was retired between look-up and acquisition.
struct PoolRetired;

/// Returns SCF's status and message for an invocation that got no instance. Source: its list of function status codes.
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

/// Builds the record of an invocation when it ends.
struct Report {
    telemetry: Telemetry,
    request: RequestId,
    live: Arc<LivePool>,
    memory: MemoryMb,
    started: model::Timestamp,
    tail: bool,
    retry: u32,
    depth: RecursionDepth,
    origin: InvocationOrigin,
    trace: Option<TraceContext>,
    /// Whether a failed request ends its instance.
    recycle: bool,
    /// The ledger for synchronous calls. The runner records the usage of events, together with their completion.
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
            // 4.9 standard deviations: one such test in a million fails by chance.
            let off = (chosen as f64 - mean).abs() / deviation;
            assert!(off < 4.9, "{weight}: {chosen}, off by {off} deviations");
        }
    }
}
