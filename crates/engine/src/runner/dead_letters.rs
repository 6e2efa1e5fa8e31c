//! Delivery of dead letters to a function or an HTTP endpoint.
//!
//! Each target has its own queue, so that an unresponsive target does not delay the others. Delivery is at least once and retried
//! until it succeeds.

use std::time::Duration;

use dispatch::events::{Disposition, FunctionQueueId, QueueInput};
use events::{Completion, EventOrigin, Failures, NewEvent, QueuedEvent};
use model::{
    AccountId, Alias, DeadLetter, FailureKind, FunctionKey, Qualifier, RequestId, RoutingKey,
};
use telemetry::trace;
use tracing::{debug, warn};

use super::state::Runner;

/// How long an endpoint may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A failed delivery of a dead letter.
enum DeliveryError {
    /// The target is unavailable. Its whole queue pauses.
    Unreachable(String),
    /// The target rejects this dead letter. Others are sent before it is retried.
    Refused(String),
}

/// Creates the HTTP client. It follows no redirects, which could lead past the list of allowed endpoints.
pub(super) fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(ANSWER_WITHIN))
        .max_redirects(0)
        .http_status_as_error(false);
    config.proxy(None).build().into()
}

impl Runner {
    /// Returns whether dead letters may be sent to a target.
    pub fn may_send_to(&self, target: &DeadLetter) -> bool {
        match target {
            DeadLetter::Function { .. } => true,
            DeadLetter::Http { url, .. } => {
                let endpoints = &self.shared.settings.endpoints;
                endpoints.iter().any(|endpoint| endpoint.covers(url))
            }
        }
    }

    /// Sends a dead letter to its target and records the delivery or the next retry.
    pub(super) async fn send(
        &self,
        queue: FunctionQueueId,
        seq: u64,
        account: AccountId,
        target: &DeadLetter,
    ) -> Disposition {
        let queued = match self.shared.queue.get(seq).await {
            Ok(Some(queued)) => queued,
            Ok(None) => return Disposition::Removed,
            Err(error) => {
                warn!(seq, %error, "failed to read a dead letter; will retry");
                return Disposition::Throttled;
            }
        };
        if !self.shared.catalog.is_open(account) {
            return Disposition::Removed;
        }
        let uin = self.shared.settings.access.uin(account);
        let documents = self.shared.ingest.documents();
        let dead_letter = documents.dead_letter(account, &uin, &queued);
        let sent = match target {
            DeadLetter::Function { namespace, name } => {
                let function = FunctionKey {
                    account,
                    namespace: namespace.clone(),
                    name: name.clone(),
                };
                self.enqueue_dead_letter(function, &queued, &dead_letter)
                    .await
            }
            // The allow-list may have changed since the target was configured.
            DeadLetter::Http { .. } if !self.may_send_to(target) => Err(
                DeliveryError::Unreachable("it is not one of dead_letter_endpoints".into()),
            ),
            DeadLetter::Http { url, .. } => self.post(url, &queued, &dead_letter).await,
        };
        let refused = match sent {
            Ok(()) => {
                debug!(request = %queued.request, target = target.name(), "delivered a dead letter");
                // A success widens the queue's concurrency.
                self.step(QueueInput::Assigned { queue, seq });
                return self
                    .complete(&queued, None, Completion::Delivered, None)
                    .await;
            }
            Err(DeliveryError::Refused(why)) => why,
            Err(DeliveryError::Unreachable(why)) => {
                warn!(
                    target = target.name(),
                    why, "failed to deliver dead letters; will retry"
                );
                return Disposition::Throttled;
            }
        };
        warn!(request = %queued.request, target = target.name(), why = refused, "the target rejected a dead letter; will retry");
        let tries = queued.failures.system.saturating_add(1);
        let policy = &self.shared.settings.policy;
        let distance = policy
            .after_system_fault
            .saturating_mul(1 << tries.min(40).saturating_sub(1));
        let delay = distance.min(policy.max_delay);
        let failures = Failures {
            system: tries,
            ..queued.failures
        };
        let again = Completion::Retry { delay, failures };
        self.complete(&queued, Some(FailureKind::PlatformFault), again, None)
            .await
    }

    async fn enqueue_dead_letter(
        &self,
        function: FunctionKey,
        queued: &QueuedEvent,
        dead_letter: &str,
    ) -> Result<(), DeliveryError> {
        if self.shared.catalog.function(&function).is_none() {
            return Err(DeliveryError::Unreachable(format!(
                "function {} does not exist in namespace {}",
                function.name, function.namespace
            )));
        }
        let event = NewEvent {
            request: derive_request_id(queued.request, "dead letter"),
            function,
            qualifier: Qualifier::Alias(Alias::DEFAULT.to_owned()),
            routing_key: RoutingKey::new(),
            source: EventOrigin::DeadLetter,
            depth: queued.depth,
            trace: queued.trace.clone(),
            event: dead_letter.to_owned().into(),
        };
        let accepted = self.shared.queue.accept(event).await;
        accepted.map_err(|error| DeliveryError::Unreachable(error.to_string()))
    }

    async fn post(
        &self,
        url: &str,
        queued: &QueuedEvent,
        dead_letter: &str,
    ) -> Result<(), DeliveryError> {
        let (agent, url, body) = (
            self.shared.post.clone(),
            url.to_owned(),
            dead_letter.to_owned(),
        );
        let request = queued.request.to_string();
        let trace = queued.trace.clone();
        let posted = tokio::task::spawn_blocking(move || {
            let mut post = agent
                .post(&url)
                .header("Content-Type", "application/json")
                .header("X-Scf-Request-Id", request);
            for (name, value) in trace::headers(trace.as_ref()) {
                post = post.header(name, value);
            }
            post.send(body)
        });
        match posted.await {
            Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
            Ok(Ok(answer)) => {
                let status = answer.status();
                let why = format!("it answers {status}");
                // These statuses concern the whole endpoint; others concern this dead letter alone.
                let of_all =
                    status.is_server_error() || matches!(status.as_u16(), 401..=404 | 408 | 429);
                Err(if of_all || status.is_redirection() {
                    DeliveryError::Unreachable(why)
                } else {
                    DeliveryError::Refused(why)
                })
            }
            Ok(Err(error)) => Err(DeliveryError::Unreachable(error.to_string())),
            Err(error) => Err(DeliveryError::Unreachable(error.to_string())),
        }
    }
}

/// Derives a request id deterministically, so that a resend is deduplicated. Keeps the time prefix, so both ids sort together.
fn derive_request_id(request: RequestId, from: &str) -> RequestId {
    use sha2::{Digest, Sha256};
    let digest = Sha256::new()
        .chain_update(from)
        .chain_update(request.as_bytes())
        .finalize();
    let mut bytes = *request.as_bytes();
    bytes[9..].copy_from_slice(&digest[..7]);
    RequestId::from_bytes(bytes)
}
