//! The point from which a process has no privileges.

use crate::landlock_rules::LandlockRules;
use crate::{Result, Step, sys};

/// Drops all privileges, irrevocably. The caller has emptied the bounding set and installed the filters. Afterwards
/// only what the Landlock rules allow can be read or written. Without a user of its own a process had no privileges to
/// begin with.
pub(crate) fn confine(user: Option<u32>, landlock_rules: LandlockRules) -> Result<()> {
    if let Some(user) = user {
        sys::become_user(user, user).step("change user")?;
    }
    sys::drop_capabilities().step("drop capabilities")?;
    sys::set_dumpable(true).step("restore access to /proc/self")?;
    sys::no_new_privileges().step("no new privileges")?;
    landlock_rules.enforce().step("landlock")
}
