//! What is set aside of the memory that an account's instances may have together, and what is kept ready of it.

use serde::{Deserialize, Serialize};

use crate::{Function, Published, Timestamp};

/// What the catalog keeps of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRecord {
    /// Memory that all of its instances may have together, MB; none where it is what the operator allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_mb: Option<u32>,
}

/// Instances of a version that are started ahead of need, and kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provisioned {
    /// Since when.
    pub set: Timestamp,
    /// How many.
    pub policy: ProvisionedPolicy,
}

/// How many instances are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProvisionedPolicy {
    /// So many, until a scheduled action says otherwise.
    Fixed {
        /// So many.
        instances: u32,
        /// What says otherwise, from its time on.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        actions: Vec<ScheduledAction>,
    },
    /// As many as are used lately, and some.
    Tracking {
        /// What part of them should be in use, in hundredths: 1 to 99.
        percent: u32,
        /// At least this many.
        min: u32,
        /// At most this many.
        max: u32,
    },
}

/// At some times the number of instances that are kept becomes another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledAction {
    /// Its name, unlike that of the version's others.
    pub name: String,
    /// So many are kept from then on.
    pub instances: u32,
    /// At which times: a cron expression.
    pub cron: String,
}

impl Provisioned {
    /// The most instances that are ever kept.
    pub fn most(&self) -> u32 {
        match &self.policy {
            ProvisionedPolicy::Fixed { instances, actions } => {
                let scheduled = actions.iter().map(|action| action.instances);
                scheduled.fold(*instances, u32::max)
            }
            ProvisionedPolicy::Tracking { max, .. } => *max,
        }
    }
}

impl Published {
    /// Memory that its instances have that are kept, at most, MB.
    pub fn provisioned_mb(&self) -> u32 {
        let most = self.provisioned.as_ref().map_or(0, Provisioned::most);
        most.saturating_mul(self.config.memory.mb())
    }
}

impl Function {
    /// Memory of all its instances that are kept, at most, MB.
    pub fn provisioned_mb(&self) -> u32 {
        let versions = self.versions.values().map(Published::provisioned_mb);
        versions.fold(0, u32::saturating_add)
    }

    /// Memory of its account that no other function can be promised, MB.
    pub fn set_aside_mb(&self) -> u32 {
        self.reserved_mb.unwrap_or_else(|| self.provisioned_mb())
    }
}
