//! `RetryConfig`: the number and the interval of retries by kind of failure.
//!
//! `ErrorCode` and `RetryInterval` are in SCF's answers, though not in its SDKs. Source: the tests of SCF's Serverless tool-kit.

use engine::runner::RetryWaits;
use model::EventConfig;
use scf::types::RetryConfig;

/// Failures of the function.
const FAILED: &str = "default";
/// The status of an event that found no instance.
const THROTTLED: &str = "432";
/// The `RetryNum` for unlimited retries.
const UNLIMITED: i64 = -1;

/// Returns both rules as the API shows them.
pub(super) fn shown(config: &EventConfig, waits: RetryWaits) -> Vec<RetryConfig> {
    let rule = |code: &str, number, seconds: u64| RetryConfig {
        retry_num: Some(number),
        error_code: Some(vec![code.to_owned()]),
        retry_interval: Some(seconds as i64),
    };
    vec![
        rule(FAILED, config.retries.into(), waits.failed),
        rule(THROTTLED, UNLIMITED, waits.throttled),
    ]
}

/// Reads the `RetryNum` for failures of the function, if present. All other fields are read-only and must equal the shown value.
///
/// # Errors
/// Returns the read-only field, the given value and the allowed one.
pub(super) fn read(given: &[RetryConfig], waits: RetryWaits) -> Result<Option<i64>, String> {
    let mut number = None;
    for (at, rule) in given.iter().enumerate() {
        let RetryConfig {
            retry_num,
            error_code,
            retry_interval,
        } = rule;
        let codes = error_code.as_deref().unwrap_or_default();
        let throttled = match codes {
            [] => at > 0,
            [code] if code == FAILED => false,
            [code] if code == THROTTLED => true,
            _ => {
                let shown: String = codes.join(", ").chars().take(80).collect();
                return Err(format!(
                    "RetryConfig.ErrorCode: {shown:?} is not allowed; {FAILED} and {THROTTLED} are"
                ));
            }
        };
        let wait = if throttled {
            waits.throttled
        } else {
            waits.failed
        };
        if let Some(seconds) = retry_interval
            && u64::try_from(*seconds) != Ok(wait)
        {
            return Err(format!(
                "RetryConfig.RetryInterval: {seconds} is not allowed; {wait} (seconds) is, which the operator sets"
            ));
        }
        match (throttled, retry_num) {
            (true, None | Some(UNLIMITED)) => {}
            (false, _) if number.is_none() => number = *retry_num,
            (_, other) => {
                let other = other.map_or("none".to_owned(), |other| other.to_string());
                return Err(format!(
                    "RetryConfig.RetryNum: {other} is not allowed here; one number is, and behind it {UNLIMITED}, as \
                     GetFunctionEventInvokeConfig shows it"
                ));
            }
        }
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use model::Limits;

    use super::*;

    const WAITS: RetryWaits = RetryWaits {
        failed: 60,
        throttled: 90,
    };

    fn rule(number: Option<i64>, codes: &[&str], seconds: Option<i64>) -> RetryConfig {
        let codes = codes.iter().map(|&code| code.to_owned()).collect();
        RetryConfig {
            retry_num: number,
            error_code: Some(codes).filter(|codes: &Vec<_>| !codes.is_empty()),
            retry_interval: seconds,
        }
    }

    #[test]
    fn retry_rules_round_trip() {
        let config = EventConfig::default_for(&Limits::default());
        let shown = shown(&config, WAITS);
        let expected = [
            rule(Some(2), &["default"], Some(60)),
            rule(Some(-1), &["432"], Some(90)),
        ];
        assert_eq!(shown, expected);
        assert_eq!(read(&shown, WAITS), Ok(Some(2)));
        let reversed: Vec<_> = shown.into_iter().rev().collect();
        assert_eq!(read(&reversed, WAITS), Ok(Some(2)));
        assert_eq!(read(&[], WAITS), Ok(None));
        assert_eq!(read(&[rule(Some(0), &[], None)], WAITS), Ok(Some(0)));
    }

    #[test]
    fn read_only_retry_fields_are_rejected_by_name() {
        for (given, field) in [
            (rule(Some(1), &["default"], Some(30)), "RetryInterval: 30"),
            (rule(Some(1), &["default"], Some(-60)), "RetryInterval: -60"),
            (rule(Some(1), &["430"], None), "ErrorCode: \"430\""),
            (rule(Some(1), &["default", "432"], None), "ErrorCode: "),
            (rule(Some(3), &["432"], None), "RetryNum: 3"),
        ] {
            let refused = read(std::slice::from_ref(&given), WAITS).expect_err(field);
            assert!(refused.contains(field), "{refused}");
        }
        let twice = [rule(Some(1), &[], None), rule(Some(1), &[], None)];
        assert!(
            read(&twice, WAITS)
                .expect_err("twice")
                .contains("RetryNum: 1")
        );
        let twice = [
            rule(Some(1), &["default"], None),
            rule(Some(0), &["default"], None),
        ];
        assert!(
            read(&twice, WAITS)
                .expect_err("twice")
                .contains("RetryNum: 0")
        );
    }
}
