//! Timer triggers. A request has a plain cron expression, `0 */5 * * * * *`, or the document that responses have,
//! `{"cron":"0 */5 * * * * *"}`.

use dispatch::cron::Cron;
use model::{Timer, TriggerName, TriggerSpec};
use scf::{Code, Error};
use serde_json::{Value, json};

use super::super::{Gateway, error};
use super::TriggerFields;

pub(super) fn read(
    gateway: &Gateway,
    given: &TriggerFields<'_>,
    old: Option<&TriggerSpec>,
) -> Result<(TriggerName, TriggerSpec), Error> {
    let name = TriggerName::parse_plain(given.name).map_err(error::invalid)?;
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
    Cron::parse(&cron, gateway.weekday_zero).map_err(|e| wrong(&e.to_string()))?;
    let message = match (given.argument, old) {
        (Some(argument), _) => argument.to_owned(),
        (None, old) => old.map(|old| old.message.clone()).unwrap_or_default(),
    };
    let most = gateway.limits.timer_message_bytes;
    if message.len() > most as usize {
        let message = format!(
            "CustomArgument: {} bytes are not allowed; up to {most} are",
            message.len()
        );
        return Err(Error::new(Code::InvalidCustomArgument, message));
    }
    Ok((name, TriggerSpec::Timer(Timer { cron, message })))
}

pub(super) fn described(timer: &Timer) -> (String, String) {
    (
        json!({"cron": timer.cron}).to_string(),
        timer.message.clone(),
    )
}

/// Extracts the cron expression from a description.
fn cron(desc: &str) -> Result<String, Error> {
    let desc = desc.trim();
    if !desc.starts_with('{') {
        return Ok(desc.to_owned());
    }
    let document: Value =
        serde_json::from_str(desc).map_err(|e| wrong(&format!("it is not JSON: {e}")))?;
    match &document["cron"] {
        Value::String(cron) => Ok(cron.trim().to_owned()),
        _ => Err(wrong(r#"a cron expression or {"cron":"..."} is allowed"#)),
    }
}

fn wrong(why: &str) -> Error {
    Error::new(Code::InvalidTriggerDesc, format!("TriggerDesc: {why}"))
}
