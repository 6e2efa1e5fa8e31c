//! Retry policy of failed events. Source: SCF's page on asynchronous invocation.

use crate::Time;

/// Cause of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The function.
    User,
    /// The platform.
    System,
    /// The event: it can never succeed, for example because its function was deleted.
    Caller,
}

/// Retry limits and delays. Times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Maximum number of retries after failures of the function.
    pub retries: u32,
    /// Maximum age of an event.
    pub ttl: u64,
    /// Delay after a failure of the function.
    pub after_user_fault: u64,
    /// Delay after the first failure of the platform. It doubles with each further one (exponential backoff).
    pub after_system_fault: u64,
    /// Maximum delay.
    pub max_delay: u64,
}

/// What happens to a failed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// It is retried.
    Retry {
        /// Earliest start of the retry.
        at: Time,
    },
    /// It has failed permanently.
    GiveUp,
}

impl RetryPolicy {
    /// Returns whether an event has exceeded its maximum age.
    pub fn has_expired(&self, now: Time, accepted: Time) -> bool {
        now >= accepted.after(self.ttl)
    }
}

/// Decides whether a failed event is retried. `failures` counts the failures with the same cause, including this one.
pub fn retry_decision(
    policy: &RetryPolicy,
    now: Time,
    accepted: Time,
    fault: Fault,
    failures: u32,
) -> RetryDecision {
    let at = match fault {
        Fault::Caller => return RetryDecision::GiveUp,
        Fault::User if failures > policy.retries => return RetryDecision::GiveUp,
        Fault::User => now.after(policy.after_user_fault),
        Fault::System => {
            let doubled = 1u64 << failures.saturating_sub(1).min(40);
            let distance = policy.after_system_fault.saturating_mul(doubled);
            now.after(distance.min(policy.max_delay))
        }
    };
    // It would expire before the retry.
    if policy.has_expired(at, accepted) {
        RetryDecision::GiveUp
    } else {
        RetryDecision::Retry { at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        retries: 2,
        ttl: 1000,
        after_user_fault: 60,
        after_system_fault: 1,
        max_delay: 300,
    };

    #[test]
    fn user_faults_are_retried_up_to_the_configured_count() {
        let after = |failures| retry_decision(&POLICY, Time(10), Time(0), Fault::User, failures);
        assert_eq!(after(1), RetryDecision::Retry { at: Time(70) });
        assert_eq!(after(2), RetryDecision::Retry { at: Time(70) });
        assert_eq!(after(3), RetryDecision::GiveUp);
        let none = RetryPolicy {
            retries: 0,
            ..POLICY
        };
        assert_eq!(
            retry_decision(&none, Time(10), Time(0), Fault::User, 1),
            RetryDecision::GiveUp
        );
    }

    #[test]
    fn system_faults_back_off_exponentially_until_the_event_expires() {
        let after =
            |now, failures| retry_decision(&POLICY, Time(now), Time(0), Fault::System, failures);
        for (failures, distance) in [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (1000, 300)] {
            let at = Time(10 + distance);
            assert_eq!(
                after(10, failures),
                RetryDecision::Retry { at },
                "{failures}"
            );
        }
        assert_eq!(after(699, 10), RetryDecision::Retry { at: Time(999) });
        assert_eq!(after(700, 10), RetryDecision::GiveUp);
        let never = retry_decision(&POLICY, Time(10), Time(0), Fault::Caller, 1);
        assert_eq!(never, RetryDecision::GiveUp);
    }
}
