//! The actions on triggers.
//!
//! Each kind of trigger has a file that parses and formats its description, and an entry in the registry (`kinds.rs`).

mod apigw;
mod cos;
mod form;
mod http;
mod kinds;
mod list;
mod show;
mod timer;

use control::text;
use control::triggers::{NewTrigger, SourceForm, TriggerChange, TriggerRef};
use model::{FunctionKey, Qualifier};
use scf::Error;
use scf::action::{CreateTrigger, DeleteTrigger, UpdateTrigger, UpdateTriggerStatus};
use scf::types as t;

use self::form::TriggerFields;
use self::kinds::Source;
pub(super) use self::show::bound;
use super::functions::key;
use super::{Caller, Gateway, Serve, error};

impl Serve for CreateTrigger {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::CreateTriggerRequest,
    ) -> Result<t::CreateTriggerResponse, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        let given = TriggerFields {
            name: &request.trigger_name,
            desc: request.trigger_desc.as_deref(),
            argument: request.custom_argument.as_deref(),
        };
        let source = Source::new(gateway, &key, &request.r#type, given)?;
        let (name, spec) = source.read(None).map_err(error::control)?;
        let qualifier = request.qualifier.as_deref().unwrap_or_default();
        let qualifier = Qualifier::parse(qualifier).map_err(error::invalid)?;
        let enabled = enabled(request.enable.as_deref())?.unwrap_or(true);
        let description = request.description.as_deref();
        let description = text::description(description, &gateway.limits);
        let new = NewTrigger {
            name,
            spec,
            qualifier,
            enabled,
            description: description.map_err(error::control)?,
        };
        let may_see = |other: &FunctionKey| gateway.lists_function(caller, LIST, other);
        let created = gateway.control.create_trigger(&key, new, &may_see).await;
        let trigger = created.map_err(error::control)?;
        Ok(t::CreateTriggerResponse {
            trigger_info: show::shown(gateway, &key, &trigger),
        })
    }
}

impl Serve for UpdateTrigger {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::UpdateTriggerRequest,
    ) -> Result<t::Empty, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        let given = TriggerFields {
            name: &request.trigger_name,
            desc: request.trigger_desc.as_deref(),
            argument: request.custom_argument.as_deref(),
        };
        let source = Source::new(gateway, &key, &request.r#type, given)?;
        let enabled = enabled(request.enable.as_deref())?;
        let description = request.description.as_deref();
        let description = description.map(|text| text::description(Some(text), &gateway.limits));
        let change = TriggerChange {
            enabled,
            description: description.transpose().map_err(error::control)?,
        };
        let selected = selected(&source, request.qualifier.as_deref());
        let may_see = |other: &FunctionKey| gateway.lists_function(caller, LIST, other);
        let updated = gateway
            .control
            .update_trigger(&key, selected, change, &may_see);
        updated.await.map_err(error::control)?;
        Ok(t::Empty {})
    }
}

impl Serve for UpdateTriggerStatus {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::UpdateTriggerStatusRequest,
    ) -> Result<t::Empty, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        let given = TriggerFields {
            name: &request.trigger_name,
            desc: request.trigger_desc.as_deref(),
            argument: None,
        };
        let source = Source::new(gateway, &key, &request.r#type, given)?;
        let enable = enabled(Some(&request.enable))?.ok_or_else(|| invalid_enable(""))?;
        let selected = selected(&source, request.qualifier.as_deref());
        let may_see = |other: &FunctionKey| gateway.lists_function(caller, LIST, other);
        let changed = gateway
            .control
            .enable_trigger(&key, selected, enable, &may_see);
        changed.await.map_err(error::control)?;
        Ok(t::Empty {})
    }
}

impl Serve for DeleteTrigger {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::DeleteTriggerRequest,
    ) -> Result<t::Empty, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        let given = TriggerFields {
            name: &request.trigger_name,
            desc: request.trigger_desc.as_deref(),
            argument: None,
        };
        let source = Source::new(gateway, &key, &request.r#type, given)?;
        let selected = selected(&source, request.qualifier.as_deref());
        let may_see = |other: &FunctionKey| gateway.lists_function(caller, LIST, other);
        let deleted = gateway.control.delete_trigger(&key, selected, &may_see);
        deleted.await.map_err(error::control)?;
        Ok(t::Empty {})
    }
}

/// The action that a caller needs to know of a function.
const LIST: &str = "ListFunctions";

fn selected<'a>(source: &'a Source<'a>, qualifier: Option<&'a str>) -> TriggerRef<'a> {
    TriggerRef {
        kind: source.kind,
        name: source.given.name,
        qualifier,
        source,
    }
}

/// Parses `OPEN` or `CLOSE`, if present.
fn enabled(given: Option<&str>) -> Result<Option<bool>, Error> {
    match given {
        None | Some("") => Ok(None),
        Some("OPEN") => Ok(Some(true)),
        Some("CLOSE") => Ok(Some(false)),
        Some(other) => Err(invalid_enable(other)),
    }
}

fn invalid_enable(given: &str) -> Error {
    let shown: String = given.chars().take(80).collect();
    let message = format!("{shown:?} is not allowed; OPEN and CLOSE are");
    error::wire_field("Enable", message)
}
