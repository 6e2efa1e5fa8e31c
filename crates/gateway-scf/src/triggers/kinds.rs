//! The available kinds of triggers, with their forms.

use control::triggers::SourceForm;
use control::{Error, Reason};
use model::{Field, FunctionKey, Trigger, TriggerKind, TriggerName, TriggerSpec};

use super::super::{Gateway, error};
use super::form::{Form, TriggerFields, non_empty};
use super::{apigw, cos, http, timer};

/// The registry of forms.
const FORMS: &[(TriggerKind, &dyn Form)] = &[
    (TriggerKind::Timer, &timer::TimerForm),
    (TriggerKind::Cos, &cos::CosForm),
    (TriggerKind::Apigw, &apigw::ApigwForm),
    (TriggerKind::Http, &http::HttpForm),
];

/// The event source of a trigger in a request.
#[derive(Debug)]
pub(super) struct Source<'a> {
    gateway: &'a Gateway,
    key: &'a FunctionKey,
    pub(super) kind: TriggerKind,
    pub(super) given: TriggerFields<'a>,
}

impl<'a> Source<'a> {
    /// Returns the source of a kind, by SCF's name of the kind.
    pub(super) fn new(
        gateway: &'a Gateway,
        key: &'a FunctionKey,
        kind: &str,
        given: TriggerFields<'a>,
    ) -> Result<Self, scf::Error> {
        let kind = TriggerKind::parse(kind).map_err(error::invalid)?;
        Ok(Self {
            gateway,
            key,
            kind,
            given,
        })
    }
}

impl SourceForm for Source<'_> {
    fn read(&self, old: Option<&TriggerSpec>) -> Result<(TriggerName, TriggerSpec), Error> {
        match form(self.kind) {
            Some(form) => form.read(self.gateway, self.key, &self.given, old),
            None => Err(unavailable(self.kind)),
        }
    }

    fn describes(&self, trigger: &Trigger) -> Result<Option<bool>, Error> {
        match (form(self.kind), non_empty(self.given.desc)) {
            (Some(form), Some(desc)) => form.describes(trigger, desc),
            _ => Ok(None),
        }
    }
}

/// Returns a trigger's `TriggerDesc` and `CustomArgument`.
pub(super) fn described(
    gateway: &Gateway,
    key: &FunctionKey,
    trigger: &Trigger,
) -> (String, String) {
    let form = form(trigger.spec.kind());
    let shown = form.and_then(|form| form.show(gateway, key, trigger));
    shown.unwrap_or_default()
}

fn form(kind: TriggerKind) -> Option<&'static dyn Form> {
    let mut forms = FORMS.iter();
    forms
        .find(|(known, _)| *known == kind)
        .map(|(_, form)| *form)
}

fn unavailable(kind: TriggerKind) -> Error {
    let names: Vec<_> = FORMS.iter().map(|(kind, _)| kind.as_str()).collect();
    let names = match &names[..] {
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
        [] => String::new(),
    };
    let message = format!("{} triggers are not available; {names} are", kind.as_str());
    Error::of(Field::TriggerKind, Reason::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_kind_has_a_form() {
        for kind in TriggerKind::ALL {
            let available = kind.description().available;
            assert_eq!(form(kind).is_some(), available, "{}", kind.as_str());
        }
        let message = unavailable(TriggerKind::Ckafka).message;
        let expected = "ckafka triggers are not available; timer, cos, apigw and http are";
        assert_eq!(message, expected);
    }
}
