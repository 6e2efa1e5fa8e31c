//! Accounts: made, shown and deleted by the operator.

use catalog::WantedAccount;
use model::{Account, AccountName};
use scf::types::Empty;
use scf::{Code, Error};

use super::super::error;
use super::{Caller, Gateway, Serve, keys, operators_alone, wire};
use crate::clock;

impl Serve for wire::CreateAccount {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: wire::CreateAccountRequest,
    ) -> Result<wire::CreatedAccount, Error> {
        operators_alone(caller)?;
        let wanted = WantedAccount {
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
                "the account {} has this name, AppId ({}) or Uin ({}) already",
                other.name, other.id, other.uin
            );
            return Err(Error::new(Code::OperationConflict, message));
        }
        let created = gateway.catalog.create_account(wanted).await;
        let account = created.map_err(error::access)?;
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
        operators_alone(caller)?;
        let all = gateway.all_accounts();
        Ok(wire::Accounts {
            accounts: all.iter().map(|one| gateway.show_account(one)).collect(),
        })
    }
}

impl Serve for wire::DescribeAccount {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: wire::OfAccount,
    ) -> Result<wire::AccountInfo, Error> {
        let id = gateway.subject(caller, request.account.as_deref())?;
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
        request: wire::OfAccount,
    ) -> Result<Empty, Error> {
        operators_alone(caller)?;
        let id = gateway.subject(caller, request.account.as_deref())?;
        if id == gateway.access.operator().account.id {
            let message = "Account: the operator's own cannot be deleted";
            return Err(Error::new(Code::InvalidParameterValue, message));
        }
        let catalog = &gateway.catalog;
        if catalog.owned(id).is_something() {
            return Err(error::access(catalog::Error::InUse));
        }
        let now = clock::now_ms();
        let closed = catalog.close_account(id, now).await;
        closed.map_err(error::access)?;
        let deleted = catalog.delete_account(id, now, None).await;
        deleted.map_err(error::access)?;
        Ok(Empty {})
    }
}

impl Gateway {
    /// The operator's own account, and all that were made.
    fn all_accounts(&self) -> Vec<Account> {
        let own = &self.access.operator().account;
        let made = self.catalog.accounts();
        let made = made.iter().map(|stored| &stored.value);
        std::iter::once(own)
            .chain(made.filter(|one| one.id != own.id))
            .cloned()
            .collect()
    }

    /// By name or AppId.
    pub(super) fn find_account(&self, given: &str) -> Option<Account> {
        let is = |one: &Account| one.name.as_str() == given || one.id.to_string() == given;
        self.all_accounts().into_iter().find(is)
    }

    fn show_account(&self, account: &Account) -> wire::AccountInfo {
        let (id, catalog) = (account.id, &self.catalog);
        let others = catalog.namespaces(id);
        let spaces: Vec<_> = others
            .iter()
            .map(|stored| stored.value.name.clone())
            .filter(|name| !name.is_default())
            .chain([model::Namespace::default()])
            .collect();
        let functions = spaces
            .iter()
            .map(|space| catalog.functions(id, space).len());
        let layers = catalog.layers(id);
        let used = layers.iter().filter(|one| !one.value.versions.is_empty());
        let first = id == self.access.operator().account.id;
        wire::AccountInfo {
            name: account.name.to_string(),
            app_id: id.0,
            uin: account.uin.to_string(),
            region: self.region.clone(),
            namespaces: spaces.len() as u64,
            functions: functions.sum::<usize>() as u64,
            layers: used.count() as u64,
            keys: catalog.keys(id).len() as u64 + u64::from(first),
            roles: catalog.roles(id).len() as u64,
            added: if account.added == 0 {
                String::new()
            } else {
                clock::format(account.added)
            },
        }
    }
}
