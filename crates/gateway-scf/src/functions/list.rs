//! `ListFunctions`: pagination, order, search and filters.

use std::sync::Arc;

use catalog::Stored;
use model::Function;
use scf::Action;
use scf::Error;
use scf::action::ListFunctions;
use scf::types::{Filter, ListFunctionsRequest, ListFunctionsResponse};

use super::super::error;
use super::super::invoke::namespace;
use super::super::page::{descending, page};
use super::super::{Caller, Gateway, Serve, show};

/// Source: SCF's limits of a list.
const FILTERS_MAX: usize = 10;

impl Serve for ListFunctions {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: ListFunctionsRequest,
    ) -> Result<ListFunctionsResponse, Error> {
        let namespace = namespace(request.namespace.as_deref())?;
        let control = &gateway.control;
        let checked = control.check_namespace(caller.account, &namespace);
        checked.map_err(error::control)?;
        let filters = request.filters.as_deref().unwrap_or_default();
        check_filters(filters)?;
        let (offset, limit) = page(request.offset, request.limit)?;
        let mut functions = gateway.catalog.functions(caller.account, &namespace);
        functions.retain(|stored| {
            let function = &stored.value;
            gateway.lists_function(caller, Self::NAME, &function.key)
                && matches(function, &request, filters)
        });
        sort(
            &mut functions,
            request.orderby.as_deref(),
            request.order.as_deref(),
        )?;
        let total_count = functions.len() as i64;
        let page = functions.iter().skip(offset).take(limit);
        Ok(ListFunctionsResponse {
            functions: page.map(|stored| show::summary(&stored.value)).collect(),
            total_count,
        })
    }
}

fn sort(
    functions: &mut [Arc<Stored<Function>>],
    by: Option<&str>,
    order: Option<&str>,
) -> Result<(), Error> {
    // The input is sorted by name and the sorts are stable, so that ties stay in this order.
    match by {
        None | Some("" | "AddTime") => functions.sort_by_key(|stored| stored.value.added),
        Some("ModTime") => functions.sort_by_key(|stored| stored.value.modified),
        Some("FunctionName") => {}
        Some(other) => {
            let message =
                format!("{other:?} is not allowed; AddTime, ModTime and FunctionName are");
            return Err(error::wire_field("Orderby", message));
        }
    }
    if descending(order)? {
        functions.reverse();
    }
    Ok(())
}

fn check_filters(filters: &[Filter]) -> Result<(), Error> {
    if filters.len() > FILTERS_MAX {
        let message = format!("{} are not allowed; up to {FILTERS_MAX} are", filters.len());
        return Err(error::wire_field("Filters", message));
    }
    let known = |name: &str| {
        matches!(
            name,
            "Status" | "Type" | "Runtime" | "FunctionName" | "Description" | "Role"
        ) || name.starts_with("tag-")
    };
    match filters.iter().find(|filter| !known(&filter.name)) {
        None => Ok(()),
        Some(filter) => {
            let shown: String = filter.name.chars().take(60).collect();
            let message = format!(
                "{shown:?} is not allowed; Status, Type, Runtime, FunctionName, Description, Role and tag-<key> are"
            );
            Err(error::wire_field("Filters", message))
        }
    }
}

fn matches(function: &Function, request: &ListFunctionsRequest, filters: &[Filter]) -> bool {
    let contains =
        |text: &str, part: &Option<String>| part.as_deref().is_none_or(|part| text.contains(part));
    contains(function.key.name.as_str(), &request.search_key)
        && contains(&function.config.description, &request.description)
        && filters.iter().all(|filter| passes(function, filter))
}

/// Returns whether any of the filter's values matches.
fn passes(function: &Function, filter: &Filter) -> bool {
    let one_of = |have: &str| filter.values.iter().any(|value| value == have);
    match filter.name.as_str() {
        "Status" => one_of(function.state.as_str()),
        "Type" => one_of(show::kind(function)),
        "Runtime" => one_of(&function.runtime.to_string()),
        "FunctionName" => filter
            .values
            .iter()
            .any(|value| function.key.name.as_str().contains(value.as_str())),
        "Description" => filter
            .values
            .iter()
            .any(|value| function.config.description.contains(value.as_str())),
        "Role" => {
            let role = function.config.role.as_ref();
            one_of(role.map_or("", |role| role.as_str()))
        }
        name => name
            .strip_prefix("tag-")
            .and_then(|key| function.tags.get(key))
            .is_some_and(|value| filter.values.is_empty() || one_of(value)),
    }
}
