//! Cron expressions, and when one is due next.
//!
//! An expression has SCF's seven fields, `second minute hour day month weekday year`, or its older five, `minute hour day
//! month weekday`, which are due at second 0. It is read once into bit sets of some eighty bytes, so that a hundred
//! thousand of them are no load, and the search for the next time goes by months and bits rather than by seconds.
//!
//! Where both day and weekday are given, a day that fits either is due. Where the clocks of a zone are set:
//! * What names every hour (`*`) follows the clock: through the hour that comes twice it is due in both, and what would
//!   be in the hour that is left out is not due.
//! * What names hours is due once: in the first of two equal hours, and for an hour that is left out at the moment when
//!   the clocks jump over it.

mod parse;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};

pub use parse::{CronError, WeekdayZero};

const DAY: i64 = 86_400;
const YEAR_MIN: i16 = 1970;
const YEAR_MAX: i16 = 2099;

/// A cron expression. Times are whole seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: Days,
    months: u64,
    weekdays: Weekdays,
    years: Years,
}

/// Days of a month. Bit 1 is the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Days {
    /// `*` or `?`: the weekday decides.
    any: bool,
    on: u32,
    /// `15W`: the working day nearest to the 15th, in the same month.
    nearest: u32,
    /// `L`
    last: bool,
    /// `LW`
    last_working: bool,
}

/// Days of a week. Bit 0 is Sunday.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Weekdays {
    /// `*` or `?`: the day of the month decides.
    any: bool,
    on: u8,
    /// `5L`: the last Friday of the month.
    last: u8,
    /// `5#2`: the second Friday of the month.
    nth: [u8; 5],
}

/// Bit 0 is 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Years([u64; 3]);

impl Years {
    fn add(&mut self, year: i16) {
        let at = (year - YEAR_MIN) as usize;
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn has(&self, year: i16) -> bool {
        let at = (year - YEAR_MIN) as usize;
        self.0[at / 64] >> (at % 64) & 1 == 1
    }
}

impl Cron {
    /// Reads an expression. One that is due on no day of any year is refused.
    ///
    /// # Errors
    /// [`CronError`]: which field, what was given and what is allowed.
    pub fn parse(text: &str, zero: WeekdayZero) -> Result<Self, CronError> {
        let cron = parse::read(text, zero)?;
        match cron.next_civil(0, i64::MAX) {
            Some(_) => Ok(cron),
            None => Err(CronError::never(text)),
        }
    }

    /// The first time later than `after` at which it is due by the clocks of a zone; none when there is no more until the
    /// end of 2099.
    pub fn next_after(&self, after: i64, zone: &TimeZone) -> Option<i64> {
        let mut from = after.checked_add(1)?;
        // By the clocks, which may be as much as a day off.
        while from < seconds_of(Date::constant(YEAR_MAX, 12, 31)) + 2 * DAY {
            let stretch = Stretch::around(from, zone);
            if let Some(due) = self.next_within(&stretch, from) {
                return Some(due);
            }
            from = stretch.end?;
        }
        None
    }

    /// The last time at which it is due that is later than `after` and not later than `until`.
    pub fn last_within(&self, after: i64, until: i64, zone: &TimeZone) -> Option<i64> {
        let next = |from| self.next_after(from, zone).filter(|due| *due <= until);
        let (mut before, mut late) = (after, until);
        let mut last = next(after)?;
        // Between `before` and `late` lies the last: after the one something is still due, after the other nothing.
        while before + 1 < late {
            let middle = before + (late - before) / 2;
            match next(middle) {
                Some(due) => (before, last) = (middle.max(due - 1), due),
                None => late = middle,
            }
        }
        Some(last)
    }

    /// Within a stretch of time in which the clocks run evenly.
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

    /// The first time from `from` to before `to` by a clock that is never set.
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

    /// The days of a month on which it is due, the first as bit 1.
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

    /// The first time of a day, in seconds after its midnight, that is not before another.
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

impl Days {
    fn of(&self, length: u8, weekday: impl Fn(u8) -> u8) -> u32 {
        let mut days = self.on & (((1 << length) - 1) << 1);
        if self.last {
            days |= 1 << length;
        }
        if self.last_working {
            days |= 1 << nearest_working(length, length, &weekday);
        }
        for day in (1..=length).filter(|day| self.nearest >> day & 1 == 1) {
            days |= 1 << nearest_working(day, length, &weekday);
        }
        days
    }
}

/// The day from Monday to Friday that is nearest to a day and in its month.
fn nearest_working(day: u8, length: u8, weekday: impl Fn(u8) -> u8) -> u8 {
    match weekday(day) {
        6 if day == 1 => day + 2,
        6 => day - 1,
        0 if day == length => day - 2,
        0 => day + 1,
        _ => day,
    }
}

impl Weekdays {
    fn of(&self, length: u8, weekday: impl Fn(u8) -> u8) -> u32 {
        let due = |day: &u8| {
            let last = if day + 7 > length { self.last } else { 0 };
            (self.on | last | self.nth[usize::from(day - 1) / 7]) >> weekday(*day) & 1 == 1
        };
        (1..=length)
            .filter(due)
            .fold(0, |days, day| days | 1 << day)
    }
}

/// A stretch of time in which a zone's clocks run evenly.
struct Stretch {
    /// When it began, and how far ahead of UTC the clocks were until then, in seconds.
    start: Option<(i64, i64)>,
    /// When it ends; none if it does not.
    end: Option<i64>,
    /// How far ahead of UTC the clocks are, in seconds.
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

/// Its midnight by a clock that shows UTC.
fn seconds_of(date: Date) -> i64 {
    let midnight = Offset::UTC.to_timestamp(date.at(0, 0, 0, 0));
    midnight.map_or(i64::MAX, |at| at.as_second())
}

/// The first bit that is set, from one on.
fn next(bits: u64, from: u32) -> Option<u32> {
    let rest = bits.checked_shr(from).filter(|rest| *rest != 0)?;
    Some(from + rest.trailing_zeros())
}
