//! The operator's actions on accounts.

use catalog::IssuedIds;
use control::accounts::{AccountSettings, Deletion, check_operator};
use model::Account;
use scf::Error;
use scf::types::Empty;

use super::super::error;
use super::{Caller, Gateway, Serve, identity, keys, wire};

impl Serve for wire::CreateAccount {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: wire::CreateAccountRequest,
    ) -> Result<wire::CreatedAccount, Error> {
        let settings = AccountSettings {
            name: &request.name,
            id: request.app_id,
            uin: request.uin,
        };
        let created = gateway.control.create_account(identity(caller), settings);
        let (account, key) = created.await.map_err(error::control)?;
        Ok(wire::CreatedAccount {
            account: gateway.show_account(&account),
            key: keys::new_key(key),
        })
    }
}

impl Serve for wire::ListAccounts {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        _: Empty,
    ) -> Result<wire::Accounts, Error> {
        check_operator(identity(caller)).map_err(error::control)?;
        let all = gateway.control.accounts();
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
        let control = &gateway.control;
        let account = control.account(identity(caller), request.account.as_deref());
        Ok(gateway.show_account(&account.map_err(error::control)?))
    }
}

impl Serve for wire::DeleteAccount {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: wire::DeleteAccountRequest,
    ) -> Result<wire::Deletion, Error> {
        let (control, given) = (&gateway.control, request.account.as_deref());
        let deleted = control.delete_account(identity(caller), given, request.purge);
        let Deletion {
            account,
            had,
            is_complete,
        } = deleted.await.map_err(error::control)?;
        Ok(wire::Deletion {
            account: account.name.to_string(),
            app_id: account.id.0,
            state: if is_complete { "Deleted" } else { DELETING }.into(),
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

const ACTIVE: &str = "Active";
const DELETING: &str = "Deleting";

impl Gateway {
    fn show_account(&self, account: &Account) -> wire::AccountInfo {
        let id = account.id;
        let owned = self.catalog.owned(id);
        let deleting = account.closed.map(|_| {
            let progress = self.control.purge.progress(id).unwrap_or_default();
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
