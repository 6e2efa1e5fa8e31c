//! How many questions for names are under way, of each instance and of all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Questions of one instance that wait for the host's resolvers at a time, connections of its to the name server included.
const OF_INSTANCE: usize = 128;
/// Questions of all instances.
const OF_ALL: usize = 4096;

/// The counters. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A question that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    from: IpAddr,
}

impl Turns {
    /// Counts a question; `None` where its instance, or all together, have too many.
    pub(super) fn take(&self, from: IpAddr) -> Option<Turn> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = counts.values().sum();
        let own = counts.get(&from).copied().unwrap_or_default();
        if own >= OF_INSTANCE || all >= OF_ALL {
            return None;
        }
        counts.insert(from, own + 1);
        let turns = self.clone();
        Some(Turn { turns, from })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let counts = self.turns.0.lock();
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
    fn an_instance_with_many_questions_leaves_room_for_others() {
        let turns = Turns::default();
        let address = |last: u8| IpAddr::from([198, 18, 1, last]);
        let mut held: Vec<_> = (0..OF_INSTANCE)
            .filter_map(|_| turns.take(address(1)))
            .collect();
        assert_eq!(held.len(), OF_INSTANCE);
        assert!(turns.take(address(1)).is_none());
        assert!(turns.take(address(2)).is_some());
        held.pop();
        assert!(turns.take(address(1)).is_some());
        drop(held);
        assert!(turns.0.lock().expect("whole").is_empty());
    }
}
