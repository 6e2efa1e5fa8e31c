//! The record of a finished invocation.

use bytes::Bytes;
use model::{FailureKind, FunctionKey, MemoryMb, RequestId, Timestamp, Usage, Version};

/// Durations and memory of a cold start. Times are in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColdStart {
    /// From the request for an instance to the loaded handler.
    pub total_us: u64,
    /// Part of it: getting a sandbox.
    pub runtime_us: u64,
    /// Part of it: loading the handler.
    pub import_us: u64,
    /// Peak memory after loading the handler, bytes.
    pub memory_peak: u64,
    /// Whether the instance was provisioned in advance, so that no request waited for it.
    pub provisioned: bool,
}

/// Bytes that a record counts for besides its response and its logs.
pub(super) const RECORD_BYTES: usize = 1024;

/// A finished invocation.
#[derive(Clone, Debug)]
pub struct Record {
    /// The invocation's request id.
    pub request: RequestId,
    /// The function that ran.
    pub function: FunctionKey,
    /// The version that ran.
    pub version: Version,
    /// The configured memory.
    pub memory: MemoryMb,
    /// Time at which the request came in.
    pub started: Timestamp,
    /// Number of earlier attempts.
    pub retry: u32,
    /// The kind of the failure; `None` if it succeeded.
    pub failure: Option<FailureKind>,
    /// The measured duration and memory.
    pub usage: Usage,
    /// Billed time in microseconds. Time shared by concurrent requests on one instance is billed once.
    pub billed_us: u64,
    /// The response, or the document of the failure.
    pub answer: Bytes,
    /// Output while the handler was loaded.
    pub init_log: Bytes,
    /// Output while the request ran.
    pub log: Bytes,
    /// The cold start, if the invocation waited for one.
    pub cold: Option<ColdStart>,
    /// A note of the platform for the log, such as the interpreter that was used.
    pub note: Option<String>,
}

impl Record {
    /// Returns the approximate memory of the record in bytes.
    pub(super) fn weight(&self) -> usize {
        RECORD_BYTES + self.answer.len() + self.init_log.len() + self.log.len()
    }

    /// Returns the billed time in milliseconds, rounded up.
    /// Source: SCF's billing page, 1 ms granularity.
    pub fn billed_ms(&self) -> u64 {
        self.billed_us.div_ceil(1000)
    }
}
