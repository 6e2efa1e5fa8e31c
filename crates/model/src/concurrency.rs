//! Concurrency settings: account quota, reserved concurrency and provisioned concurrency, all measured in memory (MB).

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Concurrency settings of an account, as the catalog stores them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountSettings {
    /// Total memory of the account's instances (MB); none for the operator's limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_mb: Option<u32>,
}

/// Provisioned concurrency of a version: instances started ahead of demand and kept warm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provisioned {
    /// Time of the last change.
    pub set: Timestamp,
    /// Number of instances.
    pub policy: ProvisionedPolicy,
}

/// Scaling policy of provisioned instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProvisionedPolicy {
    /// A fixed number, which scheduled actions may change.
    Fixed {
        /// Number of instances until a scheduled action applies.
        instances: u32,
        /// Scheduled changes of the number.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        actions: Vec<ScheduledAction>,
    },
    /// Target tracking: the number follows recent utilization.
    Tracking {
        /// Target utilization (percent), 1 to 99.
        percent: u32,
        /// Minimum number of instances.
        min: u32,
        /// Maximum number of instances.
        max: u32,
    },
}

/// A schedule that sets the number of provisioned instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledAction {
    /// Name, unique within the version.
    pub name: String,
    /// Number of instances from each scheduled time on.
    pub instances: u32,
    /// Cron expression.
    pub cron: String,
}

impl Provisioned {
    /// Returns the maximum number of instances that the policy can request.
    pub fn max_instances(&self) -> u32 {
        match &self.policy {
            ProvisionedPolicy::Fixed { instances, actions } => {
                let scheduled = actions.iter().map(|action| action.instances);
                scheduled.fold(*instances, u32::max)
            }
            ProvisionedPolicy::Tracking { max, .. } => *max,
        }
    }
}
