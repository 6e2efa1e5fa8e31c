//! Requests to a handler.

use std::sync::PoisonError;
use std::time::Instant;

use model::{FailureKind, Outcome, Usage};
use sandbox::wire::Kind;

use super::Instance;
use super::exchange::ExchangeError;
use crate::guest_report::{GuestFailure, GuestStatus};
use crate::request::RequestMetadata;

/// The result of an invocation.
#[derive(Debug)]
pub struct InvocationResult {
    /// The outcome for the caller.
    pub outcome: Outcome,
    /// Whether the user's code got the event. If the instance ended before, another one can run the event.
    pub started: bool,
    /// Whether the instance can serve another request.
    pub reusable: bool,
    /// Whether its last requests were short; `None` if there is no new sample.
    pub short_requests: Option<bool>,
}

impl Instance {
    /// Runs one request. The caller ensures that no other runs at the same time.
    pub async fn invoke(&self, metadata: &RequestMetadata, event: &[u8]) -> InvocationResult {
        let (request, started_at) = (metadata.request, Instant::now());
        let (answer, log) = self
            .exchange(Some((metadata, event)), Kind::Answer, self.spec.timeout)
            .await;
        let answer = match answer {
            Ok((status, body)) => self.checked_answer(request, status, body).await,
            lost => lost,
        };
        let mut usage = Usage {
            duration_us: started_at.elapsed().as_micros() as u64,
            memory_peak: self.memory_peak(),
        };
        let started = !matches!(answer, Err(ExchangeError::NotStarted(_)));
        let (result, reusable) = match answer {
            Ok((status, body)) if GuestStatus::is_ok(status) => (Ok(body), true),
            Ok((status, body)) => {
                let reported: GuestFailure = serde_json::from_slice(&body).unwrap_or_default();
                let kind = GuestStatus::run_failure(status);
                (Err(reported.into_failure(kind)), true)
            }
            Err(lost) => {
                let failure = lost.into_failure();
                if failure.kind == FailureKind::TimedOut {
                    usage.duration_us = self.spec.timeout.as_micros() as u64;
                }
                (Err(failure), false)
            }
        };
        InvocationResult {
            outcome: Outcome { result, log, usage },
            started,
            reusable: reusable && !self.is_stale(),
            short_requests: self
                .short_requests
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .count(started_at, || self.process.sole_process()),
        }
    }
}
