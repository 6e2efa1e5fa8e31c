//! Start rate of an account: a token bucket that holds one minute's worth of starts.

use crate::Time;

/// One minute in microseconds.
const MINUTE: u64 = 60_000_000;

/// A token bucket, represented by the time at which it will be full.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TokenBucket {
    full_at: Time,
    /// Whether a timer is set for the next token.
    pub(crate) timer_set: bool,
}

impl TokenBucket {
    /// Returns when a token is available, which may be in the past. Without a rate it always is.
    pub(crate) fn ready_at(&self, per_minute: u32) -> Time {
        let Some(each) = MINUTE.checked_div(per_minute.into()) else {
            return Time(0);
        };
        // One token is available as long as no more than the others are missing.
        Time(
            self.full_at
                .0
                .saturating_sub(each * u64::from(per_minute - 1)),
        )
    }

    /// Takes an available token.
    pub(crate) fn take(&mut self, now: Time, per_minute: u32) {
        if let Some(each) = MINUTE.checked_div(per_minute.into()) {
            self.full_at = self.full_at.max(now).after(each);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bucket: &mut TokenBucket, per_minute: u32, now: u64, wanted: usize) -> usize {
        let mut got = 0;
        while got < wanted && bucket.ready_at(per_minute) <= Time(now) {
            bucket.take(Time(now), per_minute);
            got += 1;
        }
        got
    }

    #[test]
    fn bucket_allows_one_minute_of_burst_then_refills() {
        let mut bucket = TokenBucket::default();
        let hour = 60 * MINUTE;
        assert_eq!(taken(&mut bucket, 500, hour, 1000), 500);
        assert_eq!(taken(&mut bucket, 500, hour + 119_999, 1000), 0);
        assert_eq!(bucket.ready_at(500), Time(hour + 120_000));
        assert_eq!(taken(&mut bucket, 500, hour + 120_000, 1000), 1);
        assert_eq!(taken(&mut bucket, 500, hour + MINUTE / 2, 1000), 249);
        assert_eq!(taken(&mut bucket, 500, 3 * hour, 1000), 500);
    }

    #[test]
    fn zero_rate_is_unlimited() {
        let mut bucket = TokenBucket::default();
        assert_eq!(taken(&mut bucket, 0, 1, 100_000), 100_000);
        assert_eq!(taken(&mut bucket, 1, 1, 10), 1);
    }
}
