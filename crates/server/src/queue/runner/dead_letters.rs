//! Dead letters: events that were given up, on their way to another function or an endpoint.
//!
//! They wait in lanes of their own, one for each target, so that a target that does not answer holds up no other. Each is sent at
//! least once, and tried until it has arrived.

use std::time::Duration;

use dispatch::events::{Disposition, FunctionQueueId, QueueInput};
use model::{AccountId, Alias, DeadLetter, FunctionKey, Qualifier, RoutingKey, StatusCode};
use serde_json::{Value, json};
use tracing::{debug, warn};

use super::super::{Completion, EventOrigin, Failures, NewEvent, QueuedEvent};
use super::{Runner, derive_request_id};
use crate::clock;

/// How long an endpoint may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why a letter did not arrive.
enum DeliveryError {
    /// No other would have: its whole lane rests.
    Unreachable(String),
    /// The target does not take this one: others go before it.
    Refused(String),
}

/// What posts letters.
pub(super) fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(ANSWER_WITHIN))
        .max_redirects(0)
        .http_status_as_error(false);
    config.proxy(None).build().into()
}

impl Runner {
    /// Whether letters may go there.
    pub(crate) fn may_send_to(&self, target: &DeadLetter) -> bool {
        match target {
            DeadLetter::Function { .. } => true,
            DeadLetter::Http { url, .. } => {
                let endpoints = &self.shared.settings.endpoints;
                endpoints.iter().any(|endpoint| endpoint.covers(url))
            }
        }
    }

    /// Sends a letter to its target, and records that, or when it is sent again.
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
                warn!(seq, %error, "a dead letter cannot be read; it is tried again");
                return Disposition::Throttled;
            }
        };
        if !self.shared.catalog.is_open(account) {
            return Disposition::Removed;
        }
        let dead_letter = self.dead_letter(account, &queued);
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
            // What was allowed when it was set may not be any more.
            DeadLetter::Http { .. } if !self.may_send_to(target) => Err(
                DeliveryError::Unreachable("it is not one of dead_letter_endpoints".into()),
            ),
            DeadLetter::Http { url, .. } => self.post(url, &queued, &dead_letter).await,
        };
        let refused = match sent {
            Ok(()) => {
                debug!(request = %queued.request, target = target.name(), "a dead letter has arrived");
                // More may be sent at a time.
                self.step(QueueInput::Assigned { queue, seq });
                let status = StatusCode::Ok;
                return self
                    .complete(seq, &queued, status, Completion::Delivered, None)
                    .await;
            }
            Err(DeliveryError::Refused(why)) => why,
            Err(DeliveryError::Unreachable(why)) => {
                warn!(
                    target = target.name(),
                    why, "dead letters do not arrive; they are sent again"
                );
                return Disposition::Throttled;
            }
        };
        warn!(request = %queued.request, target = target.name(), why = refused, "a dead letter is refused; it is sent again");
        let tries = queued.failures.system.saturating_add(1);
        let policy = &self.shared.settings.policy;
        let distance = policy
            .after_system_fault
            .saturating_mul(1 << tries.min(40).saturating_sub(1));
        let due = self
            .shared
            .queue
            .clock()
            .now()
            .after(distance.min(policy.max_delay));
        let failures = Failures {
            system: tries,
            ..queued.failures
        };
        let again = Completion::Retry { due, failures };
        self.complete(seq, &queued, StatusCode::InternalError, again, None)
            .await
    }

    async fn enqueue_dead_letter(
        &self,
        function: FunctionKey,
        queued: &QueuedEvent,
        dead_letter: &Value,
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
            event: dead_letter.to_string().into(),
        };
        let accepted = self.shared.queue.accept(event).await;
        accepted.map_err(|error| DeliveryError::Unreachable(error.to_string()))
    }

    async fn post(
        &self,
        url: &str,
        queued: &QueuedEvent,
        dead_letter: &Value,
    ) -> Result<(), DeliveryError> {
        let (agent, url, body) = (
            self.shared.post.clone(),
            url.to_owned(),
            dead_letter.to_string(),
        );
        let request = queued.request.to_string();
        let posted = tokio::task::spawn_blocking(move || {
            agent
                .post(&url)
                .header("Content-Type", "application/json")
                .header("X-Scf-Request-Id", request)
                .send(body)
        });
        match posted.await {
            Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
            Ok(Ok(answer)) => {
                let status = answer.status();
                let why = format!("it answers {status}");
                // These say something of the endpoint, others of this one letter.
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

    /// The message that SCF documents. Source: its page "Dead Letter Queue", whose sample has these very values.
    fn dead_letter(&self, account: AccountId, queued: &QueuedEvent) -> Value {
        let uin = self.shared.settings.access.uin(account);
        let milliseconds = queued.accepted.0 / 1000;
        let (code, message) = error_code_and_message(queued);
        json!({
            "RequestId": queued.request.to_string(),
            "ErrorCode": code,
            "ErrorMessage": message,
            "Body": {
                "AppId": account.0,
                "Uin": uin,
                "SubAccountUin": uin,
                "RequestSource": request_source(queued.source),
                "FunctionName": queued.function.name.to_string(),
                "Namespace": queued.function.namespace.to_string(),
                "Qualifier": queued.qualifier.to_string(),
                "InvocationType": "RequestResponse",
                "ClientContext": String::from_utf8_lossy(&queued.event),
                "LogType": "",
                "TimeStampForInvoker": milliseconds.to_string(),
                "RequestId": queued.request.to_string(),
                "PushTime": clock::format_rfc3339(queued.accepted.0),
                "RetryNum": queued.failures.user,
                "Ttl": 0,
            },
        })
    }
}

/// A letter's code and message: -1 and the stack for an exception of the function's, else the status and what went wrong.
fn error_code_and_message(queued: &QueuedEvent) -> (i32, String) {
    let status = queued.status.unwrap_or_default();
    let exception = status == StatusCode::UserCodeException.as_u16();
    let code = if exception { -1 } else { i32::from(status) };
    let text = queued.message.clone().unwrap_or_default();
    let document: Value = serde_json::from_str(&text).unwrap_or_default();
    let part = |name: &str| document[name].as_str().map(str::to_owned);
    let message = part("stackTrace").or_else(|| part("errorMessage"));
    (code, message.unwrap_or(text))
}

/// Where an event came from, in a letter's words.
fn request_source(source: EventOrigin) -> &'static str {
    match source {
        EventOrigin::Timer => "TRIGGER_TIMER",
        EventOrigin::Cos => "TRIGGER_COS",
        EventOrigin::Api | EventOrigin::DeadLetter => source.as_str(),
    }
}
