//! The ids of accounts. None is ever given twice.
//!
//! Data of an account outlives its entry in many places: in backups, logs and other people's policies. So an id that was given
//! once stays taken.
//!
//! Keys: `issued/<account>`, one for each id that was ever given, and `ids/0`, the counters. Both are on stable storage before
//! the account that they are of exists: a crash in between wastes an id and never repeats one.

use model::{Account, AccountId, AccountName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::kv::Precondition;
use crate::table::{Catalog, Error};

/// Largest AppId and Uin: 15 digits, which every JSON reader keeps.
pub const ID_MAX: u64 = 999_999_999_999_999;
/// How many ids at most are skipped in a catalog that was written before there were counters.
const SKIPPED_MAX: u64 = 10_000;

/// An id that was given, and to whom. It stays when the account is deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Issued {
    /// The AppId.
    pub id: AccountId,
    /// The Uin.
    pub uin: u64,
    /// The account's name then.
    pub name: String,
    /// When it was given.
    pub at: Timestamp,
    /// When the account was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Timestamp>,
    /// What the account had used when it was deleted: the record for its last invoice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
}

/// What a deleted account had used, as far as the ledger reached back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Used {
    /// Invocations.
    pub invocations: u64,
    /// Memory times time, GB-seconds.
    pub gb_seconds: f64,
    /// Bytes that were answered.
    pub out_bytes: u64,
}

/// The counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// The highest AppId that was given or seen.
    app_id: u64,
    uin: u64,
    /// Up to these nobody knows which were given: data of before there were counters.
    floor_app_id: u64,
    floor_uin: u64,
}

/// The account that is wanted.
#[derive(Clone, Debug)]
pub struct WantedAccount {
    /// Its AppId; the next one where it is left out.
    pub id: Option<u64>,
    /// Its Uin; the next one where it is left out.
    pub uin: Option<u64>,
    /// Its name.
    pub name: AccountName,
    /// When it is created.
    pub added: Timestamp,
}

impl Counters {
    /// The counters above everything that was ever seen. `old` are those on disk, `accounts` the highest AppId and Uin of the
    /// accounts that there are, `seen` the highest AppId that any data is of, and `writes` how often a catalog without counters
    /// was written: there were no more accounts than that.
    fn learned(old: Option<Self>, accounts: (u64, u64), seen: u64, writes: u64) -> Self {
        let (app_id, uin) = accounts;
        // AppIds and Uins are given in step, so as many Uins are gone as AppIds.
        let gone = |known: u64| seen.saturating_sub(known).min(SKIPPED_MAX);
        match old {
            None if writes == 0 && seen == 0 => Self {
                app_id,
                uin,
                ..Self::default()
            },
            None => {
                let skipped = writes.min(SKIPPED_MAX);
                let app = app_id.max(seen).saturating_add(skipped);
                let uin = uin.saturating_add(gone(app_id)).saturating_add(skipped);
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
                // As where the catalog is an older backup than the other stores.
                if seen > new.app_id {
                    new.uin = new.uin.saturating_add(gone(new.app_id));
                    new.app_id = seen;
                    (new.floor_app_id, new.floor_uin) = (new.app_id, new.uin);
                }
                new
            }
        }
    }
}

impl Catalog {
    /// Raises the counters above every id that was ever seen: the operator's own, those of the catalog, and `stored`, the
    /// highest AppId that another store has data of. To be called before accounts are created.
    ///
    /// # Errors
    /// [`Error::IdUsed`] when the operator's id was another account's; or the store's.
    pub async fn learn_ids(&self, own: &Account, stored: u64) -> Result<(), Error> {
        let _counting = self.counting().await;
        let others = self.accounts();
        let others = others.iter().map(|stored| &stored.value);
        let accounts: Vec<_> = others
            .filter(|one| one.id != own.id)
            .chain([own])
            .cloned()
            .collect();
        let highest = accounts.iter().fold((0, 0), |(id, uin), one| {
            (one.id.0.max(id), one.uin.max(uin))
        });
        let seen = self.read(|view| view.owners().max());
        let seen = seen.map_or(0, |id| id.0).max(stored);
        let old = self.counters();
        let mut new = Counters::learned(old, highest, seen, SKIPPED_MAX);
        if old.is_none() {
            // The number of this write tells how many there were before.
            let revision = self.put_counters(&new).await?;
            new = Counters::learned(old, highest, seen, revision - 1);
        }
        if Some(new) != self.counters() {
            self.put_counters(&new).await?;
        }
        for account in &accounts {
            match self.issued(account.id) {
                Some(issued) if issued.deleted.is_some() && account.id == own.id => {
                    return Err(Error::IdUsed {
                        field: "AppId",
                        id: account.id.0,
                    });
                }
                Some(_) => {}
                None => self.issue(account).await?,
            }
        }
        Ok(())
    }

    /// To whom an id was given, if it was.
    pub fn issued(&self, id: AccountId) -> Option<Issued> {
        self.read(|view| view.issued.get(&id).map(|stored| stored.value.clone()))
    }

    /// All ids that were given, those of deleted accounts included.
    pub fn all_issued(&self) -> Vec<Issued> {
        self.read(|view| {
            view.issued
                .values()
                .map(|stored| stored.value.clone())
                .collect()
        })
    }

    /// Gives ids to an account that is about to be created. Whoever calls this holds `counting`.
    pub(crate) async fn give_ids(&self, wanted: WantedAccount) -> Result<Account, Error> {
        let mut counters = self.counters().unwrap_or_default();
        let next = |counter: u64, given: Option<u64>, field| match given {
            Some(id) if (1..=ID_MAX).contains(&id) => Ok(id),
            None if counter < ID_MAX => Ok(counter + 1),
            given => Err(Error::NoId { field, given }),
        };
        let account = Account {
            id: AccountId(next(counters.app_id, wanted.id, "AppId")?),
            uin: next(counters.uin, wanted.uin, "Uin")?,
            name: wanted.name,
            added: wanted.added,
            closed: None,
        };
        let all = self.all_issued();
        let used = |field, id, floor, taken: bool| match taken || id <= floor {
            true => Err(Error::IdUsed { field, id }),
            false => Ok(()),
        };
        let (id, uin) = (account.id.0, account.uin);
        let taken = all.iter().any(|one| one.id.0 == id);
        used("AppId", id, counters.floor_app_id, taken)?;
        let taken = all.iter().any(|one| one.uin == uin);
        used("Uin", uin, counters.floor_uin, taken)?;
        counters.app_id = counters.app_id.max(id);
        counters.uin = counters.uin.max(uin);
        self.put_counters(&counters).await?;
        self.issue(&account).await?;
        Ok(account)
    }

    /// Notes that an account is gone for good. Its ids stay given.
    pub(crate) async fn note_deleted(&self, id: AccountId, at: Timestamp) -> Result<(), Error> {
        let Some(mut issued) = self.issued(id) else {
            return Ok(());
        };
        issued.deleted = Some(at);
        self.put(&issued_key(id), &issued, Precondition::Any).await
    }

    /// Keeps what an account had used, which is about to be deleted.
    ///
    /// # Errors
    /// The store's.
    pub async fn note_used(&self, id: AccountId, used: Used) -> Result<(), Error> {
        let Some(mut issued) = self.issued(id) else {
            return Ok(());
        };
        issued.used = Some(used);
        self.put(&issued_key(id), &issued, Precondition::Any).await
    }

    async fn issue(&self, account: &Account) -> Result<(), Error> {
        let issued = Issued {
            id: account.id,
            uin: account.uin,
            name: account.name.to_string(),
            at: account.added,
            deleted: None,
            used: None,
        };
        self.put(&issued_key(account.id), &issued, Precondition::Absent)
            .await
    }

    fn counters(&self) -> Option<Counters> {
        self.read(|view| view.counters)
    }

    async fn put_counters(&self, counters: &Counters) -> Result<u64, Error> {
        self.put_numbered(COUNTERS, counters, Precondition::Any)
            .await
    }
}

const COUNTERS: &str = "ids/0";

fn issued_key(id: AccountId) -> String {
    format!("issued/{id}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kv::MemoryKv;

    const OWN: (u64, u64) = (1_250_000_000, 100_000_000_001);

    fn own() -> Account {
        account(OWN, "operator")
    }

    fn account((id, uin): (u64, u64), name: &str) -> Account {
        Account {
            id: AccountId(id),
            uin,
            name: AccountName::parse(name).expect("a name"),
            added: 0,
            closed: None,
        }
    }

    fn wanted(name: &str, id: Option<u64>, uin: Option<u64>) -> WantedAccount {
        WantedAccount {
            id,
            uin,
            name: AccountName::parse(name).expect("a name"),
            added: 0,
        }
    }

    #[test]
    fn counters_start_above_everything_that_was_seen() {
        let ids = |counters: Counters| (counters.app_id, counters.uin, counters.floor_app_id);
        let fresh = Counters::learned(None, OWN, 0, 0);
        assert_eq!(ids(fresh), (OWN.0, OWN.1, 0));
        // An older catalog: three accounts more than the operator's are in its data, and it was written seven times.
        let older = Counters::learned(None, OWN, OWN.0 + 3, 7);
        assert_eq!(ids(older), (OWN.0 + 10, OWN.1 + 10, OWN.0 + 10));
        // Nothing is left of an account in an older catalog but the number of its writes.
        let traceless = Counters::learned(None, OWN, 0, 5);
        assert_eq!(ids(traceless), (OWN.0 + 5, OWN.1 + 5, OWN.0 + 5));
        // The catalog is an older backup than the logs.
        let restored = Counters::learned(Some(fresh), OWN, OWN.0 + 2, 0);
        assert_eq!(ids(restored), (OWN.0 + 2, OWN.1 + 2, OWN.0 + 2));
        // Ids that no one can have had do not exhaust the counters.
        let strange = Counters::learned(Some(fresh), OWN, 0, u64::MAX);
        assert_eq!(strange, fresh);
    }

    #[tokio::test]
    async fn no_id_is_given_twice() {
        let kv = Arc::new(MemoryKv::default());
        let catalog = Catalog::open(kv.clone()).await.expect("a catalog");
        catalog.learn_ids(&own(), 0).await.expect("learned");
        let first = catalog.create_account(wanted("first", None, None)).await;
        let first = first.expect("an account");
        assert_eq!((first.id.0, first.uin), (OWN.0 + 1, OWN.1 + 1));
        // Lower ones that were never given may be named.
        let low = catalog
            .create_account(wanted("low", Some(7), Some(9)))
            .await;
        assert_eq!(low.expect("an account").id, AccountId(7));
        for id in [first.id, AccountId(7)] {
            catalog.close_account(id, 1).await.expect("closed");
            catalog.delete_account(id, 1).await.expect("deleted");
        }
        for (id, uin) in [
            (Some(first.id.0), None),
            (None, Some(first.uin)),
            (Some(7), None),
            (None, Some(9)),
            (Some(OWN.0), None),
        ] {
            let again = catalog.create_account(wanted("again", id, uin)).await;
            assert!(
                matches!(again, Err(Error::IdUsed { .. })),
                "{id:?} {uin:?}: {again:?}"
            );
        }
        for id in [0, ID_MAX + 1, u64::MAX] {
            let outside = catalog
                .create_account(wanted("outside", Some(id), None))
                .await;
            assert!(matches!(outside, Err(Error::NoId { .. })), "{id}");
        }
        drop(catalog);
        let catalog = Catalog::open(kv).await.expect("a catalog");
        catalog.learn_ids(&own(), 0).await.expect("learned");
        let next = catalog.create_account(wanted("next", None, None)).await;
        assert_eq!(next.expect("an account").id.0, OWN.0 + 2);
        // The operator cannot move into what was a tenant's either.
        let moved = account((7, OWN.1), "operator");
        let moved = catalog.learn_ids(&moved, 0).await;
        assert!(matches!(moved, Err(Error::IdUsed { .. })), "{moved:?}");
    }

    #[tokio::test]
    async fn an_older_catalogs_deleted_account_is_not_followed_by_another_of_its_id() {
        let kv = Arc::new(MemoryKv::default());
        let catalog = Catalog::open(kv.clone()).await.expect("a catalog");
        // As before there were counters: the entry alone comes and goes.
        let old = account((OWN.0 + 1, OWN.1 + 1), "old");
        let key = "tenant/1250000001";
        catalog
            .put(key, &old, Precondition::Absent)
            .await
            .expect("written");
        catalog
            .delete(key, Precondition::Any)
            .await
            .expect("deleted");
        drop(catalog);
        let catalog = Catalog::open(kv).await.expect("a catalog");
        catalog.learn_ids(&own(), 0).await.expect("learned");
        let next = catalog.create_account(wanted("next", None, None)).await;
        let next = next.expect("an account");
        assert!(next.id > old.id && next.uin > old.uin, "{next:?}");
        let again = catalog
            .create_account(wanted("again", Some(old.id.0), None))
            .await;
        assert!(matches!(again, Err(Error::IdUsed { .. })), "{again:?}");
    }
}
