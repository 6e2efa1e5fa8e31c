//! Requests to a handler.

use std::sync::PoisonError;
use std::time::Instant;

use model::{Outcome, StatusCode, Usage};
use sandbox::wire::Kind;

use super::Instance;
use super::exchange::ExchangeError;
use crate::outcome::Reported;
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
        let (status, answer, reusable) = match answer {
            Ok((status, body)) if status == StatusCode::Ok.as_u16() => (StatusCode::Ok, body, true),
            Ok((status, body)) => {
                let reported: Reported = serde_json::from_slice(&body).unwrap_or_default();
                let failure = reported.into_failure(run_status(status));
                (failure.status, failure.document(request), true)
            }
            Err(lost) => {
                let failure = lost.into_failure();
                if failure.status == StatusCode::TimeLimitReached {
                    usage.duration_us = self.spec.timeout.as_micros() as u64;
                }
                (failure.status, failure.document(request), false)
            }
        };
        InvocationResult {
            outcome: Outcome {
                status,
                answer,
                log,
                usage,
            },
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

/// Maps a status that a shim reports for a run.
fn run_status(status: u16) -> StatusCode {
    if status == StatusCode::ResponseTooLarge.as_u16() {
        StatusCode::ResponseTooLarge
    } else {
        StatusCode::UserCodeException
    }
}
