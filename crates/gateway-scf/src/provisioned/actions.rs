//! `TriggerActions`: scheduled changes of the number of provisioned instances.

use control::Error;
use control::provisioned::add_action;
use model::{Field, Provisioned, ProvisionedPolicy, ScheduledAction};
use scf::types as t;

use super::super::Gateway;

pub(super) fn read(
    gateway: &Gateway,
    given: &[t::TriggerAction],
) -> Result<Vec<ScheduledAction>, Error> {
    gateway.control.check_scheduled_actions(given.len())?;
    let mut actions = Vec::new();
    for one in given {
        add_action(&mut actions, action(gateway, one)?)?;
    }
    Ok(actions)
}

fn action(gateway: &Gateway, given: &t::TriggerAction) -> Result<ScheduledAction, Error> {
    let action = gateway.control.scheduled_action(
        given.trigger_name.as_deref().unwrap_or_default(),
        given.trigger_provisioned_concurrency_num,
        given.trigger_cron_config.as_deref().unwrap_or_default(),
    )?;
    match given.provisioned_type.as_deref() {
        None | Some("" | "Default") => Ok(action),
        Some(other) => {
            let shown: String = other.chars().take(64).collect();
            let message = format!("{shown:?} is not allowed for one of TriggerActions; Default is");
            Err(Error::invalid(Field::ProvisionedPolicy, message))
        }
    }
}

/// Shows the actions as they were given.
pub(super) fn show(provisioned: &Provisioned) -> Vec<t::TriggerAction> {
    let ProvisionedPolicy::Fixed { actions, .. } = &provisioned.policy else {
        return Vec::new();
    };
    let shown = actions.iter().map(|action| t::TriggerAction {
        trigger_name: Some(action.name.clone()),
        trigger_provisioned_concurrency_num: Some(action.instances.into()),
        trigger_cron_config: Some(action.cron.clone()),
        provisioned_type: Some("Default".into()),
    });
    shown.collect()
}
