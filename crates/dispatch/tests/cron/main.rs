//! Cron expressions: a table of expected times, and a slow reference implementation.
#![expect(clippy::expect_used, reason = "a test may end")]

mod reference;

use dispatch::cron::{Cron, WeekdayZero};
use jiff::Timestamp;
use jiff::tz::TimeZone;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).expect("a zone")
}

fn second(text: &str) -> i64 {
    let at: Timestamp = text.parse().expect("a time");
    at.as_second()
}

fn cron(text: &str) -> Cron {
    Cron::parse(text, WeekdayZero::Sunday).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// The next times at which an expression is due, in the zone's wall-clock time.
fn due(text: &str, name: &str, after: &str, count: usize) -> Vec<String> {
    let (cron, zone) = (cron(text), zone(name));
    let mut at = second(after);
    let mut found = Vec::new();
    while found.len() < count {
        let Some(next) = cron.next_after(at, &zone) else {
            break;
        };
        let shown = Timestamp::from_second(next)
            .expect("a time")
            .to_zoned_datetime(zone.clone());
        found.push(shown.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string());
        at = next;
    }
    found
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of expressions")]
fn expressions_run_at_the_expected_times() {
    let utc = [
        // Seven fields with each operator, and a step from a number.
        (
            "* * * * * * *",
            "2026-01-01T00:00:00Z",
            &["2026-01-01T00:00:01", "2026-01-01T00:00:02"][..],
        ),
        (
            "*/20 * * * * * *",
            "2026-01-01T00:00:00Z",
            &[
                "2026-01-01T00:00:20",
                "2026-01-01T00:00:40",
                "2026-01-01T00:01:00",
            ],
        ),
        (
            "0 1/10 * * * * *",
            "2026-01-01T00:00:00Z",
            &[
                "2026-01-01T00:01:00",
                "2026-01-01T00:11:00",
                "2026-01-01T00:21:00",
            ],
        ),
        (
            "0 50/10 * * * * *",
            "2026-01-01T00:00:00Z",
            &["2026-01-01T00:50:00", "2026-01-01T01:50:00"],
        ),
        (
            "0 0 9-17/4 * * * *",
            "2026-01-01T12:00:00Z",
            &[
                "2026-01-01T13:00:00",
                "2026-01-01T17:00:00",
                "2026-01-02T09:00:00",
            ],
        ),
        (
            "5,10-12 59 23 31 12 * 2026",
            "2026-01-01T00:00:00Z",
            &[
                "2026-12-31T23:59:05",
                "2026-12-31T23:59:10",
                "2026-12-31T23:59:11",
                "2026-12-31T23:59:12",
            ],
        ),
        // The last second of each unit.
        (
            "0 0 0 1 1 * *",
            "2026-12-31T23:59:59Z",
            &["2027-01-01T00:00:00", "2028-01-01T00:00:00"],
        ),
        (
            "59 59 23 * * * *",
            "2026-02-28T23:59:58Z",
            &["2026-02-28T23:59:59", "2026-03-01T23:59:59"],
        ),
        // Five fields.
        (
            "*/30 8 * * *",
            "2026-01-01T00:00:00Z",
            &[
                "2026-01-01T08:00:00",
                "2026-01-01T08:30:00",
                "2026-01-02T08:00:00",
            ],
        ),
        (
            "0 0 * * 1-5",
            "2026-11-27T00:00:00Z",
            &["2026-11-30T00:00:00"],
        ),
        // Names in any case, and a weekday range that wraps around.
        (
            "0 0 0 1 feb,Jun * *",
            "2026-01-01T00:00:00Z",
            &["2026-02-01T00:00:00", "2026-06-01T00:00:00"],
        ),
        (
            "0 0 0 ? * MON-WED *",
            "2026-11-24T00:00:00Z",
            &["2026-11-25T00:00:00", "2026-11-30T00:00:00"],
        ),
        (
            "0 0 0 ? * sat-SUN *",
            "2026-11-24T00:00:00Z",
            &[
                "2026-11-28T00:00:00",
                "2026-11-29T00:00:00",
                "2026-12-05T00:00:00",
            ],
        ),
        (
            "0 0 0 * * 0 *",
            "2026-11-24T00:00:00Z",
            &["2026-11-29T00:00:00"],
        ),
        // The last day, the last weekday, and the nearest weekday, which stays in its month.
        (
            "0 0 12 L * ? *",
            "2024-01-31T12:00:00Z",
            &[
                "2024-02-29T12:00:00",
                "2024-03-31T12:00:00",
                "2024-04-30T12:00:00",
            ],
        ),
        (
            "0 0 12 LW * ? *",
            "2026-01-01T00:00:00Z",
            &[
                "2026-01-30T12:00:00",
                "2026-02-27T12:00:00",
                "2026-03-31T12:00:00",
            ],
        ),
        (
            "0 0 0 15W * ? *",
            "2026-08-01T00:00:00Z",
            &[
                "2026-08-14T00:00:00",
                "2026-09-15T00:00:00",
                "2026-10-15T00:00:00",
                "2026-11-16T00:00:00",
            ],
        ),
        (
            "0 0 0 1W * ? *",
            "2026-07-31T12:00:00Z",
            &["2026-08-03T00:00:00", "2026-09-01T00:00:00"],
        ),
        (
            "0 0 0 31W * ? *",
            "2026-05-01T00:00:00Z",
            &["2026-05-29T00:00:00", "2026-07-31T00:00:00"],
        ),
        (
            "0 0 0 1,L * ? *",
            "2026-01-01T00:00:00Z",
            &[
                "2026-01-31T00:00:00",
                "2026-02-01T00:00:00",
                "2026-02-28T00:00:00",
            ],
        ),
        // The last and the n-th weekday; not every month has a fifth.
        (
            "0 0 0 ? * 5L *",
            "2026-11-01T00:00:00Z",
            &["2026-11-27T00:00:00", "2026-12-25T00:00:00"],
        ),
        (
            "0 0 0 ? * FRI#2 *",
            "2026-11-01T00:00:00Z",
            &["2026-11-13T00:00:00", "2026-12-11T00:00:00"],
        ),
        (
            "0 0 0 ? * 2#5 *",
            "2026-01-01T00:00:00Z",
            &["2026-03-31T00:00:00", "2026-06-30T00:00:00"],
        ),
        // A day that matches either field is due.
        (
            "0 0 0 13 * 5 *",
            "2026-11-01T00:00:00Z",
            &[
                "2026-11-06T00:00:00",
                "2026-11-13T00:00:00",
                "2026-11-20T00:00:00",
                "2026-11-27T00:00:00",
                "2026-12-04T00:00:00",
                "2026-12-11T00:00:00",
                "2026-12-13T00:00:00",
            ],
        ),
        // Rare days, and the end of the range of years.
        (
            "0 0 0 29 2 * *",
            "2026-01-01T00:00:00Z",
            &["2028-02-29T00:00:00", "2032-02-29T00:00:00"],
        ),
        (
            "0 0 0 29 2 * *",
            "2092-03-01T00:00:00Z",
            &["2096-02-29T00:00:00"],
        ),
        (
            "0 0 0 31 4,12 * *",
            "2026-01-01T00:00:00Z",
            &["2026-12-31T00:00:00"],
        ),
        ("0 0 0 1 1 * 2020", "2026-01-01T00:00:00Z", &[]),
        (
            "59 59 23 31 12 * 2099",
            "2026-01-01T00:00:00Z",
            &["2099-12-31T23:59:59"],
        ),
        (
            "0 0 0 1 1 * 1970",
            "1969-12-31T00:00:00Z",
            &["1970-01-01T00:00:00"],
        ),
        (
            "0 0 0 1 1 * 2030-2040/5",
            "2026-01-01T00:00:00Z",
            &[
                "2030-01-01T00:00:00",
                "2035-01-01T00:00:00",
                "2040-01-01T00:00:00",
            ],
        ),
    ];
    for (text, after, expected) in utc {
        let whole = expected.iter().map(|one| format!("{one}+00:00"));
        let more = usize::from(expected.len() < 2);
        let found = due(text, "UTC", after, expected.len() + more);
        let whole: Vec<_> = whole.collect();
        assert_eq!(
            found.get(..whole.len()),
            Some(&whole[..]),
            "{text} after {after}"
        );
    }
    for over in [
        "59 59 23 31 12 * 2099",
        "0 0 0 29 2 * *",
        "0 0 0 1 1 * 1970",
    ] {
        assert_eq!(
            due(over, "UTC", "2099-12-31T23:59:59Z", 1),
            Vec::<String>::new(),
            "{over}"
        );
    }
}

#[test]
fn days_start_in_the_configured_time_zone() {
    let rows = [
        (
            "Asia/Shanghai",
            "2026-01-01T00:00:00Z",
            "2026-01-02T00:00:00+08:00",
        ),
        (
            "Asia/Kathmandu",
            "2026-01-01T00:00:00Z",
            "2026-01-02T00:00:00+05:45",
        ),
        (
            "Pacific/Kiritimati",
            "2025-12-31T09:59:59Z",
            "2026-01-01T00:00:00+14:00",
        ),
        ("UTC", "2025-12-31T23:59:59Z", "2026-01-01T00:00:00+00:00"),
    ];
    for (name, after, expected) in rows {
        assert_eq!(due("0 0 0 * * * *", name, after, 1), [expected], "{name}");
    }
    // Shanghai had summer time from 1986 to 1991.
    let old = due("0 30 2 * * * *", "Asia/Shanghai", "1987-04-11T00:00:00Z", 2);
    assert_eq!(
        old,
        ["1987-04-12T03:00:00+09:00", "1987-04-13T02:30:00+09:00"]
    );
}

#[test]
fn daylight_saving_change_runs_fixed_hours_once_and_intervals_continuously() {
    const SPRING: &str = "2026-03-08T06:29:59Z";
    const AUTUMN: &str = "2026-11-01T05:00:00Z";
    let new_york: [(&str, &str, &[&str]); 7] = [
        // 2 o'clock is skipped: due at the moment of the change.
        (
            "0 30 2 * * * *",
            SPRING,
            &["2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"],
        ),
        (
            "0 */10 2 * * * *",
            SPRING,
            &["2026-03-08T03:00:00-04:00", "2026-03-09T02:00:00-04:00"],
        ),
        (
            "0 0 2,3 * * * *",
            SPRING,
            &["2026-03-08T03:00:00-04:00", "2026-03-09T02:00:00-04:00"],
        ),
        (
            "0 30 * * * * *",
            SPRING,
            &["2026-03-08T01:30:00-05:00", "2026-03-08T03:30:00-04:00"],
        ),
        // 1 o'clock is repeated.
        (
            "0 30 1 * * * *",
            AUTUMN,
            &["2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"],
        ),
        (
            "0 0 1,2 * * * *",
            "2026-11-01T05:30:00Z",
            &["2026-11-01T02:00:00-05:00", "2026-11-02T01:00:00-05:00"],
        ),
        (
            "0 30 * * * * *",
            AUTUMN,
            &[
                "2026-11-01T01:30:00-04:00",
                "2026-11-01T01:30:00-05:00",
                "2026-11-01T02:30:00-05:00",
            ],
        ),
    ];
    for (text, after, expected) in new_york {
        assert_eq!(
            due(text, "America/New_York", after, expected.len()),
            expected,
            "{text} after {after}"
        );
    }
    // Half an hour on Lord Howe Island, a whole day in Apia.
    let half = due(
        "0 15 2 * * * *",
        "Australia/Lord_Howe",
        "2026-10-03T14:00:00Z",
        2,
    );
    assert_eq!(
        half,
        ["2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"]
    );
    let day = due("0 0 12 * * * *", "Pacific/Apia", "2011-12-30T00:00:00Z", 2);
    assert_eq!(
        day,
        ["2011-12-31T00:00:00+14:00", "2011-12-31T12:00:00+14:00"]
    );
}

#[test]
fn monday_first_shifts_weekday_numbers_not_names() {
    let rows = [
        ("0 0 0 ? * 0 *", "2026-11-30T00:00:00Z"),
        ("0 0 0 ? * 6 *", "2026-11-29T00:00:00Z"),
        ("0 0 0 ? * 5-6 *", "2026-11-28T00:00:00Z"),
        ("0 0 0 ? * SUN *", "2026-11-29T00:00:00Z"),
        ("0 0 0 ? * SAT-SUN *", "2026-11-28T00:00:00Z"),
        ("0 0 0 ? * 4L *", "2026-11-27T00:00:00Z"),
        ("0 0 0 ? * 0#5 *", "2026-11-30T00:00:00Z"),
    ];
    for (text, expected) in rows {
        let cron = Cron::parse(text, WeekdayZero::Monday).expect("an expression");
        let found = cron.next_after(second("2026-11-24T00:00:00Z"), &TimeZone::UTC);
        assert_eq!(found, Some(second(expected)), "{text}");
    }
}

#[test]
fn invalid_expression_is_rejected_naming_the_field() {
    let long = format!("0 0 0 {} * * *", "1,".repeat(300));
    let rows = [
        ("", "cron"),
        ("* * * * * *", "7 fields"),
        ("* * * * * * * *", "7 fields"),
        ("@daily", "7 fields"),
        (long.as_str(), "512"),
        ("60 * * * * * *", "second \"60\""),
        ("-1 * * * * * *", "second"),
        ("+1 * * * * * *", "second"),
        ("1, * * * * * *", "second"),
        ("*/0 * * * * * *", "second \"*/0\""),
        ("*/ * * * * * *", "second"),
        ("5-1 * * * * * *", "second \"5-1\""),
        ("1-2-3 * * * * * *", "second"),
        ("1/2/3 * * * * * *", "second"),
        ("? * * * * * *", "second"),
        ("0 60 * * * * *", "minute"),
        ("0 0 24 * * * *", "hour"),
        ("0 0 0 0 * * *", "day \"0\""),
        ("0 0 0 32 * * *", "day"),
        ("0 0 0 32W * * *", "day"),
        ("0 0 0 W * * *", "day"),
        ("0 0 0 5L * * *", "day"),
        ("0 0 0 1-5W * * *", "day"),
        ("0 0 0 * 0 * *", "month"),
        ("0 0 0 * 13 * *", "month"),
        ("0 0 0 * MON * *", "month"),
        ("0 0 0 * DECEMBER * *", "month"),
        ("0 0 0 * * 7 *", "weekday \"7\""),
        ("0 0 0 * * JAN *", "weekday"),
        ("0 0 0 * * L *", "weekday"),
        ("0 0 0 * * 5#6 *", "weekday"),
        ("0 0 0 * * 5#0 *", "weekday"),
        ("0 0 0 * * #1 *", "weekday"),
        ("0 0 0 * * * 1969", "year"),
        ("0 0 0 * * * 2100", "year"),
        ("0 0 0 30 2 * *", "no such day"),
        ("0 0 0 29 2 ? 2026", "no such day"),
        ("0 0 0 31W 2,4,6,9,11 ? *", "no such day"),
        ("0 0 0 * * * ２０２６", "year"),
    ];
    for (text, part) in rows {
        let refused = Cron::parse(text, WeekdayZero::Sunday)
            .expect_err(text)
            .to_string();
        assert!(refused.contains(part), "{text}: {refused}");
    }
}

#[test]
fn last_run_in_span_matches_stepping() {
    let zone = zone("America/New_York");
    let texts = [
        "* * * * * * *",
        "0 */7 * * * * *",
        "0 30 1 * * * *",
        "0 0 0 29 2 * *",
        "0 0 12 L * ? *",
        "0 0 0 1 1 * 2020",
    ];
    let begin = second("2026-10-30T00:00:00Z");
    for text in texts {
        let cron = cron(text);
        for span in [0, 1, 59, 60, 3600, 200_000] {
            let mut stepped = None;
            let mut at = begin;
            while let Some(next) = cron
                .next_after(at, &zone)
                .filter(|next| *next <= begin + span)
            {
                (stepped, at) = (Some(next), next);
            }
            assert_eq!(
                cron.last_within(begin, begin + span, &zone),
                stepped,
                "{text} over {span}"
            );
        }
    }
    let leap =
        cron("0 0 0 29 2 * *").last_within(0, second("2026-01-01T00:00:00Z"), &TimeZone::UTC);
    assert_eq!(leap, Some(second("2024-02-29T00:00:00Z")));
}

#[test]
fn arbitrary_input_parses_or_fails_and_next_run_terminates() {
    const PIECES: &[&str] = &[
        "*", "?", "/", "-", ",", "#", "L", "W", "0", "1", "7", "31", "59", "99999", "1970", "2099",
        "SUN", "jan", " ", " ", " ", "é", "\t", "\0",
    ];
    let zone = zone("Europe/Berlin");
    let mut random = seeded::Random::new(1);
    let mut below = |n: usize| random.index(n);
    let mut read = 0;
    for _ in 0..200_000 {
        // Either anything, or seven fields with some unusual ones.
        let text: String = if below(2) == 0 {
            (0..below(30))
                .map(|_| PIECES[below(PIECES.len())])
                .collect()
        } else {
            let mut field = |_| match below(8) {
                0 => PIECES[below(18)].to_owned() + PIECES[below(18)],
                1 => PIECES[below(18)].to_owned(),
                _ => "*".to_owned(),
            };
            (0..7).map(&mut field).collect::<Vec<_>>().join(" ")
        };
        if let Ok(cron) = Cron::parse(&text, WeekdayZero::Monday) {
            read += 1;
            for after in [i64::MIN, -1, 0, 1_795_000_000, 4_102_444_799, i64::MAX] {
                let next = cron.next_after(after, &zone);
                assert!(
                    next.is_none_or(|next| next > after),
                    "{text:?} after {after}"
                );
            }
        }
    }
    assert!(read > 1000, "{read} were read");
}

#[test]
fn fuzzed_expressions_are_due_after_the_given_time_or_refused() {
    let zones = ["UTC", "Asia/Shanghai", "America/New_York", "Pacific/Apia"]
        .map(|name| TimeZone::get(name).expect("a zone"));
    fuzzer::run("cron", 3000, |input| {
        let text = String::from_utf8_lossy(input);
        [WeekdayZero::Sunday, WeekdayZero::Monday].map(|zero| match Cron::parse(&text, zero) {
            Err(refused) => fuzzer::shape(&refused.to_string()),
            Ok(cron) => {
                for zone in &zones {
                    for after in [0, 1_700_000_000, 1_709_164_799, 4_102_444_700] {
                        let Some(due) = cron.next_after(after, zone) else {
                            continue;
                        };
                        assert!(due > after, "{text}: {due} after {after}");
                        assert_eq!(cron.next_after(due - 1, zone), Some(due), "{text}");
                        assert_eq!(cron.last_within(after, due, zone), Some(due), "{text}");
                    }
                }
                format!(
                    "due {:?}",
                    cron.next_after(0, &zones[0]).map(|due| due % 86_400 / 3600)
                )
            }
        })
    });
}
