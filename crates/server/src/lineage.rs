//! How deep in a chain of functions that cause each other something is, so that a chain without an end is ended.
//!
//! What comes from outside has the depth 0. A function's own requests, to the API, to URLs and to buckets, are one deeper
//! than what it runs: virga knows them by the temporary credentials that were made for their instance, and by the instance's
//! address, which is nobody else's. What a function causes by a service outside of virga, or by permanent keys over the
//! host's own network, comes from outside.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// How many functions stand between something and the world outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Depth(pub(crate) u32);

impl Depth {
    /// Of what a function causes while it runs something of this depth.
    fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// The instances that there are. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lineage {
    tables: Arc<RwLock<Tables>>,
}

#[derive(Debug, Default)]
struct Tables {
    keys: HashMap<String, Arc<AtomicU32>>,
    addresses: HashMap<IpAddr, Arc<AtomicU32>>,
}

/// An instance's entry, which goes with it.
#[derive(Debug)]
pub(crate) struct Member {
    lineage: Lineage,
    key: Option<String>,
    address: Option<IpAddr>,
    depth: Arc<AtomicU32>,
}

impl Lineage {
    /// An instance, by the id of its credentials and by its address, as far as it has them.
    pub(crate) fn enter(&self, key: Option<String>, address: Option<IpAddr>) -> Member {
        let depth = Arc::new(AtomicU32::new(Depth::default().next().0));
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = &key {
            tables.keys.insert(key.clone(), depth.clone());
        }
        if let Some(address) = address {
            tables.addresses.insert(address, depth.clone());
        }
        Member {
            lineage: self.clone(),
            key,
            address,
            depth,
        }
    }

    /// The depth of requests that are signed with a key.
    pub(crate) fn of_key(&self, id: &str) -> Depth {
        self.read(|tables| tables.keys.get(id))
    }

    /// The depth of requests from an address.
    pub(crate) fn of_address(&self, address: IpAddr) -> Depth {
        self.read(|tables| tables.addresses.get(&address))
    }

    fn read(&self, find: impl FnOnce(&Tables) -> Option<&Arc<AtomicU32>>) -> Depth {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        find(&tables).map_or(Depth::default(), |depth| {
            Depth(depth.load(Ordering::Relaxed))
        })
    }
}

impl Member {
    /// From now on it runs something of this depth. Where it serves several requests at a time they are of the last one's.
    pub(crate) fn runs(&self, depth: Depth) {
        self.depth.store(depth.next().0, Ordering::Relaxed);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut tables = self
            .lineage
            .tables
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = &self.key {
            leave(&mut tables.keys, key, &self.depth);
        }
        if let Some(address) = &self.address {
            leave(&mut tables.addresses, address, &self.depth);
        }
    }
}

/// Takes an entry away, unless it is a later instance's already.
fn leave<K: Eq + Hash>(table: &mut HashMap<K, Arc<AtomicU32>>, key: &K, own: &Arc<AtomicU32>) {
    if table.get(key).is_some_and(|found| Arc::ptr_eq(found, own)) {
        table.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn what_an_instance_causes_is_one_deeper_than_what_it_runs() {
        let address = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 9));
        let lineage = Lineage::default();
        let member = lineage.enter(Some("key".into()), Some(address));
        let depths = || (lineage.of_key("key").0, lineage.of_address(address).0);
        assert_eq!(depths(), (1, 1));
        member.runs(Depth(4));
        assert_eq!(depths(), (5, 5));
        // The address is another's before the first has gone whole.
        let later = lineage.enter(None, Some(address));
        drop(member);
        assert_eq!(depths(), (0, 1));
        drop(later);
        assert_eq!(depths(), (0, 0));
        let outside = lineage.enter(None, None);
        outside.runs(Depth(u32::MAX));
        assert_eq!(depths(), (0, 0));
    }
}
