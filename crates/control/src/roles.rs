//! The roles of an account.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use access::TemporaryCredentials;
use catalog::Stored;
use model::{AccountId, Field, Function, Role, RoleName};

use crate::{Control, Error, Reason, text};

/// Validity of temporary credentials, in seconds. Source: the maximum session duration of a role in the cloud.
const SESSION_S: RangeInclusive<u64> = 1..=43_200;
/// The default of it.
const SESSION_DEFAULT_S: u64 = 3600;
/// Maximum number of a role's functions in an error message.
const USERS_SHOWN: usize = 5;

impl Control {
    /// Finds a role of an account by name.
    ///
    /// # Errors
    /// The name is not allowed, or the account has no such role.
    pub fn role(&self, account: AccountId, name: &str) -> Result<Arc<Stored<Role>>, Error> {
        let name = RoleName::parse(name)?;
        self.catalog.role(account, &name).ok_or_else(|| {
            let message = format!(
                "the account has no role {name}; virga role create {name} --policy FILE makes one"
            );
            Error::of(Field::RoleName, Reason::RoleMissing, message)
        })
    }

    /// Creates or replaces a role. Without a description, an existing role keeps its own.
    ///
    /// # Errors
    /// A value is not allowed, or the quota is used up.
    pub async fn put_role(
        &self,
        account: AccountId,
        name: &str,
        policy: &str,
        description: Option<&str>,
    ) -> Result<Role, Error> {
        let name = RoleName::parse(name)?;
        let policy = self.policy(account, policy)?;
        let old = self.catalog.role(account, &name);
        let description = match (description, &old) {
            (None, Some(old)) => old.value.description.clone(),
            (given, _) => text::description(given, &self.limits)?,
        };
        let role = Role {
            account,
            name,
            description,
            policy,
            added: old
                .as_ref()
                .map_or_else(clock::now_ms, |old| old.value.added),
        };
        let put = match &old {
            Some(old) => self.catalog.update_role(old, &role).await,
            None => self.catalog.create_role(&role).await,
        };
        put.map_err(Error::access)?;
        Ok(role)
    }

    /// Deletes a role; one that functions use only if it is forced.
    ///
    /// # Errors
    /// The account has no such role, or functions use it.
    pub async fn delete_role(
        &self,
        account: AccountId,
        name: &str,
        force: bool,
    ) -> Result<(), Error> {
        let role = self.role(account, name)?;
        if !force {
            self.check_unused(account, &role.value.name)?;
        }
        let deleted = self.catalog.delete_role(account, &role.value.name).await;
        deleted.map_err(Error::access)
    }

    /// Issues temporary credentials with the rights of a role, by default for an hour.
    ///
    /// # Errors
    /// The time is not allowed, or the account has no such role.
    pub fn assume_role(
        &self,
        account: AccountId,
        name: &str,
        seconds: Option<u64>,
    ) -> Result<TemporaryCredentials, Error> {
        let seconds = seconds.unwrap_or(SESSION_DEFAULT_S);
        if !SESSION_S.contains(&seconds) {
            let (first, last) = (SESSION_S.start(), SESSION_S.end());
            let message = format!("{seconds} is not allowed; {first} to {last} are");
            return Err(Error::invalid(Field::Session, message));
        }
        let role = self.role(account, name)?;
        let session = Duration::from_secs(seconds);
        let issued = self.access.issue_credentials(&role.value, session);
        issued.map_err(|e| Error::internal(&e))
    }

    /// Checks that no function uses a role: it would lose its permissions with the next request.
    fn check_unused(&self, account: AccountId, name: &RoleName) -> Result<(), Error> {
        let uses = |function: &Function| {
            let mut configs = function.versions.values().map(|version| &version.config);
            let published = configs.any(|config| config.role.as_ref() == Some(name));
            published || function.config.role.as_ref() == Some(name)
        };
        let all = self.catalog.all_functions();
        let own = all.iter().map(|stored| &stored.value);
        let users: Vec<_> = own
            .filter(|function| function.key.account == account && uses(function))
            .map(|function| format!("{}/{}", function.key.namespace, function.key.name))
            .collect();
        if users.is_empty() {
            return Ok(());
        }
        let (count, shown) = (
            users.len(),
            users[..users.len().min(USERS_SHOWN)].join(", "),
        );
        let message = format!(
            "{count} function(s) or versions of them have the role {name}: {shown}; give them another role, or none, first"
        );
        Err(Error::of(Field::RoleName, Reason::RoleInUse, message))
    }
}
