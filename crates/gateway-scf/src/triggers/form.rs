//! The form in which requests and responses describe an event source: `TriggerDesc` and `CustomArgument`.

use control::{Error, Reason};
use model::{Field, FunctionKey, Trigger, TriggerName, TriggerSpec};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::Gateway;

/// The fields of a request that specify a trigger's event source.
#[derive(Clone, Copy, Debug)]
pub(super) struct TriggerFields<'a> {
    pub(super) name: &'a str,
    /// `TriggerDesc`
    pub(super) desc: Option<&'a str>,
    /// `CustomArgument`
    pub(super) argument: Option<&'a str>,
}

/// The form of one kind.
pub(super) trait Form: Sync {
    /// Parses an event source; absent fields keep the values of `old`. Also returns the name, since some kinds generate it.
    fn read(
        &self,
        gateway: &Gateway,
        key: &FunctionKey,
        given: &TriggerFields<'_>,
        old: Option<&TriggerSpec>,
    ) -> Result<(TriggerName, TriggerSpec), Error>;

    /// Returns the `TriggerDesc` and `CustomArgument` of a trigger; `None` for another kind.
    fn show(
        &self,
        gateway: &Gateway,
        key: &FunctionKey,
        trigger: &Trigger,
    ) -> Option<(String, String)>;

    /// Returns whether a description matches a trigger of its kind and name, if its kind has several triggers of one name.
    fn describes(&self, _trigger: &Trigger, _desc: &str) -> Result<Option<bool>, Error> {
        Ok(None)
    }
}

/// Returns the error for a description.
pub(super) fn wrong(why: impl Into<String>) -> Error {
    Error::invalid(Field::TriggerDescription, why)
}

/// Returns the error for a setting that virga does not have.
pub(super) fn unavailable(why: impl Into<String>) -> Error {
    Error::of(Field::TriggerDescription, Reason::Unsupported, why)
}

/// Returns a description without its surrounding spaces, unless nothing is left.
pub(super) fn non_empty(desc: Option<&str>) -> Option<&str> {
    desc.map(str::trim).filter(|desc| !desc.is_empty())
}

/// Parses a description; empty text is the default.
pub(super) fn document<T: DeserializeOwned + Default>(desc: Option<&str>) -> Result<T, Error> {
    match desc.filter(|desc| !desc.trim().is_empty()) {
        None => Ok(T::default()),
        Some(desc) if !desc.trim_start().starts_with('{') => {
            Err(wrong("it is not as expected: an object is"))
        }
        Some(desc) => {
            serde_json::from_str(desc).map_err(|e| wrong(format!("it is not as expected: {e}")))
        }
    }
}

/// Parses a boolean, also as text.
pub(super) fn flag(field: &str, given: Option<Value>) -> Result<Option<bool>, Error> {
    match given {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(flag)),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
        Some(_) => Err(wrong(format!("{field}: true and false are allowed"))),
    }
}
