//! The links of instances, by address: which instance a packet comes from, and whether that may go out.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

/// The links. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct InstanceLinks(Arc<Mutex<HashMap<Ipv4Addr, Link>>>);

#[derive(Clone, Copy, Debug)]
struct Link {
    /// Index of the router's end.
    index: u32,
    /// Whether the instance has no public network.
    internal: bool,
}

impl InstanceLinks {
    /// Notes the link of a new instance. It replaces that of an ended one with the same address.
    pub(super) fn add(&self, address: Ipv4Addr, index: u32) {
        let link = Link {
            index,
            internal: false,
        };
        self.lock().insert(address, link);
    }

    /// Marks an instance as one without a public network. Returns the index of its link; `None` if it has none.
    pub(super) fn restrict(&self, address: Ipv4Addr) -> Option<u32> {
        let mut links = self.lock();
        let link = links.get_mut(&address)?;
        link.internal = true;
        Some(link.index)
    }

    /// Returns whether the instance at this address has no public network.
    pub fn is_internal(&self, address: Ipv4Addr) -> bool {
        self.lock().get(&address).is_some_and(|link| link.internal)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Ipv4Addr, Link>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restriction_ends_with_the_instance() {
        let links = InstanceLinks::default();
        let address = Ipv4Addr::new(198, 18, 1, 0);
        assert_eq!(links.restrict(address), None);
        links.add(address, 7);
        assert!(!links.is_internal(address));
        assert_eq!(links.restrict(address), Some(7));
        assert!(links.clone().is_internal(address));
        links.add(address, 8);
        assert!(!links.is_internal(address));
    }
}
