//! The result of an invocation, and its record for telemetry and the ledger.

use std::sync::Arc;

use bytes::Bytes;
use dispatch::{Limit, Reject};
use events::Queue;
use events::usage::UsageEntry;
use model::{
    Failure, FailureKind, InvocationOrigin, MemoryMb, Outcome, RecursionDepth, RequestId, Serving,
    TraceContext, Usage,
};
use telemetry::{Record, Telemetry, log_text, tail};

use super::Documents;
use crate::driver::{CompletedRun, LivePool, StartFailure, limit_name};

/// The result of an invocation, successful or not.
#[derive(Clone, Debug)]
pub struct InvocationResult {
    /// The response, or why there is none.
    pub result: Result<Bytes, Failure>,
    /// The tail of the log, if requested.
    pub log: Option<String>,
    /// The measured duration and memory.
    pub usage: Usage,
    /// Its entry in the usage ledger, unless that is recorded already.
    pub entry: Option<UsageEntry>,
}

/// An invocation that failed because it got no instance.
#[derive(Clone, Debug)]
pub struct RefusedInvocation {
    /// Why.
    pub failure: Failure,
    /// The tail of the log, if requested.
    pub log: Option<String>,
    /// The measured duration and memory, of a failed start.
    pub usage: Usage,
    /// Its entry in the usage ledger, unless that is recorded already.
    pub entry: Option<UsageEntry>,
}

impl From<RefusedInvocation> for InvocationResult {
    fn from(refused: RefusedInvocation) -> Self {
        Self {
            result: Err(refused.failure),
            log: refused.log,
            usage: refused.usage,
            entry: refused.entry,
        }
    }
}

/// Builds the record of an invocation when it ends.
pub(super) struct Report {
    pub(super) telemetry: Telemetry,
    pub(super) documents: &'static dyn Documents,
    pub(super) request: RequestId,
    pub(super) live: Arc<LivePool>,
    pub(super) memory: MemoryMb,
    pub(super) started: model::Timestamp,
    pub(super) tail: bool,
    pub(super) retry: u32,
    pub(super) depth: RecursionDepth,
    pub(super) origin: InvocationOrigin,
    pub(super) trace: Option<TraceContext>,
    /// Whether a failed request ends its instance.
    pub(super) recycle: bool,
    /// The ledger for synchronous calls. The runner records the usage of events, together with their completion.
    pub(super) ledger: Option<Arc<dyn Queue>>,
}

impl Report {
    pub(super) fn ran(self, ran: CompletedRun) -> InvocationResult {
        let Outcome { result, log, usage } = ran.outcome;
        let result = result.map(Bytes::from);
        let mut record = self.record(&result, usage);
        record.note = ran.cold.and(self.live.note.clone());
        record.log = log.into();
        record.init_log = ran.init_log.into();
        record.cold = ran.cold;
        let (log, entry) = self.finish(record);
        InvocationResult {
            result,
            log,
            usage,
            entry: Some(entry),
        }
    }

    pub(super) fn start_failed(self, failed: StartFailure) -> RefusedInvocation {
        let StartFailure {
            failure,
            log,
            usage,
        } = failed;
        let mut record = self.failed(&failure, usage);
        record.note = self.live.note.clone();
        record.init_log = log.into();
        self.refuse(failure, record)
    }

    pub(super) fn refused(self, failure: Failure) -> RefusedInvocation {
        let record = self.failed(&failure, Usage::default());
        self.refuse(failure, record)
    }

    fn refuse(self, failure: Failure, record: Record) -> RefusedInvocation {
        let usage = record.usage;
        let (log, entry) = self.finish(record);
        RefusedInvocation {
            failure,
            log,
            usage,
            entry: Some(entry),
        }
    }

    pub(super) fn record(&self, result: &Result<Bytes, Failure>, usage: Usage) -> Record {
        match result {
            Ok(answer) => self.ended(None, answer.clone(), usage),
            Err(failure) => self.failed(failure, usage),
        }
    }

    fn failed(&self, failure: &Failure, usage: Usage) -> Record {
        let document = self.documents.failure(failure, self.request);
        self.ended(Some(failure.kind), document.into(), usage)
    }

    fn ended(&self, failure: Option<FailureKind>, answer: Bytes, usage: Usage) -> Record {
        Record {
            request: self.request,
            function: self.live.spec.function.clone(),
            version: self.live.spec.version,
            memory: self.memory,
            started: self.started,
            retry: self.retry,
            failure,
            usage,
            billed_us: usage.duration_us,
            answer,
            init_log: Bytes::new(),
            log: Bytes::new(),
            cold: None,
            note: None,
        }
    }

    /// Reports an invocation. Returns the tail of its log, if requested, and its usage.
    pub(super) fn finish(self, record: Record) -> (Option<String>, UsageEntry) {
        let log = self.tail.then(|| tail(&log_text(&record)).to_owned());
        let entry = UsageEntry::of(&record);
        if let Some(ledger) = &self.ledger {
            ledger.meter(entry.clone());
        }
        self.telemetry.report(record);
        (log, entry)
    }
}

/// Returns the failure of an invocation that got no instance.
pub(super) fn rejection(
    reject: Reject,
    serving: &Serving<'_>,
    unreserved_mb: u64,
    per_minute: u32,
) -> Failure {
    let name = &serving.function.key.name;
    match reject {
        Reject::Never { limit: Limit::Node } => {
            let message = format!(
                "{} of memory for function {name} are more than this node has",
                serving.config.memory
            );
            Failure::new(FailureKind::NodeMemoryExceeded, message)
        }
        Reject::Deadline {
            limit: limit @ (Limit::Node | Limit::Starting),
        } => {
            let message = format!(
                "Function [ {name} ] found no free instance in time: {} are short",
                limit_name(limit)
            );
            Failure::new(FailureKind::ConcurrencyExceeded, message)
        }
        Reject::Deadline { limit: Limit::Rate } => {
            let message = format!(
                "Function [ {name} ] found no free instance in time: the account has started as many as it may, {per_minute} a \
                 minute"
            );
            Failure::new(FailureKind::StartRateExceeded, message)
        }
        Reject::Deadline { limit } | Reject::Never { limit } => {
            let mb = match limit {
                Limit::Group => serving.function.reserved_mb.unwrap_or_default().into(),
                _ => unreserved_mb,
            };
            let quota = limit_name(limit);
            let message = format!("Function [ {name} ] concurrency exceeded {quota} {mb}MB");
            Failure::new(FailureKind::ConcurrencyExceeded, message)
        }
        Reject::QueueFull => {
            let message =
                format!("Function [ {name} ] has too many requests waiting; try again in a moment");
            Failure::new(FailureKind::ConcurrencyExceeded, message)
        }
        Reject::StartFailed { .. } | Reject::Gone | Reject::Draining => {
            Failure::new(FailureKind::PlatformFault, "the request was lost")
        }
    }
}
