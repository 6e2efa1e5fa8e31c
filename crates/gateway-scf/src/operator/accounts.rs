//! The operator's actions on accounts.

use std::time::Duration;

use catalog::{IssuedIds, NewAccount};
use model::{Account, AccountName};
use scf::types::Empty;
use scf::{Code, Error};

use super::super::error;
use super::{Caller, Gateway, Serve, keys, require_operator, wire};

impl Serve for wire::CreateAccount {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: wire::CreateAccountRequest,
    ) -> Result<wire::CreatedAccount, Error> {
        require_operator(caller)?;
        let wanted = NewAccount {
            id: request.app_id,
            uin: request.uin,
            name: AccountName::parse(&request.name).map_err(error::invalid)?,
            added: clock::now_ms(),
        };
        let all = gateway.all_accounts();
        let taken = |one: &Account| {
            let (id, uin) = (one.id.0, one.uin);
            wanted.id == Some(id) || wanted.uin == Some(uin) || one.name == wanted.name
        };
        if let Some(other) = all.iter().find(|one| taken(one)) {
            let message = format!(
                "the account {} already has this name, AppId ({}) or Uin ({}); choose others",
                other.name, other.id, other.uin
            );
            return Err(Error::new(Code::OperationConflict, message));
        }
        let created = gateway.catalog.create_account(wanted).await;
        let account = created.map_err(error::access)?;
        gateway.update_account_count();
        let key = keys::make(gateway, account.id, String::new(), None, false).await?;
        Ok(wire::CreatedAccount {
            account: gateway.show_account(&account),
            key,
        })
    }
}

impl Serve for wire::ListAccounts {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        _: Empty,
    ) -> Result<wire::Accounts, Error> {
        require_operator(caller)?;
        let all = gateway.all_accounts();
        let gone = gateway.catalog.all_issued().into_iter();
        Ok(wire::Accounts {
            accounts: all.iter().map(|one| gateway.show_account(one)).collect(),
            deleted: gone.filter_map(show_deleted).collect(),
        })
    }
}

impl Serve for wire::DescribeAccount {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: wire::AccountRequest,
    ) -> Result<wire::AccountInfo, Error> {
        let id = gateway.target_account(caller, request.account.as_deref())?;
        let all = gateway.all_accounts();
        let account = all.iter().find(|one| one.id == id);
        let account = account.ok_or_else(|| error::internal(&"the account is gone"))?;
        Ok(gateway.show_account(account))
    }
}

impl Serve for wire::DeleteAccount {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: wire::DeleteAccountRequest,
    ) -> Result<wire::Deletion, Error> {
        require_operator(caller)?;
        let id = gateway.target_account(caller, request.account.as_deref())?;
        let own = gateway.access.operator().account.id;
        let account = gateway.all_accounts().into_iter().find(|one| one.id == id);
        let Some(account) = account.filter(|_| id != own) else {
            let message = "Account: the operator's account cannot be deleted";
            return Err(Error::new(Code::InvalidParameterValue, message));
        };
        let purge = &gateway.purge;
        let had = purge.inventory(id).await.map_err(|e| error::internal(&e))?;
        let clean = had.is_empty() && account.closed.is_none();
        if !(request.purge || clean) {
            let name = &account.name;
            let message = match account.closed {
                Some(_) => {
                    format!(
                        "the account {name} is already being deleted; repeat with Purge to wait for completion"
                    )
                }
                None => format!(
                    "the account {name} still has {had}; delete them first, or set Purge to delete them with the account: \
                     virga account delete {name} --purge"
                ),
            };
            return Err(Error::new(Code::FailedOperation, message));
        }
        purge.begin(id).await.map_err(|e| error::internal(&e))?;
        purge.wait(id, DELETION_WAIT).await;
        gateway.update_account_count();
        let state = match gateway.catalog.account(id) {
            Some(_) => DELETING,
            None => "Deleted",
        };
        Ok(wire::Deletion {
            account: account.name.to_string(),
            app_id: id.0,
            state: state.into(),
            had: had
                .0
                .into_iter()
                .map(|(kind, count)| wire::Belonging {
                    kind: kind.into(),
                    count,
                })
                .collect(),
        })
    }
}

/// How long a deletion request waits for completion before it returns the state `Deleting`.
const DELETION_WAIT: Duration = Duration::from_secs(1);
const ACTIVE: &str = "Active";
const DELETING: &str = "Deleting";

impl Gateway {
    /// Updates the number of accounts, which determines the node's memory headroom.
    fn update_account_count(&self) {
        let open = |one: &Account| one.closed.is_none();
        self.driver
            .accounts(|| self.all_accounts().iter().filter(|one| open(one)).count());
    }

    /// Returns the operator's account and all others.
    fn all_accounts(&self) -> Vec<Account> {
        let own = &self.access.operator().account;
        let made = self.catalog.accounts();
        let made = made.iter().map(|stored| &stored.value);
        std::iter::once(own)
            .chain(made.filter(|one| one.id != own.id))
            .cloned()
            .collect()
    }

    /// Finds an account by name or AppId.
    pub(super) fn find_account(&self, given: &str) -> Option<Account> {
        let is = |one: &Account| one.name.as_str() == given || one.id.to_string() == given;
        self.all_accounts().into_iter().find(is)
    }

    fn show_account(&self, account: &Account) -> wire::AccountInfo {
        let id = account.id;
        let owned = self.catalog.owned(id);
        let deleting = account.closed.map(|_| {
            let progress = self.purge.progress(id).unwrap_or_default();
            wire::Deleting {
                step: progress.step.into(),
                removed: progress.removed,
                trouble: progress.last_error,
            }
        });
        let first = id == self.access.operator().account.id;
        wire::AccountInfo {
            name: account.name.to_string(),
            app_id: id.0,
            uin: account.uin.to_string(),
            region: self.region.clone(),
            // Plus `default`, which always exists.
            namespaces: owned.other_namespaces().count() as u64 + 1,
            functions: owned.functions.len() as u64,
            layers: owned.published_layers().count() as u64,
            keys: owned.keys.len() as u64 + u64::from(first),
            roles: owned.roles.len() as u64,
            state: if deleting.is_some() { DELETING } else { ACTIVE }.into(),
            deleting,
            added: if account.added == 0 {
                String::new()
            } else {
                clock::format(account.added)
            },
        }
    }
}

fn show_deleted(issued: IssuedIds) -> Option<wire::DeletedAccount> {
    let used = issued.used.unwrap_or_default();
    Some(wire::DeletedAccount {
        deleted: clock::format(issued.deleted?),
        name: issued.name,
        app_id: issued.id.0,
        uin: issued.uin.to_string(),
        added: clock::format(issued.at),
        invocations: used.invocations,
        gb_seconds: used.gb_seconds,
        out_bytes: used.out_bytes,
    })
}
