//! Who asks, and whether they may.

use std::any::Any;
use std::fmt::{self, Debug};
use std::net::IpAddr;
use std::sync::Arc;

/// Somebody whose request was verified.
#[derive(Clone)]
pub struct Principal {
    /// The id of the key that signed.
    pub key_id: String,
    /// The number of their account.
    pub app_id: u64,
    /// How deep in a chain of functions that cause each other they are; 0 for the world outside.
    pub depth: u32,
    /// What the gate knows of them.
    pub identity: Arc<dyn Any + Send + Sync>,
}

/// A key that may sign.
pub struct Key {
    /// What it signs with.
    pub secret: String,
    /// Whose it is.
    pub principal: Principal,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct AccessRequest<'a> {
    /// COS's name of the action without its service: `PutObject`.
    pub action: &'a str,
    /// The number of the account that owns the bucket.
    pub app_id: u64,
    /// The bucket's name without the owner's number; none for the list of buckets.
    pub bucket: Option<&'a str>,
    /// The object's key; none for the bucket itself.
    pub key: Option<&'a str>,
}

/// Knows keys and what they may do.
pub trait Authorizer: Debug + Send + Sync + 'static {
    /// A key by its id, and the session token that came with it. None where there is no such key, it is disabled or over,
    /// or the token is not its own.
    fn key(&self, id: &str, token: Option<&str>) -> Option<Key>;

    /// Whether a principal may. Nobody is asked where nobody signed: then the bucket's and the object's own access decide.
    fn allows(&self, principal: &Principal, access: &AccessRequest<'_>) -> bool;

    /// How deep in a chain of functions that cause each other requests from an address are, whoever signs them: a change is as
    /// deep as its address or its principal, whichever is deeper.
    fn depth(&self, _from: IpAddr) -> u32 {
        0
    }

    /// The region that all buckets are in.
    fn region(&self) -> String;

    /// How the answers name the owner of an account's buckets.
    fn owner(&self, app_id: u64) -> String {
        app_id.to_string()
    }

    /// Whether an address is heard. One from which too many requests were not signed well is not, for a while.
    fn admits(&self, _from: IpAddr) -> bool {
        true
    }

    /// Whether a key of an address has signed well before. Who shares an address with others is heard however often those fail.
    fn has_authenticated(&self, _from: IpAddr, _key: &str) -> bool {
        false
    }

    /// Hears that a request of an address was not signed well.
    fn record_failure(&self, _from: IpAddr) {}
}

/// The connection that a request came over.
pub trait ConnectionPolicy: Debug + Send + Sync + 'static {
    /// Hears whose request was verified, before its body is read or anything is done for it.
    ///
    /// # Errors
    /// Why nothing of theirs is taken over this connection.
    fn verified(&self, _principal: &Principal) -> Result<(), String> {
        Ok(())
    }

    /// Begins to count what is held in memory of a request that came over it.
    fn reserve_memory(&self) -> Box<dyn MemoryReservation>;
}

/// Bytes that count as held until this is dropped.
pub trait MemoryReservation: Debug + Send {
    /// Whether so many bytes more may be held.
    fn grow(&mut self, bytes: u64) -> bool;
}

/// A connection over which anybody may hold anything.
#[derive(Clone, Copy, Debug)]
pub struct Unrestricted;

impl ConnectionPolicy for Unrestricted {
    fn reserve_memory(&self) -> Box<dyn MemoryReservation> {
        Box::new(Self)
    }
}

impl MemoryReservation for Unrestricted {
    fn grow(&mut self, _bytes: u64) -> bool {
        true
    }
}

impl Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("key_id", &self.key_id)
            .field("app_id", &self.app_id)
            .finish_non_exhaustive()
    }
}

impl Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}
