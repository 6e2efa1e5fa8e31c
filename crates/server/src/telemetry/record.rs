//! The record of a finished invocation.

use bytes::Bytes;
use model::{FunctionKey, MemoryMb, RequestId, StatusCode, Timestamp, Usage, Version};

/// Durations and memory of a cold start. Times are in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ColdStart {
    /// From the request for an instance to the loaded handler.
    pub(crate) total_us: u64,
    /// Part of it: getting a sandbox.
    pub(crate) runtime_us: u64,
    /// Part of it: loading the handler.
    pub(crate) import_us: u64,
    /// Peak memory after loading the handler, bytes.
    pub(crate) memory_peak: u64,
    /// Whether the instance was provisioned in advance, so that no request waited for it.
    pub(crate) provisioned: bool,
}

/// Bytes that a record counts for besides its response and its logs.
pub(super) const RECORD_BYTES: usize = 1024;

/// A finished invocation.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) request: RequestId,
    pub(crate) function: FunctionKey,
    /// The version that ran.
    pub(crate) version: Version,
    pub(crate) memory: MemoryMb,
    /// Time at which the request came in.
    pub(crate) started: Timestamp,
    /// Number of earlier attempts.
    pub(crate) retry: u32,
    pub(crate) status: StatusCode,
    pub(crate) usage: Usage,
    /// Billed time in microseconds. Time shared by concurrent requests on one instance is billed once.
    pub(crate) billed_us: u64,
    /// The response, or the error document.
    pub(crate) answer: Bytes,
    /// Output while the handler was loaded.
    pub(crate) init_log: Bytes,
    /// Output while the request ran.
    pub(crate) log: Bytes,
    pub(crate) cold: Option<ColdStart>,
    /// A note of the platform for the log, such as the interpreter that was used.
    pub(crate) note: Option<String>,
}

impl Record {
    /// Returns the approximate memory of the record in bytes.
    pub(super) fn weight(&self) -> usize {
        RECORD_BYTES + self.answer.len() + self.init_log.len() + self.log.len()
    }

    /// Returns the billed time in milliseconds, rounded up.
    /// Source: SCF's billing page, 1 ms granularity.
    pub(crate) fn billed_ms(&self) -> u64 {
        self.billed_us.div_ceil(1000)
    }
}
