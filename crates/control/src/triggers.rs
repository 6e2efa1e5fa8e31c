//! The triggers of functions.
//!
//! An API describes a trigger's event source in a form of its own, which it reads behind [`SourceForm`]. How kinds differ stands in
//! [`model::TriggerDescription`].

use std::fmt;

use catalog::TriggerConflict;
use dispatch::cron::Cron;
use model::{
    Field, Function, FunctionKey, FunctionKind, Qualifier, Timer, Timestamp, Trigger, TriggerKind,
    TriggerName, TriggerSpec,
};

use crate::change::{Check, Refusal};
use crate::{Control, Error, Limit, Reason, random};

/// The event source of a trigger in a request, in the form of an API.
pub trait SourceForm: fmt::Debug + Sync {
    /// Reads the event source; absent settings are those of `old`. Also returns the name, since some kinds generate it.
    ///
    /// # Errors
    /// It is not allowed, or the kind is not available.
    fn read(&self, old: Option<&TriggerSpec>) -> Result<(TriggerName, TriggerSpec), Error>;

    /// Returns whether it describes a trigger of its kind and name, if it says anything about that.
    ///
    /// # Errors
    /// It cannot be read.
    fn describes(&self, trigger: &Trigger) -> Result<Option<bool>, Error>;
}

/// A trigger to be created.
#[derive(Clone, Debug)]
pub struct NewTrigger {
    /// Name.
    pub name: TriggerName,
    /// Event source.
    pub spec: TriggerSpec,
    /// Version or alias that it invokes.
    pub qualifier: Qualifier,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Description.
    pub description: String,
}

/// An existing trigger in a request.
#[derive(Clone, Copy, Debug)]
pub struct TriggerRef<'a> {
    /// Kind.
    pub kind: TriggerKind,
    /// Name.
    pub name: &'a str,
    /// Version or alias; `None` or empty is any.
    pub qualifier: Option<&'a str>,
    /// Description, which selects one of several triggers of the name.
    pub source: &'a dyn SourceForm,
}

/// A change of a trigger. `None` keeps a setting.
#[derive(Clone, Debug, Default)]
pub struct TriggerChange {
    /// Whether it is enabled.
    pub enabled: Option<bool>,
    /// Description.
    pub description: Option<String>,
}

/// Whether the caller may know that a function exists.
pub type MaySee<'a> = &'a (dyn Fn(&FunctionKey) -> bool + Sync);

impl Control {
    /// Creates a trigger.
    ///
    /// # Errors
    /// The function, version or alias does not exist, the function has such a trigger or the maximum number, it takes no such
    /// events, or another trigger gets them.
    pub async fn create_trigger(
        &self,
        key: &FunctionKey,
        new: NewTrigger,
        may_see: MaySee<'_>,
    ) -> Result<Trigger, Error> {
        let now = clock::now_ms();
        let trigger = Trigger {
            name: new.name,
            qualifier: new.qualifier,
            enabled: new.enabled,
            since: now,
            description: new.description,
            spec: new.spec,
            added: now,
            modified: now,
        };
        self.change_triggers(key, may_see, |function| {
            self.check_new(function, &trigger)?;
            function.triggers.push(trigger.clone());
            Ok(())
        })
        .await?;
        Ok(trigger)
    }

    /// Changes a trigger, and its event source as `selected` describes it.
    ///
    /// # Errors
    /// The function or the trigger does not exist, the event source is not allowed, or another trigger gets its events.
    pub async fn update_trigger(
        &self,
        key: &FunctionKey,
        selected: TriggerRef<'_>,
        change: TriggerChange,
        may_see: MaySee<'_>,
    ) -> Result<(), Error> {
        self.change_triggers(key, may_see, |function| {
            let at = find_changed(function, selected)?;
            let trigger = &mut function.triggers[at];
            let (_, spec) = selected.source.read(Some(&trigger.spec))?;
            let now = clock::now_ms();
            if spec.changes_source(&trigger.spec) {
                trigger.since = now;
            }
            trigger.spec = spec;
            if let Some(description) = &change.description {
                trigger.description.clone_from(description);
            }
            if let Some(enabled) = change.enabled {
                set_enabled(trigger, enabled, now);
            }
            trigger.modified = now;
            Ok(())
        })
        .await
    }

    /// Enables or disables a trigger.
    ///
    /// # Errors
    /// The function or the trigger does not exist.
    pub async fn enable_trigger(
        &self,
        key: &FunctionKey,
        selected: TriggerRef<'_>,
        enabled: bool,
        may_see: MaySee<'_>,
    ) -> Result<(), Error> {
        self.change_triggers(key, may_see, |function| {
            let at = find(function, selected, true)?;
            let now = clock::now_ms();
            set_enabled(&mut function.triggers[at], enabled, now);
            function.triggers[at].modified = now;
            Ok(())
        })
        .await
    }

    /// Deletes a trigger.
    ///
    /// # Errors
    /// The function or the trigger does not exist.
    pub async fn delete_trigger(
        &self,
        key: &FunctionKey,
        selected: TriggerRef<'_>,
        may_see: MaySee<'_>,
    ) -> Result<(), Error> {
        self.change_triggers(key, may_see, |function| {
            let at = find(function, selected, true)?;
            function.triggers.remove(at);
            Ok(())
        })
        .await
    }

    /// Returns a random id that no trigger uses.
    pub fn unused_trigger_id(&self, make: impl Fn(u64) -> TriggerName) -> TriggerName {
        loop {
            let id = make(random());
            if self.catalog.function_of_url(&id).is_none() {
                return id;
            }
        }
    }

    /// Checks the settings of a timer.
    ///
    /// # Errors
    /// The cron expression is invalid, or the message is too long.
    pub fn timer(&self, cron: String, message: String) -> Result<Timer, Error> {
        Cron::parse(&cron, self.weekday_zero)
            .map_err(|e| Error::invalid(Field::TriggerDescription, e.to_string()))?;
        let most = self.limits.timer_message_bytes;
        if message.len() > most as usize {
            let message = format!("{} bytes are not allowed; up to {most} are", message.len());
            return Err(Error::invalid(Field::TriggerMessage, message));
        }
        Ok(Timer { cron, message })
    }

    async fn change_triggers(
        &self,
        key: &FunctionKey,
        may_see: MaySee<'_>,
        edit: impl Fn(&mut Function) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let explain = |function: &Function, refusal: Refusal| match refusal {
            Refusal::Overlap(conflict) => overlap(&conflict, function, may_see),
            other => other.into_error(),
        };
        self.change_checked(key, Check::ObjectEvents, Self::changeable, edit, explain)
            .await
    }

    fn check_new(&self, function: &Function, trigger: &Trigger) -> Result<(), Error> {
        let kind = trigger.spec.kind();
        let description = kind.description();
        check_qualifier(function, &trigger.qualifier)?;
        if function.kind == FunctionKind::Http && !description.sends_requests {
            let kinds = TriggerKind::ALL.map(TriggerKind::description);
            let requests = kinds.iter().rev().filter(|kind| kind.sends_requests);
            let names: Vec<_> = requests.map(|kind| kind.name).collect();
            let message = format!(
                "{} triggers send events, which a web function does not take; {} are allowed",
                kind.as_str(),
                names.join(" and ")
            );
            let reason = Reason::UnsuitableTrigger;
            return Err(Error::of(Field::TriggerKind, reason, message));
        }
        let mut others = function.triggers_of(kind);
        if others.any(|other| other.is_same(trigger)) {
            let (function, kind, name) = (&function.key.name, kind.as_str(), &trigger.name);
            let message = format!("function {function} has a {kind} trigger {name}; update it");
            let reason = Reason::TriggerExists;
            return Err(Error::of(Field::TriggerName, reason, message));
        }
        let mut others = function.triggers_of(kind);
        if let Some(noun) = description.one_per_qualifier
            && others.any(|other| other.qualifier == trigger.qualifier)
        {
            let message = format!("{} has a {noun} already; update it", trigger.qualifier);
            return Err(Error::of(Field::Qualifier, Reason::QualifierTaken, message));
        }
        let most = self.limits.triggers_per_type as usize;
        if function.triggers_of(kind).count() >= most {
            let kind = kind.as_str();
            let message =
                format!("the function has its {most} {kind} triggers already; delete some first");
            return Err(Error::new(Reason::LimitReached(Limit::Triggers), message));
        }
        Ok(())
    }
}

fn set_enabled(trigger: &mut Trigger, enable: bool, now: Timestamp) {
    if enable && !trigger.enabled {
        // Runs that were due while the trigger was closed are skipped.
        trigger.since = now;
    }
    trigger.enabled = enable;
}

/// Describes an overlap. It names the other function only to a caller who may know of it.
fn overlap(conflict: &TriggerConflict, own: &Function, may_see: MaySee<'_>) -> Error {
    let other = &conflict.function;
    let by = if *other == own.key {
        "this function".to_owned()
    } else if may_see(other) {
        format!("function {} in namespace {}", other.name, other.namespace)
    } else {
        "another function".to_owned()
    };
    // The trigger's name is the bucket's, which the caller already knows.
    let message = format!(
        "an event of an object is for one trigger alone, and some of these go to {by} already, by its trigger {}; \
         choose another event, Prefix or Suffix, or delete that trigger",
        conflict.trigger
    );
    Error::of(Field::TriggerDescription, Reason::EventsTaken, message)
}

/// Finds the trigger that a request changes. Its description is the new one; only if the name is ambiguous, it selects the
/// trigger.
fn find_changed(function: &Function, selected: TriggerRef<'_>) -> Result<usize, Error> {
    match find(function, selected, false) {
        Err(several) if several.reason == Reason::TriggerAmbiguous => {
            find(function, selected, true).map_err(|_| several)
        }
        found => found,
    }
}

/// Finds the index of a trigger by kind, name, qualifier if given, and, with `by_source`, by its description.
fn find(function: &Function, selected: TriggerRef<'_>, by_source: bool) -> Result<usize, Error> {
    let TriggerRef {
        kind,
        name,
        qualifier,
        source,
    } = selected;
    let wanted = qualifier.filter(|text| !text.is_empty());
    let wanted = wanted.map(Qualifier::parse).transpose()?;
    let mut found = Vec::new();
    for (at, trigger) in function.triggers.iter().enumerate() {
        let bound = wanted
            .as_ref()
            .is_none_or(|wanted| trigger.qualifier == *wanted);
        let named = trigger.spec.kind() == kind && trigger.name.as_str() == name && bound;
        if named && (!by_source || source.describes(trigger)? != Some(false)) {
            found.push(at);
        }
    }
    let shown: String = name.chars().take(100).collect();
    let (function, shown_kind) = (&function.key.name, kind.as_str());
    match found[..] {
        [one] => Ok(one),
        [] => {
            let on = wanted.map(|wanted| format!(" on {wanted}"));
            let on = on.unwrap_or_default();
            let message = format!("function {function} has no {shown_kind} trigger {shown:?}{on}");
            let reason = Reason::TriggerMissing;
            Err(Error::of(Field::TriggerName, reason, message))
        }
        [first, ..] if !kind.description().shares_names => Ok(first),
        [..] => {
            let message = format!(
                "function {function} has {} {shown_kind} triggers {shown:?}; select one by its description",
                found.len()
            );
            let reason = Reason::TriggerAmbiguous;
            Err(Error::of(Field::TriggerDescription, reason, message))
        }
    }
}

/// Checks that a version or alias exists.
fn check_qualifier(function: &Function, qualifier: &Qualifier) -> Result<(), Error> {
    if function.has_qualifier(qualifier) {
        return Ok(());
    }
    let message = format!(
        "function {} has no version or alias {qualifier}",
        function.key.name
    );
    Err(Error::of(
        Field::Qualifier,
        Reason::QualifierMissing,
        message,
    ))
}

/// Checks that no trigger is bound to a version or alias. `can_force` = a forced deletion is possible.
///
/// # Errors
/// Triggers are bound to it.
pub fn check_unbound(
    function: &Function,
    qualifier: &Qualifier,
    can_force: bool,
) -> Result<(), Error> {
    let bound = function.triggers_on(qualifier);
    if bound.is_empty() {
        return Ok(());
    }
    let names = bound.join(", ");
    let message = format!("{qualifier} is used by the triggers {names}; delete them first");
    Err(Error::new(Reason::UsedByTriggers { can_force }, message))
}
