//! Calendar time in the formats of the API, and new request ids.
//!
//! Owns the reading of the wall clock. Never knows what the times are of.
#![forbid(unsafe_code)]

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use model::{RequestId, Timestamp};

/// Returns the current time in milliseconds since the Unix epoch.
pub fn now_ms() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as Timestamp)
}

/// Returns a new request id. Ids sort by creation time.
pub fn new_request_id() -> RequestId {
    RequestId::from_bytes(*uuid::Uuid::now_v7().as_bytes())
}

/// Returns Beijing time, which SCF uses.
fn zone() -> TimeZone {
    TimeZone::fixed(Offset::constant(8))
}

/// Formats a time as the API shows it: `YYYY-MM-DD HH:MM:SS`.
pub fn format(time: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(time) {
        Ok(time) => time
            .to_zoned_datetime(zone())
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string(),
        Err(_) => String::new(),
    }
}

/// Formats microseconds since the Unix epoch in the API's format, followed by the microseconds.
pub fn format_us(time: u64) -> String {
    let (ms, us) = (time / 1000, time % 1_000_000);
    format!("{}.{us:06}", format(ms as Timestamp))
}

/// Formats microseconds since the Unix epoch as RFC 3339 in Beijing time, with nanosecond digits.
pub fn format_rfc3339(time_us: u64) -> String {
    match jiff::Timestamp::from_microsecond(i64::try_from(time_us).unwrap_or(i64::MAX)) {
        Ok(time) => time
            .to_zoned_datetime(zone())
            .strftime("%Y-%m-%dT%H:%M:%S.%9f%:z")
            .to_string(),
        Err(_) => String::new(),
    }
}

/// Parses a time in the API's format.
pub fn parse(text: &str) -> Option<Timestamp> {
    let civil = DateTime::strptime("%Y-%m-%d %H:%M:%S", text).ok()?;
    Some(
        civil
            .to_zoned_datetime(zone())
            .ok()?
            .timestamp()
            .as_millisecond(),
    )
}

/// Converts a time in the API's format to the viewer's time zone and adds the offset. Returns other text unchanged.
pub fn local(text: &str) -> String {
    format_in_zone(text, TimeZone::system())
}

fn format_in_zone(text: &str, zone: TimeZone) -> String {
    let time = parse(text).and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    match time {
        Some(time) => {
            let zoned = time.to_zoned_datetime(zone);
            zoned.strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_trip_in_beijing_time() {
        assert_eq!(format(0), "1970-01-01 08:00:00");
        assert_eq!(parse("1970-01-01 08:00:01"), Some(1000));
        assert_eq!(format_us(1_002_003), "1970-01-01 08:00:01.002003");
        let precise = format_rfc3339(1_000_002_003_004);
        assert_eq!(precise, "1970-01-12T21:46:42.003004000+08:00");
        let zone = |hours| TimeZone::fixed(Offset::constant(hours));
        let noon = "2026-11-30 12:00:00";
        assert_eq!(format_in_zone(noon, zone(0)), "2026-11-30 04:00:00 +00:00");
        assert_eq!(format_in_zone(noon, zone(-5)), "2026-11-29 23:00:00 -05:00");
        assert_eq!(format_in_zone("never", zone(0)), "never");
        for bad in [
            "",
            "1970-01-01",
            "1970-13-01 00:00:00",
            "1970-01-01T08:00:00",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
