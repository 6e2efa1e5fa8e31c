//! Triggers in API responses.

use model::{Function, FunctionKey, Trigger};
use scf::types as t;
use serde_json::Value;

use super::super::Gateway;
use super::kinds::described;

/// Returns the triggers for `GetFunction`: those of one qualifier, or all.
pub(in super::super) fn bound(
    gateway: &Gateway,
    function: &Function,
    qualifier: Option<&str>,
) -> Vec<Value> {
    let wanted = qualifier.unwrap_or_default();
    let asked = |trigger: &&Trigger| {
        wanted.is_empty() || trigger.qualifier.to_string().eq_ignore_ascii_case(wanted)
    };
    let triggers = function.triggers.iter().filter(asked);
    let show = |trigger| serde_json::to_value(shown(gateway, &function.key, trigger));
    triggers.filter_map(|trigger| show(trigger).ok()).collect()
}

/// Returns a trigger as the create response shows it.
pub(super) fn shown(gateway: &Gateway, key: &FunctionKey, trigger: &Trigger) -> t::Trigger {
    let (trigger_desc, custom_argument) = described(gateway, key, trigger);
    let (region, uin) = (&gateway.region, gateway.access.uin(key.account));
    t::Trigger {
        mod_time: clock::format(trigger.modified),
        r#type: trigger.spec.kind().as_str().to_owned(),
        trigger_desc,
        trigger_name: trigger.name.to_string(),
        add_time: clock::format(trigger.added),
        enable: i64::from(trigger.enabled),
        custom_argument,
        available_status: "Available".into(),
        resource_id: format!(
            "qcs::scf:{region}:uin/{uin}:function/{}/{}",
            key.name, trigger.name
        ),
        bind_status: "on".into(),
        trigger_attribute: "single".into(),
        qualifier: trigger.qualifier.to_string(),
        description: trigger.description.clone(),
    }
}
