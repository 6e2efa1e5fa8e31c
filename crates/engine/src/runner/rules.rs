//! The rules for a function's events: retries, dead letters, and which events do not run at all.

use dispatch::events::RetryPolicy;
use events::{Completion, EventOrigin, QueuedEvent};
use model::{DeadLetter, EventConfig, FailureKind, Qualifier, Version};
use telemetry::EventStep;

use super::state::Runner;

/// The rules in force for a function's events.
pub(super) struct Rules {
    pub(super) policy: RetryPolicy,
    pub(super) dead_letter: Option<DeadLetter>,
    /// Whether an event runs at most once (asynchronous execution).
    pub(super) once: bool,
}

impl Runner {
    /// Returns the rules in force for an event.
    pub(super) fn rules(&self, queued: &QueuedEvent) -> Rules {
        let settings = &self.shared.settings;
        let stored = self.shared.catalog.function(&queued.function);
        let function = stored.as_ref().map(|stored| &stored.value);
        let usual = EventConfig::default_for(&settings.limits);
        let config = function
            .and_then(|function| function.events)
            .unwrap_or(usual);
        let once = function.is_some_and(|function| function.async_run);
        let policy = RetryPolicy {
            retries: if once { 0 } else { config.retries },
            ttl: u64::from(config.ttl_s) * 1_000_000,
            ..settings.policy
        };
        let dead_letter = function.and_then(|function| {
            // An alias uses the configuration of its main version.
            let version = match &queued.qualifier {
                Qualifier::Latest => Version::Latest,
                Qualifier::Version(number) => Version::Number(*number),
                Qualifier::Alias(name) => function.alias(name)?.version,
            };
            function.serving(version)?.config.dead_letter.clone()
        });
        Rules {
            policy,
            dead_letter,
            once,
        }
    }

    /// Returns why an event must not run, and its completion: it waited too long, or it is too deep in a call chain.
    pub(super) fn unfit(
        &self,
        queued: &QueuedEvent,
        rules: &Rules,
    ) -> Option<(FailureKind, Completion)> {
        let now = self.shared.queue.clock().now();
        if rules.policy.has_expired(now, queued.accepted) {
            let seconds = rules.policy.ttl / 1_000_000;
            let why = format!("the event waited longer than its MsgTTL of {seconds} seconds");
            let to = dead_letter_target(queued, rules);
            let completion = Completion::Failed { why, to };
            return Some((FailureKind::ConcurrencyExceeded, completion));
        }
        let limit = self.shared.settings.max_depth;
        if queued.source == EventOrigin::DeadLetter || queued.depth < limit {
            return None;
        }
        let why = format!(
            "recursion loop: the event is at depth {} of a call chain and max_depth is {}; check whether a function writes to \
             the bucket that triggers it, or raise max_depth",
            queued.depth.0, limit.0
        );
        self.shared.metrics.event(EventStep::Looped);
        // Deeper events get no dead letter: otherwise the dead letters would form an endless chain themselves.
        let to = dead_letter_target(queued, rules).filter(|_| queued.depth == limit);
        Some((FailureKind::Cancelled, Completion::Failed { why, to }))
    }
}

/// Returns the dead-letter target of an event. A dead letter has none itself, so that dead letters cannot loop.
pub(super) fn dead_letter_target(queued: &QueuedEvent, rules: &Rules) -> Option<DeadLetter> {
    let further = queued.source != EventOrigin::DeadLetter;
    rules.dead_letter.clone().filter(|_| further)
}
