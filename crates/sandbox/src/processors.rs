//! Allocation of processors to instances that demand more CPU time than their quota.

use std::sync::{Arc, Mutex, PoisonError};

/// The host's processors, each with its number of allocations.
#[derive(Debug)]
pub(crate) struct Processors {
    allocated: Mutex<Vec<(u32, usize)>>,
}

/// An allocation of processors. Released on drop.
#[derive(Debug)]
pub(crate) struct CpuAllocation {
    numbers: Vec<u32>,
    of: Arc<Processors>,
}

impl Processors {
    /// Parses a kernel CPU list such as `0-3,8`.
    pub(crate) fn parse(list: &str) -> Option<Arc<Self>> {
        let mut allocated = Vec::new();
        for range in list.trim().split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let range: std::ops::RangeInclusive<u32> = first.parse().ok()?..=last.parse().ok()?;
            allocated.extend(range.map(|number| (number, 0)));
        }
        let allocated = Mutex::new(allocated);
        Some(Arc::new(Self { allocated }))
    }

    /// Allocates the least used processors, enough for `milli` thousandths of one. Returns `None` if that would be all.
    pub(crate) fn allocate(self: &Arc<Self>, milli: u32) -> Option<CpuAllocation> {
        let count = milli.div_ceil(1000).max(1) as usize;
        let mut allocated = self
            .allocated
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if count >= allocated.len() {
            return None;
        }
        allocated.sort_unstable_by_key(|(number, held)| (*held, *number));
        let taken = allocated[..count].iter_mut();
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
        let allocated = self
            .allocated
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        list(allocated.iter().map(|(number, _)| *number))
    }
}

impl CpuAllocation {
    /// Returns whether no other processor is used much less.
    pub(crate) fn is_even(&self) -> bool {
        let allocated = self
            .of
            .allocated
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let held = |own| {
            let of = allocated
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
        let mut allocated = self
            .of
            .allocated
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (number, held) in allocated.iter_mut() {
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
        let processors = Processors::parse("0-2,7\n").expect("a list");
        assert_eq!(processors.all(), "0,1,2,7");
        let allocate = |milli| processors.allocate(milli).expect("some");
        let (first, second) = (allocate(1000), allocate(2001));
        assert_eq!([first.list(), second.list()], ["0", "1,2,7"]);
        drop(second);
        let second = allocate(500);
        assert_eq!(second.list(), "1");
        drop(first);
        assert_eq!(allocate(1).list(), "0");
        assert!(processors.allocate(3001).is_none(), "all four");
        let mut crowd: Vec<_> = (0..8).map(|_| allocate(1000)).collect();
        assert!(crowd.iter().all(CpuAllocation::is_even));
        crowd.retain(|allocated| allocated.list() != "7");
        assert!(
            crowd.iter().all(|allocated| !allocated.is_even()),
            "nobody has 7"
        );
        crowd.push(allocate(1000));
        assert_eq!(crowd.pop().expect("it").list(), "7");
    }

    #[test]
    fn invalid_cpu_list_is_rejected() {
        for text in ["", "a", "1-", "0,,1"] {
            assert!(Processors::parse(text).is_none(), "{text:?}");
        }
    }
}
