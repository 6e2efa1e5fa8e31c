//! Identifiers, and a fast hash map for them.

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
    /// Microseconds on a monotonic clock.
    Time
}
id! {
    /// A pool: the identical instances of one revision of one function version. Chosen by the driver.
    PoolId
}
id! {
    /// A function, whose pools share its limit. Chosen by the driver.
    GroupId
}
id! {
    /// An account, whose functions share its quota.
    AccountId
}
id! {
    /// An instance. Chosen by the machine and never reused.
    InstanceId
}
id! {
    /// A request. Chosen by the driver and never reused.
    Ticket
}
id! {
    /// A timer trigger of a function. Chosen by the owner of the schedule.
    TimerId
}

impl Time {
    /// Returns the time this much later.
    pub fn after(self, microseconds: u64) -> Self {
        Self(self.0.saturating_add(microseconds))
    }
}

/// A map keyed by an identifier. Users cannot choose the identifiers, so a simple hash is safe.
pub(crate) type Map<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// A multiply-and-fold hasher.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
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
