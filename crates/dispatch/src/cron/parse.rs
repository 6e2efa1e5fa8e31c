//! Parser of cron expressions.

use thiserror::Error;

use super::expression::{Cron, Days, Weekdays, YEAR_MAX, YEAR_MIN, Years};

/// A parse error: the field, the value and the allowed values.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field} {given:?} is not allowed; {allowed}")]
pub struct CronError {
    field: &'static str,
    given: String,
    allowed: &'static str,
}

impl CronError {
    fn new(field: &'static str, given: &str, allowed: &'static str) -> Self {
        Self {
            field,
            given: given.chars().take(80).collect(),
            allowed,
        }
    }

    pub(super) fn never(text: &str) -> Self {
        Self::new("cron", text, "there is no such day in any of its years")
    }
}

/// The day that weekday 0 stands for. Other numbers follow; names do not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeekdayZero {
    /// As in SCF's current documentation.
    #[default]
    Sunday,
    /// As in SCF's former documentation.
    Monday,
}

/// Maximum length of an expression in bytes. No meaningful one is longer.
const LONGEST: usize = 512;
const MONTHS: &[&str] = &[
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const FROM_SUNDAY: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const FROM_MONDAY: &[&str] = &["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"];

pub(super) fn parse(text: &str, zero: WeekdayZero) -> Result<Cron, CronError> {
    const FIELDS: &str = "7 fields are: second minute hour day month weekday year; or 5: minute hour day month weekday";
    let upper = text.to_ascii_uppercase();
    let fields: Vec<_> = upper.split_ascii_whitespace().collect();
    let [second, minute, hour, day, month, weekday, year] = match *fields {
        _ if text.len() > LONGEST => {
            return Err(CronError::new("cron", text, "up to 512 bytes are"));
        }
        [minute, hour, day, month, weekday] => ["0", minute, hour, day, month, weekday, "*"],
        [second, minute, hour, day, month, weekday, year] => {
            [second, minute, hour, day, month, weekday, year]
        }
        _ => return Err(CronError::new("cron", text, FIELDS)),
    };
    Ok(Cron {
        seconds: bits("second", second, 0, 59, "0 to 59 with , - * / are")?,
        minutes: bits("minute", minute, 0, 59, "0 to 59 with , - * / are")?,
        hours: bits("hour", hour, 0, 23, "0 to 23 with , - * / are")?,
        days: days(day)?,
        months: months(month)?,
        weekdays: weekdays(weekday, zero)?,
        years: years(year)?,
    })
}

/// A field: its range of numbers and their names.
struct Field {
    name: &'static str,
    min: u16,
    max: u16,
    names: &'static [&'static str],
    allowed: &'static str,
    /// Whether a range may wrap around.
    wraps: bool,
}

impl Field {
    fn refuse(&self, given: &str) -> CronError {
        CronError::new(self.name, given, self.allowed)
    }

    /// Parses a number or name of the field.
    fn value(&self, text: &str) -> Result<u16, CronError> {
        let named = self.names.iter().position(|name| *name == text);
        let value = named.map_or_else(|| number(text), |at| Some(self.min + at as u16));
        let fits = value.filter(|value| (self.min..=self.max).contains(value));
        fits.ok_or_else(|| self.refuse(text))
    }

    /// Parses `*`, `3` or `3-5`, optionally with a step: `*/2`, `3-5/2`, or `3/2`, which runs to the end.
    fn item(&self, text: &str, mut each: impl FnMut(u16)) -> Result<(), CronError> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => {
                let step = number(step).filter(|step| *step > 0);
                (range, Some(step.ok_or_else(|| self.refuse(text))?))
            }
            None => (text, None),
        };
        let (low, high) = match range.split_once('-') {
            _ if range == "*" => (self.min, self.max),
            Some((low, high)) => (self.value(low)?, self.value(high)?),
            None => {
                let low = self.value(range)?;
                (low, if step.is_some() { self.max } else { low })
            }
        };
        let count = self.max - self.min + 1;
        let over = low > high;
        if over && !self.wraps {
            return Err(self.refuse(text));
        }
        let last = if over { high + count } else { high };
        let reached = (low..=last).step_by(step.unwrap_or(1).into());
        reached.for_each(|value| each(self.min + (value - self.min) % count));
        Ok(())
    }
}

fn number(text: &str) -> Option<u16> {
    let digits = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn bits(
    name: &'static str,
    text: &str,
    min: u16,
    max: u16,
    allowed: &'static str,
) -> Result<u64, CronError> {
    let field = Field {
        name,
        min,
        max,
        names: &[],
        allowed,
        wraps: false,
    };
    set(&field, text)
}

fn set(field: &Field, text: &str) -> Result<u64, CronError> {
    let mut bits = 0;
    for item in text.split(',') {
        field.item(item, |value| bits |= 1 << value)?;
    }
    Ok(bits)
}

fn months(text: &str) -> Result<u64, CronError> {
    let field = Field {
        name: "month",
        min: 1,
        max: 12,
        names: MONTHS,
        allowed: "1 to 12 and JAN to DEC with , - * / are",
        wraps: false,
    };
    set(&field, text)
}

fn years(text: &str) -> Result<Years, CronError> {
    let field = Field {
        name: "year",
        min: YEAR_MIN as u16,
        max: YEAR_MAX as u16,
        names: &[],
        allowed: "1970 to 2099 with , - * / are",
        wraps: false,
    };
    let mut years = Years::default();
    for item in text.split(',') {
        field.item(item, |year| years.add(year as i16))?;
    }
    Ok(years)
}

fn days(text: &str) -> Result<Days, CronError> {
    let field = Field {
        name: "day",
        min: 1,
        max: 31,
        names: &[],
        allowed: "1 to 31 with , - * /, and ?, L, LW and 1W to 31W are",
        wraps: false,
    };
    let mut days = Days {
        any: text == "*" || text == "?",
        ..Days::default()
    };
    for item in text.split(',').filter(|_| !days.any) {
        match (item, item.strip_suffix('W')) {
            ("L", _) => days.last = true,
            ("LW", _) => days.last_working = true,
            (_, Some(day)) => days.nearest |= 1 << field.value(day)?,
            (_, None) => field.item(item, |day| days.on |= 1 << day)?,
        }
    }
    Ok(days)
}

fn weekdays(text: &str, zero: WeekdayZero) -> Result<Weekdays, CronError> {
    let (names, sunday) = match zero {
        WeekdayZero::Sunday => (FROM_SUNDAY, 0),
        WeekdayZero::Monday => (FROM_MONDAY, 6),
    };
    let field = Field {
        name: "weekday",
        min: 0,
        max: 6,
        names,
        allowed: "0 to 6 and SUN to SAT with , - * /, and ?, 5L for the last and 5#2 for the second of a month are",
        wraps: true,
    };
    let bit = |value: u16| 1 << ((value + 7 - sunday) % 7);
    let mut weekdays = Weekdays {
        any: text == "*" || text == "?",
        ..Weekdays::default()
    };
    for item in text.split(',').filter(|_| !weekdays.any) {
        if let Some(last) = item.strip_suffix('L') {
            weekdays.last |= bit(field.value(last)?);
        } else if let Some((day, nth)) = item.split_once('#') {
            let nth = number(nth).filter(|nth| (1..=5).contains(nth));
            let nth = nth.ok_or_else(|| field.refuse(item))?;
            weekdays.nth[usize::from(nth) - 1] |= bit(field.value(day)?);
        } else {
            field.item(item, |day| weekdays.on |= bit(day))?;
        }
    }
    Ok(weekdays)
}
