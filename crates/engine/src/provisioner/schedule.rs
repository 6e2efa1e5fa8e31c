//! Scheduled actions, which change the number of provisioned instances at set times.

use dispatch::cron::{Cron, WeekdayZero};
use jiff::tz::TimeZone;
use model::ScheduledAction;

/// Time zone and weekday numbering of cron expressions.
#[derive(Clone, Debug)]
pub struct CronClock {
    /// The time zone of cron expressions.
    pub zone: TimeZone,
    /// The meaning of weekday 0.
    pub weekday_zero: WeekdayZero,
}

impl CronClock {
    /// Returns the number set by the action that was due last, after `since` and up to `now`, in seconds since the Unix
    /// epoch. Of two that were due at the same time, the later one in the list wins.
    pub(super) fn scheduled(
        &self,
        actions: &[ScheduledAction],
        since: i64,
        now: i64,
    ) -> Option<u32> {
        let due = actions.iter().filter_map(|action| {
            let at = self.cron(action)?.last_within(since, now, &self.zone)?;
            Some((at, action.instances))
        });
        due.max_by_key(|(at, _)| *at)
            .map(|(_, instances)| instances)
    }

    /// Returns when the next action is due.
    pub(super) fn next(&self, actions: &[ScheduledAction], now: i64) -> Option<i64> {
        let due = actions
            .iter()
            .filter_map(|action| self.cron(action)?.next_after(now, &self.zone));
        due.min()
    }

    /// Parses an action's expression, which was validated before it was stored.
    fn cron(&self, action: &ScheduledAction) -> Option<Cron> {
        Cron::parse(&action.cron, self.weekday_zero).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Midnight of a Monday in Beijing.
    const MONDAY: i64 = 1_735_488_000;
    const HOUR: i64 = 3600;

    fn action(cron: &str, instances: u32) -> ScheduledAction {
        ScheduledAction {
            name: cron.into(),
            instances,
            cron: cron.into(),
        }
    }

    fn clock() -> CronClock {
        CronClock {
            zone: TimeZone::get("Asia/Shanghai").expect("a zone"),
            weekday_zero: WeekdayZero::Sunday,
        }
    }

    #[test]
    fn last_due_action_applies_until_the_next() {
        let actions = [
            action("0 0 6 * * * *", 30),
            action("0 0 10 * * * *", 80),
            action("0 0 18 * * * *", 40),
            action("0 0 0 * * * *", 0),
        ];
        // Set at five o'clock, before the first action was due.
        let since = MONDAY + 5 * HOUR;
        let rows = [
            (since, None, 6),
            (MONDAY + 6 * HOUR - 1, None, 6),
            (MONDAY + 6 * HOUR, Some(30), 10),
            (MONDAY + 17 * HOUR, Some(80), 18),
            (MONDAY + 20 * HOUR, Some(40), 24),
            (MONDAY + 24 * HOUR, Some(0), 30),
            (
                MONDAY + 1000 * 24 * HOUR + 7 * HOUR,
                Some(30),
                1000 * 24 + 10,
            ),
        ];
        for (now, instances, next) in rows {
            assert_eq!(clock().scheduled(&actions, since, now), instances, "{now}");
            assert_eq!(clock().next(&actions, now), Some(MONDAY + next * HOUR));
        }
    }

    #[test]
    fn one_time_action_applies_forever_and_the_later_of_two_wins() {
        let once = "0 0 8 30 12 * 2024";
        let actions = [action(once, 3), action("0 0 8 30 * * 2024", 5)];
        let much_later = MONDAY + 5000 * 24 * HOUR;
        assert_eq!(clock().scheduled(&actions, MONDAY, much_later), Some(5));
        assert_eq!(clock().next(&actions, much_later), None);
        // Actions that were due before the policy was set do not apply.
        let after = MONDAY + 9 * HOUR;
        assert_eq!(clock().scheduled(&actions, after, much_later), None);
    }
}
