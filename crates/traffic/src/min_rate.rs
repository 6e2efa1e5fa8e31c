//! Minimum rates: detects peers that are too slow.
//!
//! A peer that owes something (bytes of a head or a body, or the reading of a reply) spends one second of credit for
//! each second, and earns one for each `rate` bytes that move. Credit is capped at the grace. So a peer may pause for
//! the grace, but may not stay below the rate for longer.

use std::time::Duration;

/// The limits for slow peers.
#[derive(Clone, Copy, Debug)]
pub struct MinRateRules {
    /// Longest idle time of a connection, and longest time to receive a request's head.
    pub head: Duration,
    /// Longest TLS handshake.
    pub handshake: Duration,
    /// Largest credit of a peer that owes bytes.
    pub grace: Duration,
    /// Bytes that earn one second of credit; 0 = any byte restores the whole credit.
    pub(crate) rate: u64,
}

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Before the first request: a TLS handshake or a PROXY header.
    Handshake,
    /// Between requests, nothing of the next one received.
    Idle,
    /// A part of a head was received.
    Head,
    /// A request is being served; its body may still be arriving.
    Serving,
    /// The connection speaks another protocol, e.g. WebSocket.
    Upgraded,
}

/// A sample of a connection's counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateSample {
    pub(crate) phase: Phase,
    /// Requests begun so far.
    pub(crate) requests: u64,
    /// Whether virga waits for bytes of a body.
    pub(crate) body_owed: bool,
    /// Whether the peer has bytes to read.
    pub(crate) read_owed: bool,
    /// Bytes received and sent so far.
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

/// The way in which a peer is too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slow {
    Idle,
    Handshake,
    Head,
    Body,
    Reader,
}

/// The credit of a connection, updated by samples.
#[derive(Debug, Default)]
pub(crate) struct RateMonitor {
    /// Time in the current phase.
    in_phase: Duration,
    phase: Option<Phase>,
    requests: u64,
    received: u64,
    sent: u64,
    /// Spent credit, at most the grace.
    head: Duration,
    body: Duration,
    reader: Duration,
}

impl RateMonitor {
    /// Updates the credit, `elapsed` after the last sample. Returns how the peer is too slow, if it is.
    pub(crate) fn step(
        &mut self,
        rules: &MinRateRules,
        elapsed: Duration,
        sample: RateSample,
    ) -> Option<Slow> {
        let received = sample.received.saturating_sub(self.received);
        let sent = sample.sent.saturating_sub(self.sent);
        (self.received, self.sent) = (sample.received, sample.sent);
        let begun = sample.requests != self.requests;
        self.requests = sample.requests;
        // A request between two samples ends one idle time and begins another.
        if self.phase != Some(sample.phase) || begun {
            self.phase = Some(sample.phase);
            self.in_phase = Duration::ZERO;
            self.head = Duration::ZERO;
        } else if !sample.read_owed {
            self.in_phase += elapsed;
        }
        if begun {
            self.body = Duration::ZERO;
        }
        let spend = |spent: &mut Duration, bytes: u64| {
            let earned = match rules.rate {
                0 if bytes > 0 => *spent,
                0 => Duration::ZERO,
                rate => Duration::from_millis(bytes.saturating_mul(1000) / rate),
            };
            *spent = (*spent + elapsed).saturating_sub(earned);
            *spent > rules.grace
        };
        let slow = match sample.phase {
            Phase::Handshake => (self.in_phase > rules.handshake).then_some(Slow::Handshake),
            Phase::Idle => (self.in_phase > rules.head).then_some(Slow::Idle),
            Phase::Head => {
                let slow = spend(&mut self.head, received);
                (slow || self.in_phase > rules.head).then_some(Slow::Head)
            }
            Phase::Serving if sample.body_owed => {
                spend(&mut self.body, received).then_some(Slow::Body)
            }
            Phase::Serving | Phase::Upgraded => None,
        };
        if sample.read_owed {
            slow.or(spend(&mut self.reader, sent).then_some(Slow::Reader))
        } else {
            self.reader = Duration::ZERO;
            slow
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: MinRateRules = MinRateRules {
        head: Duration::from_secs(60),
        handshake: Duration::from_secs(10),
        grace: Duration::from_secs(20),
        rate: 500,
    };

    /// Returns the second in which a peer with the given samples is detected.
    fn slow(mut sample: impl FnMut(u64) -> RateSample) -> Option<(u64, Slow)> {
        let mut monitor = RateMonitor::default();
        let second = Duration::from_secs(1);
        (0..300).find_map(|at| Some((at, monitor.step(&RULES, second, sample(at))?)))
    }

    fn at(phase: Phase) -> RateSample {
        RateSample {
            phase,
            requests: 0,
            body_owed: false,
            read_owed: false,
            received: 0,
            sent: 0,
        }
    }

    #[test]
    fn each_kind_of_slow_peer_is_detected_in_time() {
        let body = |rate: u64| {
            slow(move |at_s| RateSample {
                body_owed: true,
                received: rate * at_s,
                ..at(Phase::Serving)
            })
        };
        let reader = |phase, rate: u64| {
            slow(move |at_s| RateSample {
                read_owed: true,
                sent: rate * at_s,
                ..at(phase)
            })
        };
        let head = |rate: u64| {
            slow(move |at_s| RateSample {
                received: rate * at_s,
                ..at(Phase::Head)
            })
        };
        assert_eq!(slow(|_| at(Phase::Handshake)), Some((11, Slow::Handshake)));
        assert_eq!(slow(|_| at(Phase::Idle)), Some((61, Slow::Idle)));
        assert_eq!(head(1), Some((20, Slow::Head)));
        assert_eq!(
            head(501),
            Some((61, Slow::Head)),
            "a fast head is limited, too"
        );
        assert_eq!(body(0), Some((20, Slow::Body)));
        assert_eq!(body(10), Some((20, Slow::Body)));
        assert_eq!(body(501), None);
        for phase in [Phase::Idle, Phase::Serving, Phase::Upgraded] {
            assert_eq!(reader(phase, 0), Some((20, Slow::Reader)), "{phase:?}");
            assert_eq!(reader(phase, 501), None, "{phase:?}");
        }
        assert_eq!(slow(|_| at(Phase::Serving)), None, "the function is slow");
        assert_eq!(slow(|_| at(Phase::Upgraded)), None);
    }

    #[test]
    fn pause_within_grace_is_tolerated_and_requests_reset_credit() {
        // 19 s of nothing, then enough bytes to make up for it.
        let pauses = slow(|second| RateSample {
            body_owed: true,
            received: second / 19 * 19 * 1000,
            ..at(Phase::Serving)
        });
        assert_eq!(pauses, None);
        let requests = slow(|second| RateSample {
            requests: second / 15,
            body_owed: true,
            ..at(Phase::Serving)
        });
        assert_eq!(requests, None);
        let keeps_alive = slow(|second| RateSample {
            requests: second / 50,
            ..at(Phase::Idle)
        });
        assert_eq!(keeps_alive, None);
    }
}
