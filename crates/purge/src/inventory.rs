//! Counts of an account's resources by kind.

use std::fmt;

use model::AccountId;
use telemetry::Sink;

use super::error::PurgeError;
use super::stores::Stores;

/// Number of resources by kind. Counts of events, logs and objects stop at 100,000.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountInventory(pub Vec<(&'static str, u64)>);

impl AccountInventory {
    /// Returns whether the account owns nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for AccountInventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |kind: &str| match kind.strip_suffix("ies") {
            Some(stem) => format!("{stem}y"),
            None => kind.trim_end_matches('s').to_owned(),
        };
        let named = self.0.iter().map(|(kind, count)| match count {
            1 => format!("1 {}", one(kind)),
            _ => format!("{count} {kind}"),
        });
        let named: Vec<_> = named.collect();
        f.write_str(&named.join(", "))
    }
}

/// Counts the resources of an account, except its keys and roles.
pub(super) async fn count(
    stores: &Stores,
    account: AccountId,
) -> Result<AccountInventory, PurgeError> {
    let owned = stores.catalog.owned(account);
    let functions = owned.functions.iter().map(|stored| &stored.value);
    let triggers = functions.clone().map(|function| function.triggers.len());
    let versions = functions.clone().map(|function| function.versions.len());
    let queued = stores.queue.account_counts(account).await?;
    let log = stores.log.clone();
    let logs = tokio::task::spawn_blocking(move || {
        log.flush();
        log.store().account_counts(account)
    });
    let logs = logs.await??;
    let objects = match &stores.objects {
        Some(objects) => objects.belongings(account.0).await?,
        None => Default::default(),
    };
    let all = [
        ("functions", owned.functions.len() as u64),
        ("published versions", versions.sum::<usize>() as u64),
        ("triggers", triggers.sum::<usize>() as u64),
        ("layers", owned.published_layers().count() as u64),
        ("namespaces", owned.other_namespaces().count() as u64),
        ("custom domains", owned.domains.len() as u64),
        ("buckets", objects.buckets),
        ("objects", objects.objects),
        ("queued events", queued.queued),
        ("past events", queued.ended),
        ("log records", logs),
        ("usage entries", queued.usage),
    ];
    Ok(AccountInventory(
        all.into_iter().filter(|(_, count)| *count > 0).collect(),
    ))
}
