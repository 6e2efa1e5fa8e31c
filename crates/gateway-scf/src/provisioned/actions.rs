//! `TriggerActions`: scheduled changes of the number of provisioned instances.

use dispatch::cron::Cron;
use model::{Provisioned, ProvisionedPolicy, ScheduledAction, TriggerName};
use scf::types as t;
use scf::{Code, Error};

use super::super::{Gateway, error};
use super::count;

pub(super) fn read(
    gateway: &Gateway,
    given: &[t::TriggerAction],
) -> Result<Vec<ScheduledAction>, Error> {
    let most = gateway.limits.scheduled_actions_per_version as usize;
    if given.len() > most {
        let message = format!(
            "TriggerActions: {} are not allowed; up to {most} are",
            given.len()
        );
        return Err(Error::new(
            Code::LimitExceededProvisionTriggerAction,
            message,
        ));
    }
    let mut actions: Vec<ScheduledAction> = Vec::new();
    for one in given {
        let action = action(gateway, one)?;
        let twice = |code, field: &str, text: &str| {
            Error::new(code, format!("{field}: {text:?} is there twice"))
        };
        if actions.iter().any(|other| other.name == action.name) {
            let code = Code::ProvisionTriggerNameDuplicate;
            return Err(twice(code, "TriggerName", &action.name));
        }
        if actions.iter().any(|other| other.cron == action.cron) {
            let code = Code::ProvisionTriggerCronConfigDuplicate;
            return Err(twice(code, "TriggerCronConfig", &action.cron));
        }
        actions.push(action);
    }
    Ok(actions)
}

fn action(gateway: &Gateway, given: &t::TriggerAction) -> Result<ScheduledAction, Error> {
    let name = TriggerName::parse(given.trigger_name.as_deref().unwrap_or_default());
    let name =
        name.map_err(|e| Error::new(Code::InvalidProvisionTriggerName, error::rejection(&e)))?;
    let number = given.trigger_provisioned_concurrency_num;
    let instances = number.and_then(count).ok_or_else(|| {
        let shown = number.map_or("nothing".into(), |number| number.to_string());
        let message =
            format!("TriggerProvisionedConcurrencyNum: {shown} is not allowed; 0 and more is");
        Error::new(Code::InvalidTriggerProvisionedNum, message)
    })?;
    let cron = given.trigger_cron_config.as_deref().unwrap_or_default();
    let cron = cron.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    Cron::parse(&cron, gateway.weekday_zero).map_err(|e| {
        let message = format!("TriggerCronConfig: {e}");
        Error::new(Code::InvalidTriggerCronConfig, message)
    })?;
    match given.provisioned_type.as_deref() {
        None | Some("" | "Default") => Ok(ScheduledAction {
            name: name.as_str().to_owned(),
            instances,
            cron,
        }),
        Some(other) => {
            let shown: String = other.chars().take(64).collect();
            let message = format!(
                "ProvisionedType: {shown:?} is not allowed for one of TriggerActions; Default is"
            );
            Err(Error::new(Code::InvalidProvisionType, message))
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
