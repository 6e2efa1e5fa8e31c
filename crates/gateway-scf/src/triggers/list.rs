//! `ListTriggers`.

use model::Trigger;
use scf::Error;
use scf::action::ListTriggers;
use scf::types as t;

use super::super::functions::find;
use super::super::page::{descending, page_of};
use super::super::{Caller, Gateway, Serve, error};
use super::show::shown;

/// Source: SCF's limits of a list.
const FILTERS_MAX: usize = 10;
/// The Serverless tool-kit requests this many.
const LIMIT_MAX: i64 = 1000;

impl Serve for ListTriggers {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::ListTriggersRequest,
    ) -> Result<t::ListTriggersResponse, Error> {
        let space = request.namespace.as_deref();
        let stored = find(gateway, caller, &request.function_name, space)?;
        let (offset, limit) = page_of(request.offset, request.limit, LIMIT_MAX)?;
        let filters = request.filters.as_deref().unwrap_or_default();
        check(filters)?;
        let passing = |trigger: &&Trigger| filters.iter().all(|filter| passes(trigger, filter));
        let mut found: Vec<_> = stored.value.triggers.iter().filter(passing).collect();
        let name = |trigger: &Trigger| trigger.name.clone();
        match request.order_by.as_deref() {
            Some("add_time") => found.sort_by_cached_key(|one| (one.added, name(one))),
            None | Some("" | "mod_time") => {
                found.sort_by_cached_key(|one| (one.modified, name(one)));
            }
            Some(other) => {
                let message = format!("{other:?} is not allowed; add_time and mod_time are");
                return Err(error::wire_field("OrderBy", message));
            }
        }
        if descending(request.order.as_deref())? {
            found.reverse();
        }
        let total_count = found.len() as i64;
        let key = &stored.value.key;
        let of_page = found.into_iter().skip(offset).take(limit);
        Ok(t::ListTriggersResponse {
            total_count,
            triggers: of_page
                .map(|one| listed(shown(gateway, key, one)))
                .collect(),
        })
    }
}

fn check(filters: &[t::Filter]) -> Result<(), Error> {
    const ALLOWED: &str = "Qualifier, TriggerName, Description and Type are";
    let known = |name: &str| matches!(name, "Qualifier" | "TriggerName" | "Description" | "Type");
    let message = match filters.iter().find(|filter| !known(&filter.name)) {
        _ if filters.len() > FILTERS_MAX => {
            format!("{} are not allowed; up to {FILTERS_MAX} are", filters.len())
        }
        Some(filter) => {
            let shown: String = filter.name.chars().take(60).collect();
            format!("{shown:?} is not allowed; {ALLOWED}")
        }
        None => return Ok(()),
    };
    Err(error::wire_field("Filters", message))
}

/// Returns whether any of the filter's values matches, or it has none: the Serverless tool-kit sends an empty `Qualifier` if it
/// knows none, and updates the URL that it finds.
fn passes(trigger: &Trigger, filter: &t::Filter) -> bool {
    let qualifier = trigger.qualifier.to_string();
    let mut values = filter
        .values
        .iter()
        .filter(|value| !value.is_empty())
        .peekable();
    values.peek().is_none()
        || values.any(|value| match filter.name.as_str() {
            "Qualifier" => qualifier.eq_ignore_ascii_case(value),
            "Type" => trigger.spec.kind().as_str() == value,
            "TriggerName" => trigger.name.as_str().contains(value.as_str()),
            _ => trigger.description.contains(value.as_str()),
        })
}

/// Returns a trigger as `ListTriggers` shows it.
fn listed(one: t::Trigger) -> t::TriggerInfo {
    t::TriggerInfo {
        enable: one.enable,
        qualifier: one.qualifier,
        trigger_name: one.trigger_name,
        r#type: one.r#type,
        trigger_desc: one.trigger_desc,
        available_status: one.available_status,
        custom_argument: one.custom_argument,
        add_time: one.add_time,
        mod_time: one.mod_time,
        resource_id: one.resource_id,
        bind_status: one.bind_status,
        trigger_attribute: one.trigger_attribute,
        description: one.description,
        bound_resources: String::new(),
    }
}
