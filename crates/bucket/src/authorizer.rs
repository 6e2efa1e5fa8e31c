//! Authentication and authorization, as the caller of this crate implements them.

use std::any::Any;
use std::fmt::{self, Debug};
use std::net::IpAddr;
use std::sync::Arc;

/// An authenticated caller.
#[derive(Clone)]
pub struct Principal {
    /// Id of the key that signed the request.
    pub key_id: String,
    /// AppId of the caller's account.
    pub app_id: u64,
    /// Depth in the call chain of functions; 0 for calls from outside.
    pub depth: u32,
    /// The authorizer's own view of the caller.
    pub identity: Arc<dyn Any + Send + Sync>,
}

/// An access key.
pub struct Key {
    /// Secret that signs requests.
    pub secret: String,
    /// Owner of the key.
    pub principal: Principal,
}

/// An action on a bucket or an object, to be authorized.
#[derive(Clone, Copy, Debug)]
pub struct AccessRequest<'a> {
    /// COS's action name without the service, as in `PutObject`.
    pub action: &'a str,
    /// AppId of the account that owns the bucket.
    pub app_id: u64,
    /// Bucket name without the AppId; `None` for the list of buckets.
    pub bucket: Option<&'a str>,
    /// Object key; `None` for the bucket itself.
    pub key: Option<&'a str>,
}

/// Resolves access keys and authorizes actions.
pub trait Authorizer: Debug + Send + Sync + 'static {
    /// Returns a key by its id and session token. `None` if the key does not exist, is disabled or expired, or if the
    /// token belongs to another key.
    fn key(&self, id: &str, token: Option<&str>) -> Option<Key>;

    /// Returns whether a principal may perform an action. It is not called for anonymous requests: the ACLs of the
    /// bucket and the object decide those.
    fn allows(&self, principal: &Principal, access: &AccessRequest<'_>) -> bool;

    /// Returns the call-chain depth of requests from an address. A change gets the depth of its address or of its
    /// principal, whichever is greater.
    fn depth(&self, _from: IpAddr) -> u32 {
        0
    }

    /// Returns the region of all buckets.
    fn region(&self) -> String;

    /// Returns the owner's name in responses about an account's buckets.
    fn owner(&self, app_id: u64) -> String {
        app_id.to_string()
    }

    /// Returns whether requests from an address are accepted. Repeated authentication failures block an address for a
    /// while.
    fn admits(&self, _from: IpAddr) -> bool {
        true
    }

    /// Returns whether a key has authenticated from an address before. Such keys stay accepted while their address is
    /// blocked, because other users may share the address.
    fn has_authenticated(&self, _from: IpAddr, _key: &str) -> bool {
        false
    }

    /// Counts a failed authentication from an address.
    fn record_failure(&self, _from: IpAddr) {}
}

/// Rules of the connection that a request arrived over.
pub trait ConnectionPolicy: Debug + Send + Sync + 'static {
    /// Reports the authenticated caller, before the body is read.
    ///
    /// # Errors
    /// The reason why this connection does not accept the caller.
    fn verified(&self, _principal: &Principal) -> Result<(), String> {
        Ok(())
    }

    /// Starts the memory accounting of one request.
    fn reserve_memory(&self) -> Box<dyn MemoryReservation>;
}

/// A reservation of memory, released on drop.
pub trait MemoryReservation: Debug + Send {
    /// Reserves more bytes. Returns false if the limit is reached.
    fn grow(&mut self, bytes: u64) -> bool;
}

/// A connection without limits.
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
