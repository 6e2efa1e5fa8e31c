//! The bucket server's connections: which callers they accept, and how they account memory.

use std::net::IpAddr;
use std::sync::Arc;

use access::{Access, Transport};
use bucket::{ConnectionPolicy, MemoryReservation, Principal};
use model::AccountId;
use traffic::{Connection, Reservation};

/// A connection and its rules.
#[derive(Debug)]
pub(super) struct BucketConnection {
    access: Access,
    from: IpAddr,
    transport: Transport,
    connection: Arc<Connection>,
}

impl BucketConnection {
    pub(super) fn new(
        access: Access,
        from: IpAddr,
        transport: Transport,
        connection: Arc<Connection>,
    ) -> Self {
        Self {
            access,
            from,
            transport,
            connection,
        }
    }
}

impl ConnectionPolicy for BucketConnection {
    fn verified(&self, principal: &Principal) -> Result<(), String> {
        self.access.record_success(self.from, &principal.key_id);
        self.connection.verified(AccountId(principal.app_id));
        let Some(identity) = principal.identity.downcast_ref::<access::Principal>() else {
            return Err("it is not known what the key may do".to_owned());
        };
        let accepted = self.access.check_transport(identity, self.transport);
        accepted.map_err(|refused| refused.to_string())
    }

    fn reserve_memory(&self) -> Box<dyn MemoryReservation> {
        Box::new(RequestMemory {
            connection: self.connection.clone(),
            held: None,
        })
    }
}

/// Memory reserved for a request.
#[derive(Debug)]
struct RequestMemory {
    connection: Arc<Connection>,
    held: Option<Reservation>,
}

impl MemoryReservation for RequestMemory {
    fn grow(&mut self, bytes: u64) -> bool {
        match &mut self.held {
            Some(held) => held.grow(bytes).is_ok(),
            none => {
                *none = self.connection.reserve(bytes).ok();
                none.is_some()
            }
        }
    }
}
