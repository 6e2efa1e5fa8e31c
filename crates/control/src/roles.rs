//! The roles of an account.

use std::sync::Arc;

use catalog::Stored;
use model::{AccountId, Field, Role, RoleName};

use crate::{Control, Error, Reason};

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
}
