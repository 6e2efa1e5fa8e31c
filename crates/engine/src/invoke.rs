//! Invocation of functions: the single entry point for the API and all triggers.

mod documents;
mod error;
mod lookup;
mod report;
pub mod web;

use std::sync::Arc;

use bytes::Bytes;
use catalog::Catalog;
use dispatch::Reject;
use events::{NewEvent, Queue, QueueFuture};
use model::{
    FunctionKey, InvocationOrigin, Limits, Qualifier, RecursionDepth, RequestId, RoutingKey,
    Serving, TraceContext,
};
use telemetry::{EventStep, Metrics, Telemetry};
use tracing::warn;
use worker::RequestMetadata;

pub use self::documents::Documents;
pub use self::error::IngestError;
pub use self::lookup::FunctionLookup;
use self::lookup::resolve;
pub use self::report::{InvocationResult, RefusedInvocation};
use self::report::{Report, rejection};
pub use crate::driver::AcquireOptions;
pub(crate) use crate::driver::Stopper;
use crate::driver::{AcquireError, Assigned, Driver, LivePool};

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

/// Accepts events and runs invocations. Clones share it.
#[derive(Clone, Debug)]
pub struct Ingest {
    catalog: Catalog,
    driver: Driver,
    telemetry: Telemetry,
    limits: Arc<Limits>,
    queue: Arc<dyn Queue>,
    metrics: Arc<Metrics>,
    documents: &'static dyn Documents,
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
        documents: &'static dyn Documents,
    ) -> Self {
        Self {
            catalog,
            driver,
            telemetry,
            limits,
            queue,
            metrics,
            documents,
        }
    }

    /// Returns the form of documents about failures.
    pub(crate) fn documents(&self) -> &'static dyn Documents {
        self.documents
    }

    /// Looks up a function. A call looks up its function once and passes the result on.
    pub fn look_up(&self, function: &FunctionKey) -> FunctionLookup {
        FunctionLookup::of(&self.catalog, function)
    }

    /// Accepts an asynchronous event for a function that was looked up. When this returns, the event is on stable storage; it runs at least once or is recorded as
    /// failed permanently. Idempotent: an event with a known request id is a duplicate and does not run again.
    pub async fn accept(&self, found: &FunctionLookup, event: NewEvent) -> Result<(), IngestError> {
        self.check(found, &event)?;
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
        self.check(&self.look_up(&event.function), event)
    }

    fn check(&self, found: &FunctionLookup, event: &NewEvent) -> Result<(), IngestError> {
        self.check_size(event)?;
        found.check_takes_events()?;
        resolve(
            found.existing(&self.catalog, &event.function)?,
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

    /// Runs a function that was looked up, and waits for its result.
    pub async fn invoke(
        &self,
        found: FunctionLookup,
        invocation: Invocation,
    ) -> Result<InvocationResult, IngestError> {
        if invocation.event.len() as u64 > self.limits.sync_event_bytes {
            let (given, allowed) = (invocation.event.len(), self.limits.sync_event_bytes);
            return Err(IngestError::TooLarge { given, allowed });
        }
        found.check_takes_events()?;
        let placed = self
            .place_sync(found, &invocation, &mut AcquireOptions::default())
            .await?;
        match placed {
            Placement::Ready(ready) => Ok(ready.run(invocation.event).await),
            Placement::Refused(refused) => Ok(refused.into()),
        }
    }

    /// Like [`Self::invoke`], but creates the event only once an instance is available, so that waiting requests hold no memory.
    pub async fn invoke_deferred<E: From<IngestError>>(
        &self,
        found: FunctionLookup,
        invocation: &Invocation,
        event: impl Future<Output = Result<Bytes, E>>,
    ) -> Result<InvocationResult, E> {
        found.check_takes_events()?;
        let mut waiting = AcquireOptions::default();
        match self.place_sync(found, invocation, &mut waiting).await? {
            Placement::Ready(ready) => {
                let event = event.await?;
                let (given, allowed) = (event.len(), self.limits.sync_event_bytes);
                if given as u64 > allowed {
                    return Err(IngestError::TooLarge { given, allowed }.into());
                }
                Ok(ready.run(event).await)
            }
            Placement::Refused(refused) => Ok(refused.into()),
        }
    }

    /// Acquires an instance for a synchronous call of a function that was looked up. Its usage is recorded when it ends.
    pub async fn place_sync(
        &self,
        found: FunctionLookup,
        invocation: &Invocation,
        waiting: &mut AcquireOptions,
    ) -> Result<Placement, IngestError> {
        let mut placed = self.place_found(found, invocation, waiting).await?;
        match &mut placed {
            Placement::Ready(ready) => ready.report.ledger = Some(self.queue.clone()),
            Placement::Refused(refused) => {
                if let Some(entry) = refused.entry.take() {
                    self.queue.meter(entry);
                }
            }
        }
        Ok(placed)
    }

    /// Acquires an instance for an invocation of a function that it looks up. Ignores the event.
    pub async fn place(
        &self,
        invocation: &Invocation,
        waiting: &mut AcquireOptions,
    ) -> Result<Placement, IngestError> {
        let found = self.look_up(&invocation.function);
        self.place_found(found, invocation, waiting).await
    }

    async fn place_found(
        &self,
        mut found: FunctionLookup,
        invocation: &Invocation,
        waiting: &mut AcquireOptions,
    ) -> Result<Placement, IngestError> {
        let Invocation {
            qualifier,
            routing_key,
            request,
            ..
        } = invocation;
        // Looks the function up again if it changes in between.
        for _ in 0..4 {
            let function = found.existing(&self.catalog, &invocation.function)?;
            let serving = resolve(function, qualifier, routing_key, *request)?;
            match self.acquire(invocation, &serving, waiting).await? {
                Some(placed) => return Ok(placed),
                None => found = self.look_up(&invocation.function),
            }
        }
        Err(IngestError::NoFunction(invocation.function.clone()))
    }

    /// Opens a version's pool.
    async fn open(&self, serving: &Serving<'_>) -> Result<Arc<LivePool>, IngestError> {
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

    /// Acquires an instance of a version; `None` if its pool was retired meanwhile.
    async fn acquire(
        &self,
        invocation: &Invocation,
        serving: &Serving<'_>,
        waiting: &mut AcquireOptions,
    ) -> Result<Option<Placement>, IngestError> {
        let mut started = clock::now_ms();
        let (live, acquired) = match self.driver.acquire_serving(serving, waiting).await {
            Some(asked) => asked,
            None => {
                let live = self.open(serving).await?;
                started = clock::now_ms();
                let acquired = self.driver.acquire(&live, waiting).await;
                (live, acquired)
            }
        };
        let report = Report {
            telemetry: self.telemetry.clone(),
            documents: self.documents,
            request: invocation.request,
            live,
            memory: serving.config.memory,
            started,
            tail: invocation.tail,
            retry: invocation.retry,
            depth: invocation.depth,
            origin: invocation.origin,
            trace: invocation.trace.clone(),
            recycle: serving.function.async_run,
            ledger: None,
        };
        let refused = match acquired {
            Ok(assigned) => return Ok(Some(Placement::Ready(Ready { assigned, report }))),
            Err(AcquireError::Start(failure)) => report.start_failed(failure),
            Err(AcquireError::Rejected(Reject::Gone)) => return Ok(None),
            Err(AcquireError::Rejected(Reject::Draining)) => return Err(IngestError::Draining),
            Err(AcquireError::Rejected(reject)) => {
                let shared = self.driver.unreserved_mb(serving.function.key.account);
                let rate = self.limits.scale_out_per_minute;
                report.refused(rejection(reject, serving, shared, rate))
            }
        };
        Ok(Some(Placement::Refused(refused)))
    }
}

/// The outcome of acquiring an instance.
pub enum Placement {
    /// An instance was acquired.
    Ready(Ready),
    /// No instance was acquired; the invocation has failed.
    Refused(RefusedInvocation),
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

    /// Returns the request id.
    pub(crate) fn request(&self) -> RequestId {
        self.report.request
    }

    /// Returns a handle that stops the function.
    pub(crate) fn stopper(&mut self) -> Stopper {
        self.assigned.stopper()
    }
}
