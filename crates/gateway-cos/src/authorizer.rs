//! Authorization for buckets, with the same keys, roles and policies as for functions.

use std::net::IpAddr;
use std::sync::Arc;

use access::Access;
use bucket::{Authorizer, Key, Principal};
use model::AccountId;

use super::permission::may_access;

/// The bucket server's authorizer.
#[derive(Debug)]
pub(crate) struct BucketAuthorizer {
    access: Access,
}

impl BucketAuthorizer {
    pub(crate) fn new(access: Access) -> Self {
        Self { access }
    }
}

impl Authorizer for BucketAuthorizer {
    fn key(&self, id: &str, token: Option<&str>) -> Option<Key> {
        let (secret, identity) = self.access.key(id, token)?;
        let principal = Principal {
            key_id: id.to_owned(),
            app_id: identity.owner.id.0,
            depth: identity.depth.0,
            identity,
        };
        Some(Key {
            secret: secret.reveal().to_owned(),
            principal,
        })
    }

    fn allows(&self, principal: &Principal, access: &bucket::AccessRequest<'_>) -> bool {
        let identity = principal.identity.clone();
        Arc::downcast::<access::Principal>(identity)
            .is_ok_and(|identity| may_access(&identity, self.access.region(), access))
    }

    fn depth(&self, from: IpAddr) -> u32 {
        self.access.call_chains().depth_of_address(from).0
    }

    fn region(&self) -> String {
        self.access.region().to_owned()
    }

    fn owner(&self, app_id: u64) -> String {
        let uin = self.access.uin(AccountId(app_id));
        format!("qcs::cam::uin/{uin}:uin/{uin}")
    }

    fn admits(&self, from: IpAddr) -> bool {
        self.access.may_authenticate(from)
    }

    fn has_authenticated(&self, from: IpAddr, key: &str) -> bool {
        self.access.has_authenticated(from, key)
    }

    fn record_failure(&self, from: IpAddr) {
        self.access.record_failure(from);
    }
}
