//! Timer triggers. A request has a plain cron expression, `0 */5 * * * * *`, or the document that responses have,
//! `{"cron":"0 */5 * * * * *"}`.

use control::Error;
use model::{FunctionKey, Trigger, TriggerName, TriggerSpec};
use serde_json::{Value, json};

use super::super::Gateway;
use super::form::{Form, TriggerFields, wrong};

/// The form of timers.
pub(super) struct TimerForm;

impl Form for TimerForm {
    fn read(
        &self,
        gateway: &Gateway,
        _key: &FunctionKey,
        given: &TriggerFields<'_>,
        old: Option<&TriggerSpec>,
    ) -> Result<(TriggerName, TriggerSpec), Error> {
        let name = TriggerName::parse_plain(given.name)?;
        let old = match old {
            Some(TriggerSpec::Timer(timer)) => Some(timer),
            _ => None,
        };
        let cron = match (given.desc.filter(|desc| !desc.trim().is_empty()), old) {
            (Some(desc), _) => cron(desc)?,
            (None, Some(old)) => old.cron.clone(),
            (None, None) => {
                return Err(wrong(
                    "a timer needs a cron expression, such as 0 */5 * * * * *",
                ));
            }
        };
        let message = match (given.argument, old) {
            (Some(argument), _) => argument.to_owned(),
            (None, old) => old.map(|old| old.message.clone()).unwrap_or_default(),
        };
        let timer = gateway.control.timer(cron, message)?;
        Ok((name, TriggerSpec::Timer(timer)))
    }

    fn show(
        &self,
        _gateway: &Gateway,
        _key: &FunctionKey,
        trigger: &Trigger,
    ) -> Option<(String, String)> {
        let TriggerSpec::Timer(timer) = &trigger.spec else {
            return None;
        };
        let desc = json!({"cron": timer.cron}).to_string();
        Some((desc, timer.message.clone()))
    }
}

/// Extracts the cron expression from a description.
fn cron(desc: &str) -> Result<String, Error> {
    let desc = desc.trim();
    if !desc.starts_with('{') {
        return Ok(desc.to_owned());
    }
    let document: Value =
        serde_json::from_str(desc).map_err(|e| wrong(format!("it is not JSON: {e}")))?;
    match &document["cron"] {
        Value::String(cron) => Ok(cron.trim().to_owned()),
        _ => Err(wrong(r#"a cron expression or {"cron":"..."} is allowed"#)),
    }
}
