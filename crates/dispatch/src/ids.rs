//! Numbers that name things, and a hash that is quick for them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);
    };
}

id! {
    /// Microseconds on a clock that never goes back.
    Time
}
id! {
    /// One revision of one function version; all its instances are alike. Chosen by the driver.
    PoolId
}
id! {
    /// One function: its pools share its limit. Chosen by the driver.
    GroupId
}
id! {
    /// Who pays: an account's groups share its quota.
    AccountId
}
id! {
    /// One instance. Chosen by the machine, never used again.
    InstanceId
}
id! {
    /// One request. Chosen by the driver, never used again.
    Ticket
}
id! {
    /// One timer of a function. Chosen by who keeps the schedule.
    TimerId
}

impl Time {
    /// This long after.
    pub fn after(self, microseconds: u64) -> Self {
        Self(self.0.saturating_add(microseconds))
    }
}

/// A map keyed by one of these numbers. They are not chosen by strangers, so a plain mix is enough.
pub(crate) type Map<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

/// Multiplies and folds.
#[derive(Default)]
pub(crate) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}
