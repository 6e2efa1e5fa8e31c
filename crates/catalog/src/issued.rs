//! Ids that were issued to accounts, and the counters that they are taken from.

use model::{AccountId, AccountName, Timestamp};
use serde::{Deserialize, Serialize};

/// Maximum AppId and Uin: 15 digits, which every JSON parser represents exactly.
pub const ID_MAX: u64 = 999_999_999_999_999;

/// The ids that were issued to an account. The record is kept as a tombstone when the account is deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IssuedIds {
    /// AppId.
    pub id: AccountId,
    /// Uin.
    pub uin: u64,
    /// Name of the account at creation.
    pub name: String,
    /// Time of issue.
    pub at: Timestamp,
    /// Time at which the account was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Timestamp>,
    /// Final usage of a deleted account, for its last invoice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<FinalUsage>,
}

/// The total usage of a deleted account, as far back as the ledger reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FinalUsage {
    /// Invocations.
    pub invocations: u64,
    /// Memory-time (GB-seconds).
    pub gb_seconds: f64,
    /// Response bytes.
    pub out_bytes: u64,
}

/// A request to create an account.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// AppId; the next free one if none.
    pub id: Option<u64>,
    /// Uin; the next free one if none.
    pub uin: Option<u64>,
    /// Name.
    pub name: AccountName,
    /// Creation time.
    pub added: Timestamp,
}

/// The counters of issued ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Highest AppId that was issued or observed.
    pub(crate) app_id: u64,
    pub(crate) uin: u64,
    /// Ids up to these may have been issued before the counters existed, so none of them is issued again.
    pub(crate) floor_app_id: u64,
    pub(crate) floor_uin: u64,
}

/// Maximum number of ids that are skipped in a catalog that predates the counters.
pub(crate) const SKIPPED_MAX: u64 = 10_000;

impl Counters {
    /// Raises the counters above every id that was ever observed.
    ///
    /// `old` are the stored counters, `accounts` the highest AppId and Uin of existing accounts, and `seen` the highest AppId
    /// that any data refers to. `writes` is the number of writes of a catalog without counters, which bounds the number of
    /// accounts that it ever had.
    pub(crate) fn reconciled(
        old: Option<Self>,
        accounts: (u64, u64),
        seen: u64,
        writes: u64,
    ) -> Self {
        let (app_id, uin) = accounts;
        // AppIds and Uins are issued in lockstep, so as many Uins are used as AppIds.
        let used = |known: u64| seen.saturating_sub(known).min(SKIPPED_MAX);
        match old {
            None if writes == 0 && seen == 0 => Self {
                app_id,
                uin,
                ..Self::default()
            },
            None => {
                let skipped = writes.min(SKIPPED_MAX);
                let app = app_id.max(seen).saturating_add(skipped);
                let uin = uin.saturating_add(used(app_id)).saturating_add(skipped);
                Self {
                    app_id: app,
                    uin,
                    floor_app_id: app,
                    floor_uin: uin,
                }
            }
            Some(old) => {
                let mut new = Self {
                    app_id: old.app_id.max(app_id),
                    uin: old.uin.max(uin),
                    ..old
                };
                // The catalog was restored from an older backup than the other stores.
                if seen > new.app_id {
                    new.uin = new.uin.saturating_add(used(new.app_id));
                    new.app_id = seen;
                    (new.floor_app_id, new.floor_uin) = (new.app_id, new.uin);
                }
                new
            }
        }
    }
}
