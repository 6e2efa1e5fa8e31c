//! Ownership of custom domains: allowed by the operator, or proved by a DNS record.
//!
//! The record's value is derived from the account and the domain with a key of this installation. So no account can use
//! another one's record, and no state is needed to know what to publish. The record is checked when a domain is created,
//! and periodically afterwards. A domain without its record is served for a grace period, and then closed until the
//! record is back. A failure of DNS changes nothing.
//!
//! Owns the proof that an account may serve a domain. Never knows HTTP, or how a domain's requests are routed.
#![forbid(unsafe_code)]

mod dns;
mod watch;

use std::time::Duration;

use catalog::MasterKeys;
use hmac::{Hmac, KeyInit, Mac};
use hosts::HostPattern;
use model::{AccountId, Domain, DomainName, Timestamp};
use sha2::Sha256;

pub use self::dns::{Dns, DnsServer};
pub use self::watch::watch;

/// The first label of the record's name.
const LABEL: &str = "_virga-challenge";
const PURPOSE: &str = "ownership of custom domains";

/// Checks the ownership of domains, and decides whether one without proof is served.
#[derive(Debug)]
pub struct Ownership {
    /// Domains that need no proof.
    allowed: Vec<HostPattern>,
    /// Keys of the records' values, the newest first.
    keys: Vec<[u8; 32]>,
    dns: Dns,
    grace_ms: i64,
}

/// A DNS record that proves a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The name of the record.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The operator allows the domain.
    Allowed,
    /// The record has this value.
    Proved(String),
    /// DNS answered, and the value is not there.
    Missing,
    /// DNS did not answer, with the reason.
    Unanswered(String),
}

impl Ownership {
    /// Creates the check; the records' keys are derived from the master keys.
    pub fn new(allowed: Vec<HostPattern>, master: &MasterKeys, dns: Dns, grace: Duration) -> Self {
        Self {
            allowed,
            keys: master.all().map(|key| key.derive(PURPOSE)).collect(),
            dns,
            grace_ms: grace.as_millis() as i64,
        }
    }

    /// Returns the record with which an account proves a domain.
    pub fn record(&self, account: AccountId, domain: &DomainName) -> Record {
        let key = self.keys.first().copied().unwrap_or_default();
        Record {
            name: format!("{LABEL}.{domain}"),
            value: value(&key, account, domain),
        }
    }

    /// Checks whether an account owns a domain. `before` is the value that proved it last; it stays valid after a
    /// rotation of the master key.
    pub async fn check(
        &self,
        account: AccountId,
        domain: &DomainName,
        before: Option<&str>,
    ) -> Finding {
        if self
            .allowed
            .iter()
            .any(|pattern| pattern.covers(domain.as_str()))
        {
            return Finding::Allowed;
        }
        let name = self.record(account, domain).name;
        let texts = match self.dns.texts(&name).await {
            Ok(texts) => texts,
            Err(why) => return Finding::Unanswered(why),
        };
        let good = |text: &String| {
            before == Some(text)
                || self
                    .keys
                    .iter()
                    .any(|key| *text == value(key, account, domain))
        };
        match texts.into_iter().find(good) {
            Some(text) => Finding::Proved(text),
            None => Finding::Missing,
        }
    }

    /// Returns whether a domain is served: its proof exists, or the grace period is not over.
    pub fn serves(&self, domain: &Domain, now: impl FnOnce() -> Timestamp) -> bool {
        domain
            .unproved_since
            .is_none_or(|since| now() < since.saturating_add(self.grace_ms))
    }

    /// Returns the time at which a domain without proof is closed.
    pub(crate) fn closes_at(&self, since: Timestamp) -> Timestamp {
        since.saturating_add(self.grace_ms)
    }
}

/// Applies the result of a check to a domain; `None` if nothing changes.
fn next_state(domain: &Domain, finding: &Finding, now: Timestamp) -> Option<Domain> {
    let mut next = domain.clone();
    match finding {
        Finding::Unanswered(_) => {}
        Finding::Missing => next.unproved_since = domain.unproved_since.or(Some(now)),
        Finding::Allowed => next.unproved_since = None,
        Finding::Proved(value) => {
            next.unproved_since = None;
            next.proof = Some(value.clone());
        }
    }
    (next != *domain).then_some(next)
}

fn value(key: &[u8; 32], account: AccountId, domain: &DomainName) -> String {
    // HMAC takes keys of any length, so this never fails.
    let mac = Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| mac.chain_update(format!("{account} {domain}")))
        .map(|mac| mac.finalize().into_bytes().to_vec())
        .unwrap_or_default();
    format!(
        "virga-domain={}",
        hex::encode(mac.get(..20).unwrap_or(&mac))
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use catalog::MasterKey;
    use model::Protocol;

    use super::*;

    fn ownership(keys: &[u8], grace: u64) -> Ownership {
        let mut keys = keys.iter().map(|byte| MasterKey::new([*byte; 32]));
        let master = MasterKeys {
            first: keys.next().expect("a key"),
            older: keys.collect(),
        };
        Ownership::new(Vec::new(), &master, Dns::none(), Duration::from_secs(grace))
    }

    fn domain(unproved_since: Option<Timestamp>) -> Domain {
        Domain {
            name: DomainName::parse("shop.example").expect("a name"),
            account: AccountId(1),
            protocol: Protocol::Http,
            routes: Vec::new(),
            certificate: None,
            firewall: None,
            tags: BTreeMap::new(),
            proof: None,
            unproved_since,
            added: 0,
            modified: 0,
        }
    }

    #[test]
    fn challenge_value_is_unique_per_account_domain_and_installation() {
        let names =
            ["shop.example", "other.example"].map(|text| DomainName::parse(text).expect("a name"));
        let (one, other) = (ownership(&[1], 0), ownership(&[2], 0));
        let values = [
            one.record(AccountId(1), &names[0]),
            one.record(AccountId(2), &names[0]),
            one.record(AccountId(1), &names[1]),
            other.record(AccountId(1), &names[0]),
        ]
        .map(|record| record.value);
        for (at, value) in values.iter().enumerate() {
            assert!(!values[..at].contains(value), "{value}");
        }
        assert_eq!(
            one.record(AccountId(1), &names[0]).name,
            "_virga-challenge.shop.example"
        );
        // After a rotation of the master key, the new key determines the value to publish.
        let changed = ownership(&[2, 1], 0);
        assert_eq!(changed.record(AccountId(1), &names[0]).value, values[3]);
    }

    #[test]
    fn domain_without_proof_closes_after_grace_and_reopens() {
        let ownership = ownership(&[1], 10);
        let proved = Finding::Proved("value".into());
        let fresh = domain(None);
        assert!(ownership.serves(&fresh, || i64::MAX));
        assert_eq!(next_state(&fresh, &Finding::Allowed, 5), None);
        assert_eq!(
            next_state(&fresh, &Finding::Unanswered("x".into()), 5),
            None
        );
        let lost = next_state(&fresh, &Finding::Missing, 5).expect("changed");
        assert_eq!(lost.unproved_since, Some(5));
        assert_eq!(
            next_state(&lost, &Finding::Missing, 9_000),
            None,
            "since the first time"
        );
        assert_eq!(
            next_state(&lost, &Finding::Unanswered("x".into()), 9_000),
            None
        );
        assert!(ownership.serves(&lost, || 10_004) && !ownership.serves(&lost, || 10_005));
        let back = next_state(&lost, &proved, 20_000).expect("changed");
        assert_eq!(
            (back.unproved_since, back.proof.as_deref()),
            (None, Some("value"))
        );
        assert_eq!(next_state(&back, &proved, 20_000), None);
    }
}
