//! Dead letters: events that were given up, on their way to another function or an endpoint.
//!
//! They wait in lanes of their own, one for each target, so that a target that does not answer holds up no other. Each is sent at
//! least once, and tried until it has arrived.

use std::time::Duration;

use dispatch::events::{Disposition, FunctionQueueId, QueueInput};
use model::{AccountId, Alias, DeadLetter, FunctionKey, Qualifier, RoutingKey, StatusCode};
use serde_json::{Value, json};
use tracing::{debug, warn};

use super::super::{Failures, Kept, NewEvent, Settled, Source};
use super::{Runner, derived};
use crate::clock;

/// How long an endpoint may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why a letter did not arrive.
enum Unsent {
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
        let kept = match self.shared.queue.get(seq).await {
            Ok(Some(kept)) => kept,
            Ok(None) => return Disposition::Removed,
            Err(error) => {
                warn!(seq, %error, "a dead letter cannot be read; it is tried again");
                return Disposition::Throttled;
            }
        };
        if !self.shared.catalog.is_open(account) {
            return Disposition::Removed;
        }
        let letter = self.letter(account, &kept);
        let sent = match target {
            DeadLetter::Function { namespace, name } => {
                let function = FunctionKey {
                    account,
                    namespace: namespace.clone(),
                    name: name.clone(),
                };
                self.hand_over(function, &kept, &letter).await
            }
            // What was allowed when it was set may not be any more.
            DeadLetter::Http { .. } if !self.may_send_to(target) => Err(Unsent::Unreachable(
                "it is not one of dead_letter_endpoints".into(),
            )),
            DeadLetter::Http { url, .. } => self.post(url, &kept, &letter).await,
        };
        let refused = match sent {
            Ok(()) => {
                debug!(request = %kept.request, target = target.name(), "a dead letter has arrived");
                // More may be sent at a time.
                self.step(QueueInput::Assigned { queue, seq });
                let status = StatusCode::Ok;
                return self
                    .settle(seq, &kept, status, Settled::Delivered, None)
                    .await;
            }
            Err(Unsent::Refused(why)) => why,
            Err(Unsent::Unreachable(why)) => {
                warn!(
                    target = target.name(),
                    why, "dead letters do not arrive; they are sent again"
                );
                return Disposition::Throttled;
            }
        };
        warn!(request = %kept.request, target = target.name(), why = refused, "a dead letter is refused; it is sent again");
        let tries = kept.failures.system.saturating_add(1);
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
            ..kept.failures
        };
        let again = Settled::Again { due, failures };
        self.settle(seq, &kept, StatusCode::InternalError, again, None)
            .await
    }

    async fn hand_over(
        &self,
        function: FunctionKey,
        kept: &Kept,
        letter: &Value,
    ) -> Result<(), Unsent> {
        if self.shared.catalog.function(&function).is_none() {
            return Err(Unsent::Unreachable(format!(
                "function {} does not exist in namespace {}",
                function.name, function.namespace
            )));
        }
        let event = NewEvent {
            request: derived(kept.request, "dead letter"),
            function,
            qualifier: Qualifier::Alias(Alias::DEFAULT.to_owned()),
            routing_key: RoutingKey::new(),
            source: Source::DeadLetter,
            depth: kept.depth,
            event: letter.to_string().into(),
        };
        let accepted = self.shared.queue.accept(event).await;
        accepted.map_err(|error| Unsent::Unreachable(error.to_string()))
    }

    async fn post(&self, url: &str, kept: &Kept, letter: &Value) -> Result<(), Unsent> {
        let (agent, url, body) = (self.shared.post.clone(), url.to_owned(), letter.to_string());
        let request = kept.request.to_string();
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
                    Unsent::Unreachable(why)
                } else {
                    Unsent::Refused(why)
                })
            }
            Ok(Err(error)) => Err(Unsent::Unreachable(error.to_string())),
            Err(error) => Err(Unsent::Unreachable(error.to_string())),
        }
    }

    /// The message that SCF documents. Source: its page "Dead Letter Queue", whose sample has these very values.
    fn letter(&self, account: AccountId, kept: &Kept) -> Value {
        let uin = self.shared.settings.access.uin(account);
        let milliseconds = kept.accepted.0 / 1000;
        let (code, message) = error_of(kept);
        json!({
            "RequestId": kept.request.to_string(),
            "ErrorCode": code,
            "ErrorMessage": message,
            "Body": {
                "AppId": account.0,
                "Uin": uin,
                "SubAccountUin": uin,
                "RequestSource": source_of(kept.source),
                "FunctionName": kept.function.name.to_string(),
                "Namespace": kept.function.namespace.to_string(),
                "Qualifier": kept.qualifier.to_string(),
                "InvocationType": "RequestResponse",
                "ClientContext": String::from_utf8_lossy(&kept.event),
                "LogType": "",
                "TimeStampForInvoker": milliseconds.to_string(),
                "RequestId": kept.request.to_string(),
                "PushTime": clock::format_rfc3339(kept.accepted.0),
                "RetryNum": kept.failures.user,
                "Ttl": 0,
            },
        })
    }
}

/// A letter's code and message: -1 and the stack for an exception of the function's, else the status and what went wrong.
fn error_of(kept: &Kept) -> (i32, String) {
    let status = kept.status.unwrap_or_default();
    let exception = status == StatusCode::UserCodeException.as_u16();
    let code = if exception { -1 } else { i32::from(status) };
    let text = kept.message.clone().unwrap_or_default();
    let document: Value = serde_json::from_str(&text).unwrap_or_default();
    let part = |name: &str| document[name].as_str().map(str::to_owned);
    let message = part("stackTrace").or_else(|| part("errorMessage"));
    (code, message.unwrap_or(text))
}

/// Where an event came from, in a letter's words.
fn source_of(source: Source) -> &'static str {
    match source {
        Source::Timer => "TRIGGER_TIMER",
        Source::Cos => "TRIGGER_COS",
        Source::Api | Source::DeadLetter => source.as_str(),
    }
}
