//! Accounts: their creation and deletion, which only the operator may ask for.

use std::time::Duration;

use catalog::NewAccount;
use model::{Account, AccountId, AccountName, Field};
use purge::AccountInventory;

use crate::identity::Identity;
use crate::keys::NewKey;
use crate::{Control, Error, Reason};

/// The settings of a new account.
#[derive(Clone, Copy, Debug)]
pub struct AccountSettings<'a> {
    /// Name.
    pub name: &'a str,
    /// The AppId; the next free one by default.
    pub id: Option<u64>,
    /// The Uin; the next free one by default.
    pub uin: Option<u64>,
}

/// A deletion that has begun.
#[derive(Debug)]
pub struct Deletion {
    /// The account.
    pub account: Account,
    /// What it owned when the deletion began.
    pub had: AccountInventory,
    /// Whether everything is deleted.
    pub is_complete: bool,
}

/// How long a deletion waits for its completion before it returns.
const DELETION_WAIT: Duration = Duration::from_secs(1);

impl Control {
    /// Creates an account and its first key, which has all rights in the account.
    ///
    /// # Errors
    /// The caller is not the operator, a value is not allowed or is taken, or the quota is used up.
    pub async fn create_account(
        &self,
        identity: Identity,
        settings: AccountSettings<'_>,
    ) -> Result<(Account, NewKey), Error> {
        check_operator(identity)?;
        let wanted = NewAccount {
            id: settings.id,
            uin: settings.uin,
            name: AccountName::parse(settings.name)?,
            added: clock::now_ms(),
        };
        let all = self.accounts();
        let taken = |one: &Account| {
            let (id, uin) = (one.id.0, one.uin);
            wanted.id == Some(id) || wanted.uin == Some(uin) || one.name == wanted.name
        };
        if let Some(other) = all.iter().find(|one| taken(one)) {
            let message = format!(
                "the account {} already has this name, AppId ({}) or Uin ({}); choose others",
                other.name, other.id, other.uin
            );
            return Err(Error::new(Reason::Conflict, message));
        }
        let created = self.catalog.create_account(wanted).await;
        let account = created.map_err(Error::access)?;
        self.update_account_count();
        let key = self
            .make_key(account.id, String::new(), None, false)
            .await?;
        Ok((account, key))
    }

    /// Deletes an account; with `purge`, together with everything that it owns.
    ///
    /// # Errors
    /// The caller is not the operator, the account does not exist, is the operator's own, or still owns something.
    pub async fn delete_account(
        &self,
        identity: Identity,
        given: Option<&str>,
        purge: bool,
    ) -> Result<Deletion, Error> {
        check_operator(identity)?;
        let id = self.target_account(identity, given)?;
        let own = self.access.operator().account.id;
        let account = self.accounts().into_iter().find(|one| one.id == id);
        let Some(account) = account.filter(|_| id != own) else {
            let message = "the operator's account cannot be deleted";
            return Err(Error::invalid(Field::Account, message));
        };
        let had = self
            .purge
            .inventory(id)
            .await
            .map_err(|e| Error::internal(&e))?;
        let clean = had.is_empty() && account.closed.is_none();
        if !(purge || clean) {
            let name = &account.name;
            let message = match account.closed {
                Some(_) => format!(
                    "the account {name} is already being deleted; repeat with Purge to wait for completion"
                ),
                None => format!(
                    "the account {name} still has {had}; delete them first, or set Purge to delete them with the account: \
                     virga account delete {name} --purge"
                ),
            };
            return Err(Error::new(Reason::Account, message));
        }
        self.purge
            .begin(id)
            .await
            .map_err(|e| Error::internal(&e))?;
        self.purge.wait(id, DELETION_WAIT).await;
        self.update_account_count();
        Ok(Deletion {
            account,
            had,
            is_complete: self.catalog.account(id).is_none(),
        })
    }

    /// Returns an account of [`target_account`](Self::target_account).
    ///
    /// # Errors
    /// As there.
    pub fn account(&self, identity: Identity, given: Option<&str>) -> Result<Account, Error> {
        let id = self.target_account(identity, given)?;
        let account = self.accounts().into_iter().find(|one| one.id == id);
        account.ok_or_else(|| Error::internal(&"the account is gone"))
    }

    /// Returns the account that an operation is about: the caller's own, or any for the operator.
    ///
    /// # Errors
    /// There is no such account, or the caller may not know.
    pub fn target_account(
        &self,
        identity: Identity,
        given: Option<&str>,
    ) -> Result<AccountId, Error> {
        let Some(given) = given.filter(|text| !text.is_empty()) else {
            return Ok(identity.account);
        };
        let is = |one: &Account| one.name.as_str() == given || one.id.to_string() == given;
        let found = self.accounts().into_iter().find(is);
        match found.map(|account| account.id) {
            Some(id) if id == identity.account || identity.operator => Ok(id),
            // Other callers must not learn whether the account exists.
            _ => {
                let shown: String = given.chars().take(60).collect();
                let message = format!("no account has the name or AppId {shown:?}");
                Err(Error::invalid(Field::Account, message))
            }
        }
    }

    /// Returns the operator's account and all others.
    pub fn accounts(&self) -> Vec<Account> {
        let own = &self.access.operator().account;
        let made = self.catalog.accounts();
        let made = made.iter().map(|stored| &stored.value);
        std::iter::once(own)
            .chain(made.filter(|one| one.id != own.id))
            .cloned()
            .collect()
    }

    /// Updates the number of accounts, which determines the node's memory headroom.
    fn update_account_count(&self) {
        let open = |one: &Account| one.closed.is_none();
        self.driver
            .accounts(|| self.accounts().iter().filter(|one| open(one)).count());
    }
}

/// Checks that the caller may manage accounts.
///
/// # Errors
/// It may not.
pub fn check_operator(identity: Identity) -> Result<(), Error> {
    if identity.operator {
        return Ok(());
    }
    let message = "only the operator may manage accounts; use the key in credentials.json in the data directory";
    Err(Error::new(Reason::OperatorOnly, message))
}
