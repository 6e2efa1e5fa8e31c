//! Limits concurrent DNS queries, per instance and in total.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Most concurrent forwarded queries and TCP connections of one instance.
const PER_INSTANCE_MAX: usize = 128;
/// Most concurrent queries of all instances.
const TOTAL_MAX: usize = 4096;

/// The counters. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct QueryLimiter(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A counted query, released on drop.
#[derive(Debug)]
pub(super) struct QueryPermit {
    limiter: QueryLimiter,
    from: IpAddr,
}

impl QueryLimiter {
    /// Counts a query. `None` if its instance, or all together, have too many.
    pub(super) fn take(&self, from: IpAddr) -> Option<QueryPermit> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = counts.values().sum();
        let own = counts.get(&from).copied().unwrap_or_default();
        if own >= PER_INSTANCE_MAX || all >= TOTAL_MAX {
            return None;
        }
        counts.insert(from, own + 1);
        let limiter = self.clone();
        Some(QueryPermit { limiter, from })
    }
}

impl Drop for QueryPermit {
    fn drop(&mut self) {
        let counts = self.limiter.0.lock();
        let mut counts = counts.unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.from) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(counts.remove(&self.from)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_instance_cannot_exhaust_the_query_limit() {
        let limiter = QueryLimiter::default();
        let address = |last: u8| IpAddr::from([198, 18, 1, last]);
        let mut held: Vec<_> = (0..PER_INSTANCE_MAX)
            .filter_map(|_| limiter.take(address(1)))
            .collect();
        assert_eq!(held.len(), PER_INSTANCE_MAX);
        assert!(limiter.take(address(1)).is_none());
        assert!(limiter.take(address(2)).is_some());
        held.pop();
        assert!(limiter.take(address(1)).is_some());
        drop(held);
        assert!(limiter.0.lock().expect("whole").is_empty());
    }
}
