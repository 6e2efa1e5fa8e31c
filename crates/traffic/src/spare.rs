//! Spare connections, admitted when there is no capacity for others. They may request `/healthz` and nothing else.
//!
//! There are few. A new one evicts the oldest connection of the source with the most. So a health check from an address
//! of its own is answered, however many connections others open.

use std::collections::VecDeque;

use model::Source;

use super::ledger::ConnectionId;

/// Largest number of spare connections.
const SPARES_MAX: usize = 32;
/// Bytes that one may hold: a short head.
pub(super) const BYTES_MAX: u64 = 96 << 10;

/// The spare connections, the oldest first.
#[derive(Debug)]
pub(super) struct Spares<C>(VecDeque<(ConnectionId, Source, C)>);

impl<C> Spares<C> {
    pub(super) fn new() -> Self {
        Self(VecDeque::with_capacity(SPARES_MAX))
    }

    /// Admits a connection. Returns the evicted one.
    pub(super) fn admit(&mut self, id: ConnectionId, source: Source, connection: C) -> Option<C> {
        let gives_way = (self.0.len() >= SPARES_MAX)
            .then(|| self.largest(source))
            .flatten();
        let gone = gives_way.and_then(|at| self.0.remove(at));
        self.0.push_back((id, source, connection));
        gone.map(|(_, _, connection)| connection)
    }

    /// Returns the oldest connection of the source with the most, counting one more for `next`.
    fn largest(&self, next: Source) -> Option<usize> {
        let of = |source: Source| {
            let own = self.0.iter().filter(|(_, one, _)| *one == source).count();
            own + usize::from(source == next)
        };
        let at = |index: &usize| self.0.get(*index).map_or(0, |(_, source, _)| of(*source));
        // `max_by_key` returns the last of equals, which is the oldest in this order.
        (0..self.0.len()).rev().max_by_key(at)
    }

    pub(super) fn leave(&mut self, id: ConnectionId) {
        self.0.retain(|(one, _, _)| *one != id);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &C> {
        self.0.iter().map(|(_, _, connection)| connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_cannot_evict_the_spare_connections_of_another() {
        let mut spares = Spares::new();
        let mut next = 0;
        let mut come = |spares: &mut Spares<u64>, source: u32| {
            next += 1;
            let gone = spares.admit(ConnectionId::of(next), Source::V4(source), next);
            (next, gone)
        };
        let (asks, _) = come(&mut spares, 1);
        for _ in 0..1000 {
            let (_, gone) = come(&mut spares, 2);
            assert_ne!(gone, Some(asks));
        }
        assert_eq!(spares.all().count(), SPARES_MAX);
        // With many sources the oldest is evicted.
        let (_, gone) = come(&mut spares, 3);
        assert!(gone.is_some_and(|gone| gone != asks));
        for source in 10..10 + 2 * SPARES_MAX as u32 {
            come(&mut spares, source);
        }
        assert!(spares.all().all(|one| *one != asks));
        assert_eq!(spares.all().count(), SPARES_MAX);
        let left: Vec<u64> = spares.all().copied().collect();
        left.iter()
            .for_each(|id| spares.leave(ConnectionId::of(*id)));
        assert_eq!(spares.all().count(), 0);
    }
}
