//! Accounts: made, shown and deleted by the operator.

use model::{Account, AccountId, AccountName};
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
        let all = gateway.all_accounts();
        let next = |have: &dyn Fn(&Account) -> u64| all.iter().map(have).max().unwrap_or(0) + 1;
        let account = Account {
            id: AccountId(request.app_id.unwrap_or_else(|| next(&|one| one.id.0))),
            uin: request.uin.unwrap_or_else(|| next(&|one| one.uin)),
            name: AccountName::parse(&request.name).map_err(error::invalid)?,
            added: clock::now_ms(),
        };
        let taken = |one: &Account| {
            one.id == account.id || one.uin == account.uin || one.name == account.name
        };
        if let Some(other) = all.iter().find(|one| taken(one)) {
            let message = format!(
                "the account {} has this name, AppId ({}) or Uin ({}) already",
                other.name, other.id, other.uin
            );
            return Err(Error::new(Code::OperationConflict, message));
        }
        gateway
            .catalog
            .create_account(&account)
            .await
            .map_err(error::access)?;
        let key = keys::make(gateway, account.id, String::new(), None).await?;
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
        let deleted = gateway.catalog.delete_account(id).await;
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
