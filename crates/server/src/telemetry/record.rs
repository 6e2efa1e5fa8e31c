//! One finished invocation.

use bytes::Bytes;
use model::{FunctionKey, MemoryMb, RequestId, StatusCode, Timestamp, Usage, Version};

/// What a start cost, when an invocation was the first of its instance. Microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ColdStart {
    /// From the ask for an instance to the loaded handler.
    pub(crate) total_us: u64,
    /// Of it, having a sandbox.
    pub(crate) runtime_us: u64,
    /// Of it, loading the handler.
    pub(crate) import_us: u64,
    /// Peak memory when the handler was loaded, bytes.
    pub(crate) memory_peak: u64,
    /// Whether it was started ahead of need, so that no request waited for it.
    pub(crate) provisioned: bool,
}

/// Bytes that a record counts for beside its answer and its logs.
pub(super) const RECORD_BYTES: usize = 1024;

/// A finished invocation with all that is kept of it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) request: RequestId,
    pub(crate) function: FunctionKey,
    /// The version that ran.
    pub(crate) version: Version,
    pub(crate) memory: MemoryMb,
    /// When the request came in.
    pub(crate) started: Timestamp,
    /// How often it was tried before.
    pub(crate) retry: u32,
    pub(crate) status: StatusCode,
    pub(crate) usage: Usage,
    /// Time that is billed, microseconds: of what requests on one instance share, each moment once.
    pub(crate) billed_us: u64,
    /// The answer, or the error document.
    pub(crate) answer: Bytes,
    /// What was printed while the handler was loaded.
    pub(crate) init_log: Bytes,
    /// What was printed while the request ran.
    pub(crate) log: Bytes,
    pub(crate) cold: Option<ColdStart>,
    /// A remark of the platform for the log, such as which interpreter served.
    pub(crate) note: Option<String>,
}

impl Record {
    /// Memory that the record holds, bytes, roughly.
    pub(super) fn weight(&self) -> usize {
        RECORD_BYTES + self.answer.len() + self.init_log.len() + self.log.len()
    }

    /// Billed time in milliseconds, rounded up to a whole one.
    /// Source: SCF's billing page, 1 ms granularity.
    pub(crate) fn billed_ms(&self) -> u64 {
        self.billed_us.div_ceil(1000)
    }
}
