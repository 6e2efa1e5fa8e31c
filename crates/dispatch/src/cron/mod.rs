//! Cron expressions and their next due time.
//!
//! An expression has SCF's seven fields, `second minute hour day month weekday year`, or the older five, `minute hour
//! day month weekday`, which are due at second 0. It is parsed once into bit sets of about 80 bytes, so that 100,000 of
//! them are cheap. The search for the next time steps through months and bits instead of seconds.
//!
//! If both day and weekday are given, a day that matches either is due. At a daylight saving change:
//! * An expression for every hour (`*`) follows the wall clock: it is due in both passes of a repeated hour, and not in
//!   a skipped one.
//! * An expression for specific hours is due once: in the first pass of a repeated hour, and for a skipped hour at the
//!   moment of the change.

mod expression;
mod parse;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};

pub use expression::Cron;
pub use parse::{CronError, WeekdayZero};

use self::expression::{YEAR_MAX, YEAR_MIN};

const DAY: i64 = 86_400;
impl Cron {
    /// Parses an expression. Rejects one that is never due.
    ///
    /// # Errors
    /// [`CronError`] names the field, the value and the allowed values.
    pub fn parse(text: &str, zero: WeekdayZero) -> Result<Self, CronError> {
        let cron = parse::parse(text, zero)?;
        match cron.next_civil(0, i64::MAX) {
            Some(_) => Ok(cron),
            None => Err(CronError::never(text)),
        }
    }

    /// Returns the first due time after `after` in a time zone, or none up to the end of 2099.
    pub fn next_after(&self, after: i64, zone: &TimeZone) -> Option<i64> {
        let mut from = after.checked_add(1)?;
        // Wall-clock time can differ from UTC by up to a day.
        while from < seconds_of(Date::constant(YEAR_MAX, 12, 31)) + 2 * DAY {
            let stretch = Stretch::around(from, zone);
            if let Some(due) = self.next_within(&stretch, from) {
                return Some(due);
            }
            from = stretch.end?;
        }
        None
    }

    /// Returns the last due time after `after` and up to `until`.
    pub fn last_within(&self, after: i64, until: i64, zone: &TimeZone) -> Option<i64> {
        let next = |from| self.next_after(from, zone).filter(|due| *due <= until);
        let (mut before, mut late) = (after, until);
        let mut last = next(after)?;
        // Bisection: something is due after `before`, and nothing after `late`.
        while before + 1 < late {
            let middle = before + (late - before) / 2;
            match next(middle) {
                Some(due) => (before, last) = (middle.max(due - 1), due),
                None => late = middle,
            }
        }
        Some(last)
    }

    /// Returns the first due time within a period of constant UTC offset.
    fn next_within(&self, stretch: &Stretch, from: i64) -> Option<i64> {
        let mut begin = from + stretch.offset;
        if let Some((start, before)) = stretch.start
            && !self.is_hourly()
        {
            let (old, new) = (start + before, start + stretch.offset);
            if from <= start && old < new && self.next_civil(old, new).is_some() {
                return Some(start);
            }
            begin = begin.max(old);
        }
        let end = stretch.end.map_or(i64::MAX, |end| end + stretch.offset);
        self.next_civil(begin, end)
            .map(|civil| civil - stretch.offset)
    }

    fn is_hourly(&self) -> bool {
        self.hours == (1 << 24) - 1
    }

    /// Returns the first due time from `from` to before `to`, on a clock without offset changes.
    fn next_civil(&self, from: i64, to: i64) -> Option<i64> {
        let at = from.max(0);
        let today = Offset::UTC.to_datetime(Timestamp::from_second(at).ok()?);
        let (mut year, mut month) = (today.year(), today.month());
        let mut days = u64::from(self.days_of(year, month)) >> today.day() << today.day();
        let second = at.rem_euclid(DAY) as u32;
        loop {
            while days != 0 {
                let day = days.trailing_zeros() as i8;
                let midnight = seconds_of(Date::new(year, month, day).ok()?);
                if midnight >= to {
                    return None;
                }
                let earliest = if midnight < at { second } else { 0 };
                if let Some(second) = self.next_time(earliest) {
                    let due = midnight + i64::from(second);
                    return (due < to).then_some(due);
                }
                days &= days - 1;
            }
            (year, month) = if month == 12 {
                (year + 1, 1)
            } else {
                (year, month + 1)
            };
            if year > YEAR_MAX {
                return None;
            }
            days = self.days_of(year, month).into();
        }
    }

    /// Returns the due days of a month; bit 1 is the first day.
    fn days_of(&self, year: i16, month: i8) -> u32 {
        if !(YEAR_MIN..=YEAR_MAX).contains(&year)
            || !self.years.has(year)
            || self.months >> month & 1 == 0
        {
            return 0;
        }
        let Ok(first) = Date::new(year, month, 1) else {
            return 0;
        };
        let length = first.days_in_month() as u8;
        let weekday = |day: u8| (first.weekday().to_sunday_zero_offset() as u8 + day - 1) % 7;
        match (self.days.any, self.weekdays.any) {
            (true, true) => ((1 << length) - 1) << 1,
            (false, true) => self.days.of(length, weekday),
            (true, false) => self.weekdays.of(length, weekday),
            (false, false) => self.days.of(length, weekday) | self.weekdays.of(length, weekday),
        }
    }

    /// Returns the first due time of a day at or after `from`, in seconds since midnight.
    fn next_time(&self, from: u32) -> Option<u32> {
        let (hour, minute, second) = (from / 3600, from / 60 % 60, from % 60);
        let minute_on = |from| Some((next(self.minutes, from)?, next(self.seconds, 0)?));
        let in_minute = || match next(self.seconds, second) {
            Some(second) if self.minutes >> minute & 1 == 1 => Some((minute, second)),
            _ => minute_on(minute + 1),
        };
        let in_hour = || {
            let (minute, second) = in_minute().filter(|_| self.hours >> hour & 1 == 1)?;
            Some((hour, minute, second))
        };
        let later = || {
            let (minute, second) = minute_on(0)?;
            Some((next(self.hours, hour + 1)?, minute, second))
        };
        let (hour, minute, second) = in_hour().or_else(later)?;
        Some(hour * 3600 + minute * 60 + second)
    }
}

/// A period in which a zone's UTC offset is constant.
struct Stretch {
    /// Its start, and the offset before it in seconds.
    start: Option<(i64, i64)>,
    /// Its end, if any.
    end: Option<i64>,
    /// The UTC offset in seconds.
    offset: i64,
}

impl Stretch {
    fn around(at: i64, zone: &TimeZone) -> Self {
        let offset = |at| instant(at).map_or(0, |at| i64::from(zone.to_offset(at).seconds()));
        let mut stretch = Self {
            start: None,
            end: None,
            offset: offset(at),
        };
        if zone.to_fixed_offset().is_ok() {
            return stretch;
        }
        let before = instant(at + 1).and_then(|at| zone.preceding(at).next());
        stretch.start = before.map(|one| {
            let start = one.timestamp().as_second();
            (start, offset(start - 1))
        });
        let after = instant(at).and_then(|at| zone.following(at).next());
        stretch.end = after.map(|one| one.timestamp().as_second());
        stretch
    }
}

fn instant(second: i64) -> Option<Timestamp> {
    Timestamp::from_second(second).ok()
}

/// Returns the date's midnight in UTC.
fn seconds_of(date: Date) -> i64 {
    let midnight = Offset::UTC.to_timestamp(date.at(0, 0, 0, 0));
    midnight.map_or(i64::MAX, |at| at.as_second())
}

/// Returns the first set bit at or above `from`.
fn next(bits: u64, from: u32) -> Option<u32> {
    let rest = bits.checked_shr(from).filter(|rest| *rest != 0)?;
    Some(from + rest.trailing_zeros())
}
