//! Allocation of account ids. No id is ever issued twice.
//!
//! References to an account outlive it: in backups, in logs and in policies of other accounts. An issued id is therefore
//! never reused.
//!
//! Keys: `issued/<account>`, one tombstone per issued id, and `ids/0`, the counters. Both are durable before the account is
//! created: a crash in between wastes an id but never reuses one.

use model::{Account, AccountId, Timestamp};

use crate::error::Error;
use crate::issued::{Counters, FinalUsage, ID_MAX, IssuedIds, NewAccount, SKIPPED_MAX};
use crate::kv::Precondition;
use crate::table::Catalog;

impl Catalog {
    /// Raises the counters above every id that was ever observed: the operator's own, those in the catalog, and `stored`, the
    /// highest AppId in any other store. Must be called before accounts are created.
    ///
    /// # Errors
    /// [`Error::IdUsed`] if the operator's id belonged to another account; or an error of the store.
    pub async fn reconcile_id_counters(&self, own: &Account, stored: u64) -> Result<(), Error> {
        let _admission = self.admission().await;
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
        let mut new = Counters::reconciled(old, highest, seen, SKIPPED_MAX);
        if old.is_none() {
            // The revision of this write is one more than the number of earlier writes.
            let revision = self.put_counters(&new).await?;
            new = Counters::reconciled(old, highest, seen, revision - 1);
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

    /// Finds the record of an issued id.
    pub fn issued(&self, id: AccountId) -> Option<IssuedIds> {
        self.read(|view| view.issued.get(&id).map(|stored| stored.value.clone()))
    }

    /// Returns all issued ids, including those of deleted accounts.
    pub fn all_issued(&self) -> Vec<IssuedIds> {
        self.read(|view| {
            view.issued
                .values()
                .map(|stored| stored.value.clone())
                .collect()
        })
    }

    /// Allocates ids for an account that is about to be created. The caller must hold the admission lock.
    pub(crate) async fn allocate_ids(&self, new: NewAccount) -> Result<Account, Error> {
        let mut counters = self.counters().unwrap_or_default();
        let next = |counter: u64, given: Option<u64>, field| match given {
            Some(id) if (1..=ID_MAX).contains(&id) => Ok(id),
            None if counter < ID_MAX => Ok(counter + 1),
            given => Err(Error::InvalidId { field, given }),
        };
        let account = Account {
            id: AccountId(next(counters.app_id, new.id, "AppId")?),
            uin: next(counters.uin, new.uin, "Uin")?,
            name: new.name,
            added: new.added,
            closed: None,
        };
        let all = self.all_issued();
        let check_unused = |field, id, floor, issued: bool| match issued || id <= floor {
            true => Err(Error::IdUsed { field, id }),
            false => Ok(()),
        };
        let (id, uin) = (account.id.0, account.uin);
        let issued = all.iter().any(|one| one.id.0 == id);
        check_unused("AppId", id, counters.floor_app_id, issued)?;
        let issued = all.iter().any(|one| one.uin == uin);
        check_unused("Uin", uin, counters.floor_uin, issued)?;
        counters.app_id = counters.app_id.max(id);
        counters.uin = counters.uin.max(uin);
        self.put_counters(&counters).await?;
        self.issue(&account).await?;
        Ok(account)
    }

    /// Records that an account was deleted. Its ids stay reserved.
    pub(crate) async fn record_deletion(&self, id: AccountId, at: Timestamp) -> Result<(), Error> {
        let Some(mut issued) = self.issued(id) else {
            return Ok(());
        };
        issued.deleted = Some(at);
        self.put(&issued_key(id), &issued, Precondition::Any).await
    }

    /// Records the final usage of an account that is about to be deleted.
    ///
    /// # Errors
    /// An error of the store.
    pub async fn record_final_usage(&self, id: AccountId, used: FinalUsage) -> Result<(), Error> {
        let Some(mut issued) = self.issued(id) else {
            return Ok(());
        };
        issued.used = Some(used);
        self.put(&issued_key(id), &issued, Precondition::Any).await
    }

    async fn issue(&self, account: &Account) -> Result<(), Error> {
        let issued = IssuedIds {
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
        self.put_unchecked(COUNTERS, counters, Precondition::Any)
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

    use model::AccountName;

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

    fn new(name: &str, id: Option<u64>, uin: Option<u64>) -> NewAccount {
        NewAccount {
            id,
            uin,
            name: AccountName::parse(name).expect("a name"),
            added: 0,
        }
    }

    #[test]
    fn id_counters_start_above_every_observed_id() {
        let ids = |counters: Counters| (counters.app_id, counters.uin, counters.floor_app_id);
        let fresh = Counters::reconciled(None, OWN, 0, 0);
        assert_eq!(ids(fresh), (OWN.0, OWN.1, 0));
        // An older catalog without counters: its data refers to three more accounts, and it has had seven writes.
        let older = Counters::reconciled(None, OWN, OWN.0 + 3, 7);
        assert_eq!(ids(older), (OWN.0 + 10, OWN.1 + 10, OWN.0 + 10));
        // A deleted account in an older catalog left no trace but the number of writes.
        let traceless = Counters::reconciled(None, OWN, 0, 5);
        assert_eq!(ids(traceless), (OWN.0 + 5, OWN.1 + 5, OWN.0 + 5));
        // The catalog was restored from an older backup than the logs.
        let restored = Counters::reconciled(Some(fresh), OWN, OWN.0 + 2, 0);
        assert_eq!(ids(restored), (OWN.0 + 2, OWN.1 + 2, OWN.0 + 2));
        // An impossible id does not exhaust the counters.
        let strange = Counters::reconciled(Some(fresh), OWN, 0, u64::MAX);
        assert_eq!(strange, fresh);
    }

    #[tokio::test]
    async fn account_ids_are_never_reused() {
        let kv = Arc::new(MemoryKv::default());
        let catalog = Catalog::open(kv.clone()).await.expect("a catalog");
        catalog
            .reconcile_id_counters(&own(), 0)
            .await
            .expect("reconciled");
        let first = catalog.create_account(new("first", None, None)).await;
        let first = first.expect("an account");
        assert_eq!((first.id.0, first.uin), (OWN.0 + 1, OWN.1 + 1));
        // A lower id that was never issued can be requested.
        let low = catalog.create_account(new("low", Some(7), Some(9))).await;
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
            let again = catalog.create_account(new("again", id, uin)).await;
            assert!(
                matches!(again, Err(Error::IdUsed { .. })),
                "{id:?} {uin:?}: {again:?}"
            );
        }
        for id in [0, ID_MAX + 1, u64::MAX] {
            let outside = catalog.create_account(new("outside", Some(id), None)).await;
            assert!(matches!(outside, Err(Error::InvalidId { .. })), "{id}");
        }
        drop(catalog);
        let catalog = Catalog::open(kv).await.expect("a catalog");
        catalog
            .reconcile_id_counters(&own(), 0)
            .await
            .expect("reconciled");
        let next = catalog.create_account(new("next", None, None)).await;
        assert_eq!(next.expect("an account").id.0, OWN.0 + 2);
        // The operator cannot take over a former tenant's id either.
        let moved = account((7, OWN.1), "operator");
        let moved = catalog.reconcile_id_counters(&moved, 0).await;
        assert!(matches!(moved, Err(Error::IdUsed { .. })), "{moved:?}");
    }

    #[tokio::test]
    async fn id_of_an_account_deleted_before_counters_existed_is_not_reused() {
        let kv = Arc::new(MemoryKv::default());
        let catalog = Catalog::open(kv.clone()).await.expect("a catalog");
        // As an older version did: without counters or tombstone.
        let old = account((OWN.0 + 1, OWN.1 + 1), "old");
        let key = "account/1250000001";
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
        catalog
            .reconcile_id_counters(&own(), 0)
            .await
            .expect("reconciled");
        let next = catalog.create_account(new("next", None, None)).await;
        let next = next.expect("an account");
        assert!(next.id > old.id && next.uin > old.uin, "{next:?}");
        let again = catalog
            .create_account(new("again", Some(old.id.0), None))
            .await;
        assert!(matches!(again, Err(Error::IdUsed { .. })), "{again:?}");
    }
}
