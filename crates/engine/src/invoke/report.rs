//! The result of an invocation, and its record for telemetry and the ledger.

use std::sync::Arc;

use bytes::Bytes;
use dispatch::{Limit, Reject};
use events::Queue;
use events::usage::UsageEntry;
use model::{
    InvocationOrigin, MemoryMb, RecursionDepth, RequestId, Serving, StatusCode, TraceContext, Usage,
};
use telemetry::{Record, Telemetry, log_text, tail};
use worker::failure_document;

use crate::driver::{CompletedRun, LivePool, StartFailure, limit_name};

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

/// Builds the record of an invocation when it ends.
pub(super) struct Report {
    pub(super) telemetry: Telemetry,
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
        let outcome = ran.outcome;
        let mut record = self.record(outcome.status, outcome.answer.into(), outcome.usage);
        record.note = ran.cold.and(self.live.note.clone());
        record.log = outcome.log.into();
        record.init_log = ran.init_log.into();
        record.cold = ran.cold;
        self.finish(record)
    }

    pub(super) fn start_failed(self, failed: StartFailure) -> InvocationResult {
        let answer = failed.failure.document(self.request).into();
        let mut record = self.record(failed.failure.status, answer, failed.usage);
        record.note = self.live.note.clone();
        record.init_log = failed.log.into();
        self.finish(record)
    }

    pub(super) fn refused(self, status: StatusCode, message: &str) -> InvocationResult {
        let answer = failure_document(status, message, None, self.request).into();
        let record = self.record(status, answer, Usage::default());
        self.finish(record)
    }

    pub(super) fn record(&self, status: StatusCode, answer: Bytes, usage: Usage) -> Record {
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

    pub(super) fn finish(self, record: Record) -> InvocationResult {
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

/// Returns SCF's status and message for an invocation that got no instance. Source: its list of function status codes.
pub(super) fn rejection(
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
