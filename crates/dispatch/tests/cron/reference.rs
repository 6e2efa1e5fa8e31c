//! Random expressions, compared with a reference that steps through every minute or day.
//!
//! `CRON_SEEDS` sets the number of expressions; `CRON_SEED` replays a single one.

use std::collections::BTreeSet;

use dispatch::cron::{Cron, WeekdayZero};
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};
use seeded::Random;

const SEEDS: u64 = 400;

/// Returns a number from `low` to `high`.
fn within(random: &mut Random, low: u16, high: u16) -> u16 {
    low + random.below(u64::from(high - low) + 1) as u16
}

/// A field as text, and the numbers that it matches.
struct Field {
    text: String,
    values: BTreeSet<u16>,
}

fn field(random: &mut Random, min: u16, max: u16, any: u64) -> Field {
    if random.below(10) < any {
        return Field {
            text: "*".into(),
            values: (min..=max).collect(),
        };
    }
    let mut items = Vec::new();
    let mut values = BTreeSet::new();
    for _ in 0..=random.below(3) {
        let (low, high) = (within(random, min, max), within(random, min, max));
        let (low, high) = (low.min(high), low.max(high));
        let step = within(random, 1, (max - min).min(20));
        let (text, from, to, by) = match random.below(5) {
            0 => (format!("{low}-{high}"), low, high, 1),
            1 => (format!("{low}-{high}/{step}"), low, high, step),
            2 => (format!("{low}/{step}"), low, max, step),
            3 => (format!("*/{step}"), min, max, step),
            _ => (low.to_string(), low, low, 1),
        };
        items.push(text);
        let mut value = from;
        while value <= to {
            values.insert(value);
            value += by;
        }
    }
    Field {
        text: items.join(","),
        values,
    }
}

/// A special day, as text.
enum Special {
    Last,
    LastWorking,
    Nearest(i8),
    LastWeekday(i8),
    Nth(i8, i8),
}

struct Expression {
    text: String,
    second: Field,
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
    specials: Vec<Special>,
}

impl Expression {
    fn random(random: &mut Random) -> Self {
        let second = field(random, 0, 59, 1);
        let minute = field(random, 0, 59, 3);
        let hour = field(random, 0, 23, 4);
        let mut day = field(random, 1, 31, 5);
        let month = field(random, 1, 12, 7);
        let mut weekday = field(random, 0, 6, 5);
        let mut specials = Vec::new();
        if random.below(3) == 0 {
            let nearest = within(random, 1, 31) as i8;
            let (text, special) = match random.below(3) {
                0 => ("L".into(), Special::Last),
                1 => ("LW".into(), Special::LastWorking),
                _ => (format!("{nearest}W"), Special::Nearest(nearest)),
            };
            add(&mut day, text);
            specials.push(special);
        }
        if random.below(3) == 0 {
            let (day, nth) = (within(random, 0, 6) as i8, within(random, 1, 5) as i8);
            let (text, special) = match random.below(2) {
                0 => (format!("{day}L"), Special::LastWeekday(day)),
                _ => (format!("{day}#{nth}"), Special::Nth(day, nth)),
            };
            add(&mut weekday, text);
            specials.push(special);
        }
        let fields = [&second, &minute, &hour, &day, &month, &weekday].map(|one| one.text.as_str());
        Self {
            text: format!("{} *", fields.join(" ")),
            second,
            minute,
            hour,
            day,
            month,
            weekday,
            specials,
        }
    }

    fn fits_day(&self, date: Date) -> bool {
        if !self.month.values.contains(&(date.month() as u16)) {
            return false;
        }
        let any_day = self.day.text == "*";
        let any_weekday = self.weekday.text == "*";
        let by_day = self.day.values.contains(&(date.day() as u16))
            || self
                .specials
                .iter()
                .any(|special| fits_special_day(special, date));
        let by_weekday = self.weekday.values.contains(&(sunday_zero(date) as u16))
            || self
                .specials
                .iter()
                .any(|special| fits_special_weekday(special, date));
        match (any_day, any_weekday) {
            (true, true) => true,
            (true, false) => by_weekday,
            (false, true) => by_day,
            (false, false) => by_day || by_weekday,
        }
    }

    fn fits_minute(&self, at: DateTime) -> bool {
        self.minute.values.contains(&(at.minute() as u16))
            && self.hour.values.contains(&(at.hour() as u16))
            && self.fits_day(at.date())
    }
}

/// Appends an item to a field, or replaces `*`.
fn add(field: &mut Field, text: String) {
    if field.text == "*" {
        field.values.clear();
        field.text = text;
    } else {
        field.text = format!("{},{text}", field.text);
    }
}

fn sunday_zero(date: Date) -> i8 {
    date.weekday().to_sunday_zero_offset()
}

fn is_working(date: Date) -> bool {
    (1..=5).contains(&sunday_zero(date))
}

fn fits_special_day(special: &Special, date: Date) -> bool {
    let length = date.days_in_month();
    let of_month = (1..=length).filter_map(|day| Date::new(date.year(), date.month(), day).ok());
    let mut working = of_month.filter(|date| is_working(*date));
    match special {
        Special::Last => date.day() == length,
        Special::LastWorking => working.next_back() == Some(date),
        Special::Nearest(day) if *day > length => false,
        Special::Nearest(day) => working.min_by_key(|date| (date.day() - day).abs()) == Some(date),
        _ => false,
    }
}

fn fits_special_weekday(special: &Special, date: Date) -> bool {
    match special {
        Special::LastWeekday(weekday) => {
            sunday_zero(date) == *weekday && date.day() + 7 > date.days_in_month()
        }
        Special::Nth(weekday, nth) => {
            let before = (1..date.day())
                .filter(|day| (date.day() - day) % 7 == 0)
                .count();
            sunday_zero(date) == *weekday && before as i8 + 1 == *nth
        }
        _ => false,
    }
}

/// All due times in a span, found by testing every minute.
fn stepped(expression: &Expression, zone: &TimeZone, from: i64, to: i64) -> BTreeSet<i64> {
    let clock = |at| zone.to_datetime(Timestamp::from_second(at).expect("a time"));
    let hourly = expression.hour.values.len() == 24;
    let mut found = BTreeSet::new();
    let mut before = clock(from - 60);
    for minute in (from..to).step_by(60) {
        let now = clock(minute);
        let again = match zone.to_ambiguous_zoned_datetime(now).offset() {
            AmbiguousOffset::Fold { after, .. } => {
                after == zone.to_offset(Timestamp::from_second(minute).expect("a time"))
            }
            _ => false,
        };
        if expression.fits_minute(now) && (hourly || !again) {
            found.extend(
                expression
                    .second
                    .values
                    .iter()
                    .map(|second| minute + i64::from(*second)),
            );
        }
        let mut missing = before + 1.minute();
        while missing < now && !hourly {
            if expression.fits_minute(missing) {
                found.insert(minute);
            }
            missing += 1.minute();
        }
        before = now;
    }
    found
}

fn seeds() -> Vec<u64> {
    let variable = |name| std::env::var(name).ok()?.parse().ok();
    match variable("CRON_SEED") {
        Some(seed) => vec![seed],
        None => (1..=variable("CRON_SEEDS").unwrap_or(SEEDS)).collect(),
    }
}

/// The due times in a span by the code under test.
fn found(cron: &Cron, zone: &TimeZone, from: i64, to: i64) -> BTreeSet<i64> {
    let next = |after: &i64| cron.next_after(*after, zone).filter(|next| *next < to);
    std::iter::successors(next(&(from - 1)), next).collect()
}

#[test]
fn random_expressions_match_minute_by_minute_reference() {
    // Zones and days around clock changes, and some others.
    let places = [
        ("UTC", "2026-01-30T00:00:00Z"),
        ("Asia/Shanghai", "2028-02-26T00:00:00Z"),
        ("America/New_York", "2026-03-07T00:00:00Z"),
        ("America/New_York", "2026-10-31T00:00:00Z"),
        ("Australia/Lord_Howe", "2026-10-02T00:00:00Z"),
        ("Australia/Lord_Howe", "2026-04-03T00:00:00Z"),
        ("Pacific/Apia", "2011-12-29T00:00:00Z"),
    ];
    for seed in seeds() {
        let mut random = Random::new(seed);
        for _ in 0..8 {
            random.below(2);
        }
        let expression = Expression::random(&mut random);
        let Ok(cron) = Cron::parse(&expression.text, WeekdayZero::Sunday) else {
            continue;
        };
        let (name, from) = places[random.below(places.len() as u64) as usize];
        let zone = TimeZone::get(name).expect("a zone");
        let from: Timestamp = from.parse().expect("a time");
        let (from, to) = (from.as_second(), from.as_second() + 4 * 86_400);
        let expected = stepped(&expression, &zone, from, to);
        let found = found(&cron, &zone, from, to);
        let differing: Vec<_> = expected.symmetric_difference(&found).take(5).collect();
        assert!(
            differing.is_empty(),
            "CRON_SEED={seed}: {} in {name}: {differing:?}",
            expression.text
        );
    }
}

#[test]
fn random_dates_match_century_reference() {
    for seed in seeds() {
        let mut random = Random::new(seed);
        for _ in 0..8 {
            random.below(2);
        }
        let expression = Expression::random(&mut random);
        let days: Vec<_> = expression.text.split(' ').skip(3).collect();
        let text = format!("0 0 0 {}", days.join(" "));
        let mut date = Date::constant(1970, 1, 1);
        let mut expected = BTreeSet::new();
        let mut at = 0;
        while date.year() < 2100 {
            if expression.fits_day(date) {
                expected.insert(at);
            }
            (date, at) = (date.tomorrow().expect("a day"), at + 86_400);
        }
        let found = match Cron::parse(&text, WeekdayZero::Sunday) {
            Ok(cron) => found(&cron, &TimeZone::UTC, 0, i64::MAX),
            Err(_) => BTreeSet::new(),
        };
        let differing: Vec<_> = expected.symmetric_difference(&found).take(5).collect();
        assert!(
            differing.is_empty(),
            "CRON_SEED={seed}: {text}: {differing:?}"
        );
    }
}
