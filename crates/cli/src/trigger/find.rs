//! Finds the triggers of a function.

use scf::action::ListTriggers;
use scf::types as t;

use super::super::client::Client;
use super::super::failure::Failure;

const PAGE: i64 = 100;

/// Returns all triggers of a function, the oldest first.
pub(super) fn all(client: &Client, function: &str) -> Result<Vec<t::TriggerInfo>, Failure> {
    let mut triggers: Vec<t::TriggerInfo> = Vec::new();
    loop {
        let page = client.call::<ListTriggers>(&t::ListTriggersRequest {
            function_name: function.to_owned(),
            namespace: client.namespace(),
            offset: Some(triggers.len() as i64),
            limit: Some(PAGE),
            order_by: Some("add_time".into()),
            order: Some("ASC".into()),
            filters: None,
        })?;
        let got = page.triggers.len();
        triggers.extend(page.triggers);
        if got == 0 || triggers.len() as i64 >= page.total_count {
            return Ok(triggers);
        }
    }
}

/// Finds a trigger by name, and by type if given.
pub(super) fn one(
    client: &Client,
    function: &str,
    name: &str,
    kind: Option<&str>,
) -> Result<t::TriggerInfo, Failure> {
    let mut found = all(client, function)?;
    found.retain(|one| one.trigger_name == name && kind.is_none_or(|kind| one.r#type == kind));
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Failure::Usage(format!(
            "{function} has no trigger {name}; list them: virga trigger list {function}"
        ))),
        _ => Err(Failure::Usage(format!(
            "{function} has several triggers {name}; choose one with --type"
        ))),
    }
}
