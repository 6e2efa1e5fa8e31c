//! A parsed expression: sets of bits for each field.

pub(super) const YEAR_MIN: i16 = 1970;

pub(super) const YEAR_MAX: i16 = 2099;

/// A cron expression. Times are whole seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    pub(super) seconds: u64,
    pub(super) minutes: u64,
    pub(super) hours: u64,
    pub(super) days: Days,
    pub(super) months: u64,
    pub(super) weekdays: Weekdays,
    pub(super) years: Years,
}

/// Days of the month. Bit 1 is the first day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Days {
    /// `*` or `?`: the weekday alone decides.
    pub(super) any: bool,
    pub(super) on: u32,
    /// `15W`: the weekday (Monday to Friday) nearest to the 15th in the same month.
    pub(super) nearest: u32,
    /// `L`: the last day of the month.
    pub(super) last: bool,
    /// `LW`: the last Monday to Friday of the month.
    pub(super) last_working: bool,
}

/// Days of the week. Bit 0 is Sunday.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Weekdays {
    /// `*` or `?`: the day of the month alone decides.
    pub(super) any: bool,
    pub(super) on: u8,
    /// `5L`: the last Friday of the month.
    pub(super) last: u8,
    /// `5#2`: the second Friday of the month.
    pub(super) nth: [u8; 5],
}

/// Years. Bit 0 is 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Years([u64; 3]);

impl Years {
    /// Adds a year.
    pub(super) fn add(&mut self, year: i16) {
        let at = (year - YEAR_MIN) as usize;
        self.0[at / 64] |= 1 << (at % 64);
    }

    /// Returns whether a year is in the set.
    pub(super) fn has(&self, year: i16) -> bool {
        let at = (year - YEAR_MIN) as usize;
        self.0[at / 64] >> (at % 64) & 1 == 1
    }
}

impl Days {
    /// Returns the due days of a month with `length` days; bit 1 is the first day.
    pub(super) fn of(&self, length: u8, weekday: impl Fn(u8) -> u8) -> u32 {
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

/// Returns the Monday to Friday nearest to a day within its month.
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
    /// Returns the due days of a month with `length` days; bit 1 is the first day.
    pub(super) fn of(&self, length: u8, weekday: impl Fn(u8) -> u8) -> u32 {
        let due = |day: &u8| {
            let last = if day + 7 > length { self.last } else { 0 };
            (self.on | last | self.nth[usize::from(day - 1) / 7]) >> weekday(*day) & 1 == 1
        };
        (1..=length)
            .filter(due)
            .fold(0, |days, day| days | 1 << day)
    }
}
