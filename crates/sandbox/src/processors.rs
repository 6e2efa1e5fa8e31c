//! Allocation of processors to instances that want more CPU time than they may use.

use std::sync::{Arc, Mutex, PoisonError};

/// The host's processors, each with its number of allocations.
#[derive(Debug)]
pub(crate) struct Processors {
    given: Mutex<Vec<(u32, usize)>>,
}

/// An allocation of processors. Released on drop.
#[derive(Debug)]
pub(crate) struct CpuAllocation {
    numbers: Vec<u32>,
    of: Arc<Processors>,
}

impl Processors {
    /// Parses a kernel CPU list such as `0-3,8`.
    pub(crate) fn listed(list: &str) -> Option<Arc<Self>> {
        let mut given = Vec::new();
        for range in list.trim().split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let range: std::ops::RangeInclusive<u32> = first.parse().ok()?..=last.parse().ok()?;
            given.extend(range.map(|number| (number, 0)));
        }
        let given = Mutex::new(given);
        Some(Arc::new(Self { given }))
    }

    /// Allocates the least used processors, enough for `milli` thousandths of one. Returns `None` if that would be all.
    pub(crate) fn give(self: &Arc<Self>, milli: u32) -> Option<CpuAllocation> {
        let count = milli.div_ceil(1000).max(1) as usize;
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if count >= given.len() {
            return None;
        }
        given.sort_unstable_by_key(|(number, held)| (*held, *number));
        let taken = given[..count].iter_mut();
        let numbers = taken.map(|(number, held)| {
            *held += 1;
            *number
        });
        Some(CpuAllocation {
            numbers: numbers.collect(),
            of: self.clone(),
        })
    }

    /// Formats all processors as a kernel CPU list.
    pub(crate) fn all(&self) -> String {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        list(given.iter().map(|(number, _)| *number))
    }
}

impl CpuAllocation {
    /// Returns whether no other processor is used much less.
    pub(crate) fn is_even(&self) -> bool {
        let given = self.of.given.lock().unwrap_or_else(PoisonError::into_inner);
        let held = |own| {
            let of = given
                .iter()
                .filter(move |(number, _)| self.numbers.contains(number) == own);
            of.map(|(_, held)| *held)
        };
        let most = held(true).max().unwrap_or(0);
        held(false).all(|other| most <= other + 1)
    }

    /// Formats the allocation as a kernel CPU list.
    pub(crate) fn list(&self) -> String {
        list(self.numbers.iter().copied())
    }
}

impl Drop for CpuAllocation {
    fn drop(&mut self) {
        let mut given = self.of.given.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, held) in given.iter_mut() {
            *held -= usize::from(self.numbers.contains(number));
        }
    }
}

fn list(numbers: impl Iterator<Item = u32>) -> String {
    let numbers: Vec<_> = numbers.map(|number| number.to_string()).collect();
    numbers.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_used_processors_are_allocated() {
        let processors = Processors::listed("0-2,7\n").expect("a list");
        assert_eq!(processors.all(), "0,1,2,7");
        let give = |milli| processors.give(milli).expect("some");
        let (first, second) = (give(1000), give(2001));
        assert_eq!([first.list(), second.list()], ["0", "1,2,7"]);
        drop(second);
        let second = give(500);
        assert_eq!(second.list(), "1");
        drop(first);
        assert_eq!(give(1).list(), "0");
        assert!(processors.give(3001).is_none(), "all four");
        let mut crowd: Vec<_> = (0..8).map(|_| give(1000)).collect();
        assert!(crowd.iter().all(CpuAllocation::is_even));
        crowd.retain(|given| given.list() != "7");
        assert!(crowd.iter().all(|given| !given.is_even()), "nobody has 7");
        crowd.push(give(1000));
        assert_eq!(crowd.pop().expect("it").list(), "7");
    }

    #[test]
    fn invalid_cpu_list_is_rejected() {
        for text in ["", "a", "1-", "0,,1"] {
            assert!(Processors::listed(text).is_none(), "{text:?}");
        }
    }
}
