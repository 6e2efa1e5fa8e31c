//! The periodic check of all custom domains.

use std::sync::Arc;
use std::time::Duration;

use catalog::{Catalog, Error, Stored};
use model::Domain;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::{Finding, Ownership, next_state};

/// Number of domains that are checked concurrently.
const CONCURRENT: usize = 8;

/// Checks all domains at once and then every `period`, until it is dropped.
pub async fn watch(ownership: Arc<Ownership>, catalog: Catalog, period: Duration) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut checks = JoinSet::new();
        for stored in catalog.all_domains() {
            if checks.len() >= CONCURRENT {
                checks.join_next().await;
            }
            let (ownership, catalog) = (ownership.clone(), catalog.clone());
            checks.spawn(async move { check(&ownership, &catalog, &stored).await });
        }
        while checks.join_next().await.is_some() {}
    }
}

async fn check(ownership: &Ownership, catalog: &Catalog, stored: &Stored<Domain>) {
    let domain = &stored.value;
    let finding = ownership
        .check(domain.account, &domain.name, domain.proof.as_deref())
        .await;
    let (name, account) = (&domain.name, domain.account);
    if let Finding::Unanswered(why) = &finding {
        info!(domain = %name, %account, why, "a custom domain could not be checked; its state does not change");
    }
    let Some(next) = next_state(domain, &finding, clock::now_ms()) else {
        return;
    };
    match catalog.record_domain_check(stored, &next).await {
        Ok(()) => log_change(ownership, domain, &next),
        // The domain was changed or deleted meanwhile; the next check sees its new state.
        Err(Error::Conflict) => {}
        Err(error) => {
            warn!(domain = %name, %error, "failed to store the result of a domain check; it will be repeated");
        }
    }
}

fn log_change(ownership: &Ownership, old: &Domain, new: &Domain) {
    let (domain, account) = (&new.name, new.account);
    match (old.unproved_since, new.unproved_since) {
        (None, Some(since)) => {
            let record = ownership.record(account, domain);
            let closes = clock::format(ownership.closes_at(since));
            warn!(
                %domain, %account, record = record.name, value = record.value, closes,
                "a custom domain is not proved; publish the TXT record, or allow the domain with --domain-allow"
            );
        }
        (Some(_), None) => info!(%domain, %account, "a custom domain is proved again"),
        _ => {}
    }
}
