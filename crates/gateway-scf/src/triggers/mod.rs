//! The actions on triggers.
//!
//! Each kind of trigger has a file that parses and formats its description. [`read`] and [`described`] dispatch by kind; other
//! kinds are rejected.

mod apigw;
mod cos;
mod http;
mod list;
mod timer;

use catalog::Error as Refused;
use model::{
    Function, FunctionKey, FunctionKind, Qualifier, Trigger, TriggerKind, TriggerName, TriggerSpec,
};
use scf::action::{CreateTrigger, DeleteTrigger, UpdateTrigger, UpdateTriggerStatus};
use scf::types as t;
use scf::{Code, Error};

use super::error::{self, unsupported};
use super::functions::{changeable, description, key};
use super::{Caller, Gateway, Serve};

pub(super) use list::bound;

/// The fields of a request that specify a trigger's event source.
struct TriggerFields<'a> {
    name: &'a str,
    /// `TriggerDesc`
    desc: Option<&'a str>,
    /// `CustomArgument`
    argument: Option<&'a str>,
}

/// Parses a trigger's event source; absent fields keep their values. Also returns the name, since some kinds generate it.
fn read(
    gateway: &Gateway,
    key: &FunctionKey,
    kind: TriggerKind,
    given: &TriggerFields<'_>,
    old: Option<&TriggerSpec>,
) -> Result<(TriggerName, TriggerSpec), Error> {
    match kind {
        TriggerKind::Apigw => apigw::read(gateway, key, given, old),
        TriggerKind::Cos => cos::read(gateway, key, given, old),
        TriggerKind::Http => http::read(gateway, given, old),
        TriggerKind::Timer => timer::read(gateway, given, old),
        other => {
            let other = other.as_str();
            Err(unsupported(&format!(
                "Type: {other} triggers are not available; timer, cos, apigw and http are"
            )))
        }
    }
}

/// Returns a trigger's `TriggerDesc` and `CustomArgument`.
fn described(gateway: &Gateway, key: &FunctionKey, trigger: &Trigger) -> (String, String) {
    match &trigger.spec {
        TriggerSpec::Apigw(api) => (apigw::described(gateway, key, api), String::new()),
        TriggerSpec::Cos(events) => (cos::described(&trigger.name, events), String::new()),
        TriggerSpec::Http(url) => (http::described(gateway, key, trigger, url), String::new()),
        TriggerSpec::Timer(timer) => timer::described(timer),
    }
}

impl Serve for CreateTrigger {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::CreateTriggerRequest,
    ) -> Result<t::CreateTriggerResponse, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        let kind = TriggerKind::parse(&request.r#type).map_err(error::invalid)?;
        let given = TriggerFields {
            name: &request.trigger_name,
            desc: request.trigger_desc.as_deref(),
            argument: request.custom_argument.as_deref(),
        };
        let (name, spec) = read(gateway, &key, kind, &given, None)?;
        let now = clock::now_ms();
        let trigger = Trigger {
            name,
            qualifier: qualifier(request.qualifier.as_deref())?,
            enabled: enabled(request.enable.as_deref())?.unwrap_or(true),
            since: now,
            description: description(request.description.as_deref(), &gateway.limits)?,
            spec,
            added: now,
            modified: now,
        };
        change(gateway, caller, &key, |function| {
            check_qualifier(function, &trigger.qualifier)?;
            let by_http = matches!(kind, TriggerKind::Apigw | TriggerKind::Http);
            if function.kind == FunctionKind::Http && !by_http {
                let message = format!(
                    "Type: {} triggers send events, which a web function does not take; http and apigw are allowed",
                    kind.as_str()
                );
                return Err(Error::new(Code::UnsupportedTrigger, message));
            }
            if function
                .triggers_of(kind)
                .any(|other| other.name == trigger.name && is_same_trigger(other, &trigger))
            {
                let (kind, name) = (kind.as_str(), &trigger.name);
                let message = format!(
                    "TriggerName: function {} has a {kind} trigger {name}; update it",
                    key.name
                );
                return Err(Error::new(Code::TriggerNameInUse, message));
            }
            if kind == TriggerKind::Http
                && function
                    .triggers_of(kind)
                    .any(|other| other.qualifier == trigger.qualifier)
            {
                let message = format!(
                    "Qualifier: {} has a URL already; update it",
                    trigger.qualifier
                );
                return Err(Error::new(Code::TriggerInUse, message));
            }
            let most = gateway.limits.triggers_per_type as usize;
            if function.triggers_of(kind).count() >= most {
                let kind = kind.as_str();
                let message = format!(
                    "the function has its {most} {kind} triggers already; delete some first"
                );
                return Err(Error::new(Code::LimitExceededTrigger, message));
            }
            function.triggers.push(trigger.clone());
            Ok(())
        })
        .await?;
        Ok(t::CreateTriggerResponse {
            trigger_info: list::shown(gateway, &key, &trigger),
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
        let kind = TriggerKind::parse(&request.r#type).map_err(error::invalid)?;
        let enable = enabled(request.enable.as_deref())?;
        let given = TriggerFields {
            name: &request.trigger_name,
            desc: request.trigger_desc.as_deref(),
            argument: request.custom_argument.as_deref(),
        };
        let described = match &request.description {
            Some(text) => Some(description(Some(text), &gateway.limits)?),
            None => None,
        };
        change(gateway, caller, &key, |function| {
            let at = changed(function, kind, &given, request.qualifier.as_deref())?;
            let trigger = &mut function.triggers[at];
            let (_, spec) = read(gateway, &key, kind, &given, Some(&trigger.spec))?;
            let now = clock::now_ms();
            if spec.changes_source(&trigger.spec) {
                trigger.since = now;
            }
            trigger.spec = spec;
            if let Some(described) = &described {
                trigger.description.clone_from(described);
            }
            if let Some(enable) = enable {
                set_enabled(trigger, enable, now);
            }
            trigger.modified = now;
            Ok(())
        })
        .await?;
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
        let kind = TriggerKind::parse(&request.r#type).map_err(error::invalid)?;
        let enable = enabled(Some(&request.enable))?.ok_or_else(|| invalid_enable(""))?;
        let (name, qualifier) = (&request.trigger_name, request.qualifier.as_deref());
        let desc = request.trigger_desc.as_deref();
        change(gateway, caller, &key, |function| {
            let at = find(function, kind, name, qualifier, desc)?;
            let now = clock::now_ms();
            set_enabled(&mut function.triggers[at], enable, now);
            function.triggers[at].modified = now;
            Ok(())
        })
        .await?;
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
        let kind = TriggerKind::parse(&request.r#type).map_err(error::invalid)?;
        let (name, qualifier) = (&request.trigger_name, request.qualifier.as_deref());
        let desc = request.trigger_desc.as_deref();
        change(gateway, caller, &key, |function| {
            let at = find(function, kind, name, qualifier, desc)?;
            function.triggers.remove(at);
            Ok(())
        })
        .await?;
        Ok(t::Empty {})
    }
}

/// Changes a function's triggers. Retries after concurrent changes (optimistic concurrency).
async fn change(
    gateway: &Gateway,
    caller: Caller<'_>,
    key: &FunctionKey,
    edit: impl Fn(&mut Function) -> Result<(), Error>,
) -> Result<(), Error> {
    loop {
        let stored = changeable(gateway, key)?;
        let mut function = stored.value.clone();
        edit(&mut function)?;
        let waits = |function: &Function| -> Vec<_> {
            let all = function.bucket_triggers();
            all.map(|(_, events)| events.clone()).collect()
        };
        let changed = if waits(&function) == waits(&stored.value) {
            let changed = gateway.catalog.update_function(&stored, &function).await;
            changed.map(Ok)
        } else {
            let catalog = &gateway.catalog;
            catalog.update_bucket_triggers(&stored, &function).await
        };
        match changed {
            Err(Refused::Conflict) => {}
            Ok(Err(conflict)) => {
                let is_shown = gateway.lists_function(caller, "ListFunctions", &conflict.function);
                return Err(cos::conflict(&conflict, &function, is_shown));
            }
            done => return done.map(drop).map_err(error::function),
        }
    }
}

fn set_enabled(trigger: &mut Trigger, enable: bool, now: model::Timestamp) {
    if enable && !trigger.enabled {
        // Runs that were due while the trigger was closed are skipped.
        trigger.since = now;
    }
    trigger.enabled = enable;
}

/// Returns whether two triggers of the same kind and name are the same. Only bucket triggers can differ in more.
fn is_same_trigger(one: &Trigger, other: &Trigger) -> bool {
    match (&one.spec, &other.spec) {
        (TriggerSpec::Cos(one), TriggerSpec::Cos(other)) => one == other,
        _ => true,
    }
}

/// Finds the trigger that a request changes. The description is the new one; only if the name is ambiguous, it selects the
/// trigger.
fn changed(
    function: &Function,
    kind: TriggerKind,
    given: &TriggerFields<'_>,
    wanted: Option<&str>,
) -> Result<usize, Error> {
    match find(function, kind, given.name, wanted, None) {
        Err(several) if several.code == Code::InvalidTriggerDesc => {
            let by_desc = find(function, kind, given.name, wanted, given.desc);
            by_desc.map_err(|_| several)
        }
        found => found,
    }
}

/// Finds the index of a trigger by name, qualifier if given, and description for bucket triggers.
fn find(
    function: &Function,
    kind: TriggerKind,
    name: &str,
    wanted: Option<&str>,
    desc: Option<&str>,
) -> Result<usize, Error> {
    let wanted = match wanted.filter(|text| !text.is_empty()) {
        Some(text) => Some(qualifier(Some(text))?),
        None => None,
    };
    let desc = cos::non_empty(desc).filter(|_| kind == TriggerKind::Cos);
    let mut found = Vec::new();
    for (at, trigger) in function.triggers.iter().enumerate() {
        let bound = wanted
            .as_ref()
            .is_none_or(|wanted| trigger.qualifier == *wanted);
        let named = trigger.spec.kind() == kind && trigger.name.as_str() == name && bound;
        if named && desc.map_or(Ok(true), |desc| cos::matches_desc(trigger, desc))? {
            found.push(at);
        }
    }
    let shown: String = name.chars().take(100).collect();
    let on = wanted.map(|wanted| format!(" on {wanted}"));
    let (function, kind) = (&function.key.name, kind.as_str());
    match found[..] {
        [one] => Ok(one),
        [] => {
            let on = on.unwrap_or_default();
            let message =
                format!("TriggerName: function {function} has no {kind} trigger {shown:?}{on}");
            Err(Error::new(Code::TriggerNotFound, message))
        }
        // Names of other kinds are unique within a function.
        [first, ..] if kind != TriggerKind::Cos.as_str() => Ok(first),
        [..] => {
            let message = format!(
                "TriggerDesc: function {function} has {} {kind} triggers {shown:?}; select one by its description, as ListTriggers \
                 shows it",
                found.len()
            );
            Err(Error::new(Code::InvalidTriggerDesc, message))
        }
    }
}

fn qualifier(given: Option<&str>) -> Result<Qualifier, Error> {
    Qualifier::parse(given.unwrap_or_default()).map_err(error::invalid)
}

/// Checks that a version or alias exists.
fn check_qualifier(function: &Function, qualifier: &Qualifier) -> Result<(), Error> {
    if function.has_qualifier(qualifier) {
        return Ok(());
    }
    let message = format!(
        "Qualifier: function {} has no version or alias {qualifier}",
        function.key.name
    );
    Err(Error::new(Code::QualifierNotFound, message))
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
    let message = format!("Enable: {shown:?} is not allowed; OPEN and CLOSE are");
    Error::new(Code::InvalidEnable, message)
}
