//! Which records of a writer were applied.
//!
//! A writer numbers its records and has several under way. One may be lost and sent again after later ones were stored, so remembering
//! the last number would drop it. A [`Window`] remembers the *base*, the lowest number that the writer still waits for, and the numbers
//! from there on that were applied. A record carries the base that its writer had when it was first sent.

use std::collections::BTreeSet;

/// Maximum number of a writer's records from its base on. The writer sends nothing beyond.
pub const WINDOW: u64 = 64;

/// The applied records of one writer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    base: u64,
    applied: BTreeSet<u64>,
}

impl Window {
    /// Takes a record, and returns whether it is to be applied; false for a duplicate.
    ///
    /// A number below the base was answered before, or refused by the log, so it is not stored.
    pub fn admit(&mut self, number: u64, base: u64) -> bool {
        let first = number >= self.base && self.applied.insert(number);
        if base > self.base {
            self.base = base;
            self.applied = self.applied.split_off(&base);
        }
        first
    }

    /// Returns the stored form.
    pub fn encode(&self) -> Vec<u8> {
        let numbers = std::iter::once(&self.base).chain(&self.applied);
        numbers.flat_map(|number| number.to_le_bytes()).collect()
    }

    /// Reads the stored form; `None` if it is none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let base = numbers.next().filter(|_| rest.is_empty())?;
        Some(Self {
            base,
            applied: numbers.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_sent_again_after_a_later_one_is_applied_once() {
        let mut window = Window::default();
        assert!(window.admit(1, 1));
        assert!(window.admit(3, 2), "2 was lost on its way");
        assert!(window.admit(2, 2), "2 is sent again");
        assert!(!window.admit(2, 2), "the lost one arrives after all");
        assert!(!window.admit(3, 2));
        assert!(window.admit(4, 4));
        assert!(!window.admit(2, 2), "very late");
    }

    #[test]
    fn a_raised_floor_forgets_what_is_below_it() {
        let mut window = Window::default();
        for number in 1..=WINDOW {
            assert!(window.admit(number, 1));
        }
        assert!(window.admit(WINDOW + 1, WINDOW + 1));
        assert_eq!(window.applied.len(), 1);
        for number in 0..=WINDOW {
            assert!(!window.admit(number, 1), "{number} was applied");
        }
    }

    #[test]
    fn a_stored_window_is_the_same() {
        let mut window = Window::default();
        for (number, base) in [(1, 1), (4, 2), (3, 2), (9, 3)] {
            window.admit(number, base);
        }
        assert_eq!(Window::decode(&window.encode()), Some(window));
        assert_eq!(Window::decode(b""), None);
        assert_eq!(Window::decode(&[0; 9]), None);
    }
}
