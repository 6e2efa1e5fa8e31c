//! Recursion detection: tracks the depth of call chains, so that an endless chain of functions that trigger each other is stopped.
//!
//! A request from outside has depth 0. A request of a function (to the API, to URLs or to buckets) is one deeper than the
//! invocation that it runs. virga recognises such requests by the instance's temporary credentials and by its IP address. Limits:
//! calls through an external service, or with permanent keys over the host's network, count as coming from outside.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use model::RecursionDepth;

/// The registry of running instances with their recursion depth. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct CallChains {
    tables: Arc<RwLock<Tables>>,
}

#[derive(Debug, Default)]
struct Tables {
    keys: HashMap<String, Arc<AtomicU32>>,
    addresses: HashMap<IpAddr, Arc<AtomicU32>>,
}

/// The registration of an instance. Dropping it removes the entry.
#[derive(Debug)]
pub struct ChainMember {
    call_chains: CallChains,
    key: Option<String>,
    address: Option<IpAddr>,
    depth: Arc<AtomicU32>,
}

impl CallChains {
    /// Registers an instance by the key id of its credentials and by its address, as far as it has them.
    pub fn register(&self, key: Option<String>, address: Option<IpAddr>) -> ChainMember {
        let depth = Arc::new(AtomicU32::new(RecursionDepth::default().next().0));
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = &key {
            tables.keys.insert(key.clone(), depth.clone());
        }
        if let Some(address) = address {
            tables.addresses.insert(address, depth.clone());
        }
        ChainMember {
            call_chains: self.clone(),
            key,
            address,
            depth,
        }
    }

    /// Returns the depth of requests signed with a key.
    pub(crate) fn depth_of_key(&self, id: &str) -> RecursionDepth {
        self.read(|tables| tables.keys.get(id))
    }

    /// Returns the depth of requests from an address.
    pub fn depth_of_address(&self, address: IpAddr) -> RecursionDepth {
        self.read(|tables| tables.addresses.get(&address))
    }

    fn read(&self, find: impl FnOnce(&Tables) -> Option<&Arc<AtomicU32>>) -> RecursionDepth {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        find(&tables).map_or(RecursionDepth::default(), |depth| {
            RecursionDepth(depth.load(Ordering::Relaxed))
        })
    }
}

impl ChainMember {
    /// Sets the depth of the invocation that the instance runs. With concurrent requests the last one counts.
    pub fn runs(&self, depth: RecursionDepth) {
        self.depth.store(depth.next().0, Ordering::Relaxed);
    }
}

impl Drop for ChainMember {
    fn drop(&mut self) {
        let mut tables = self
            .call_chains
            .tables
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = &self.key {
            unregister(&mut tables.keys, key, &self.depth);
        }
        if let Some(address) = &self.address {
            unregister(&mut tables.addresses, address, &self.depth);
        }
    }
}

/// Removes an entry, unless a later instance has replaced it.
fn unregister<K: Eq + Hash>(table: &mut HashMap<K, Arc<AtomicU32>>, key: &K, own: &Arc<AtomicU32>) {
    if table.get(key).is_some_and(|found| Arc::ptr_eq(found, own)) {
        table.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn requests_of_an_instance_are_one_deeper_than_its_invocation() {
        let address = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 9));
        let call_chains = CallChains::default();
        let member = call_chains.register(Some("key".into()), Some(address));
        let depths = || {
            (
                call_chains.depth_of_key("key").0,
                call_chains.depth_of_address(address).0,
            )
        };
        assert_eq!(depths(), (1, 1));
        member.runs(RecursionDepth(4));
        assert_eq!(depths(), (5, 5));
        // The address is reused before the first instance is dropped.
        let later = call_chains.register(None, Some(address));
        drop(member);
        assert_eq!(depths(), (0, 1));
        drop(later);
        assert_eq!(depths(), (0, 0));
        let outside = call_chains.register(None, None);
        outside.runs(RecursionDepth(u32::MAX));
        assert_eq!(depths(), (0, 0));
    }
}
