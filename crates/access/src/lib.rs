//! Authentication and authorisation: accounts, keys, policies and rate limits.
//!
//! All keys are held in memory, ready to verify with. The first call after a change of the catalog rebuilds the keyring.
//! A call costs one look-up and one signature; a key with a policy adds one policy evaluation.
//!
//! Owns who a caller is, what it may do and how often: keys, policies, tokens, nonces, rate limits, and the depth of call
//! chains. Never knows an API's wire: a gateway brings a [`Signature`] that checks itself with a key's secret, and a neutral
//! [`Request`] of an action on resources. Never knows how an action is carried out.
#![forbid(unsafe_code)]

mod action;
mod authentication;
mod authorization;
mod call_chains;
mod error;
mod keyring;
mod limits;
pub mod master;
mod nonces;
mod policy_validator;
mod principal;
mod resource_ref;
mod rules;
pub mod scope;
mod signature;
mod token;

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use catalog::{Catalog, MasterKeys};
use model::{AccountId, RecursionDepth, Role, RoleName, Secret};

pub use self::action::{Action, GET_LAYER_VERSION, GET_OBJECT, INVOKE, INVOKE_URL, KnownActions};
pub use self::authorization::Transport;
pub use self::call_chains::{CallChains, ChainMember};
pub use self::error::{AuthError, Denied, NotAdmitted, PlainRootKey, RateLimited};
use self::keyring::Keyring;
pub use self::keyring::operator_account;
use self::limits::AuthFailures;
pub use self::limits::{RateLimits, parse_rates};
pub use self::nonces::Nonces;
use self::principal::Rights;
pub use self::principal::{Owner, Principal};
pub use self::resource_ref::{Request, ResourceRef};
pub use self::rules::{AccessRules, Operator, Signatures};
pub use self::signature::{Nonce, Signature};
use self::token::{PREFIX, RoleGrant, TokenIssuer};
pub use self::token::{TemporaryCredentials, TokenFault};

/// A handle to authentication and authorisation. Clones share the state.
#[derive(Clone, Debug)]
pub struct Access {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    catalog: Catalog,
    operator: Operator,
    rules: AccessRules,
    keyring: RwLock<Arc<Keyring>>,
    failures: AuthFailures,
    nonces: Nonces,
    issuer: TokenIssuer,
    url_key: [u8; 32],
    call_chains: CallChains,
    begun: Instant,
}

impl Access {
    /// Creates the state; keys and accounts are read from the catalog.
    pub fn new(
        catalog: Catalog,
        operator: Operator,
        rules: AccessRules,
        master: &MasterKeys,
        nonces: Nonces,
    ) -> Self {
        let failures = AuthFailures::new(rules.failures);
        let keyring = Keyring::empty().rebuild(&catalog, &operator, &rules);
        let inner = Inner {
            keyring: RwLock::new(Arc::new(keyring)),
            catalog,
            operator,
            rules,
            failures,
            nonces,
            issuer: TokenIssuer::new(master),
            url_key: master.first.derive("package url"),
            call_chains: CallChains::default(),
            begun: Instant::now(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Returns the owner of the installation.
    pub fn operator(&self) -> &Operator {
        &self.inner.operator
    }

    /// Returns the instances, whose credentials carry the recursion depth of a request.
    pub fn call_chains(&self) -> &CallChains {
        &self.inner.call_chains
    }

    /// Returns the key that signs the URLs of packages.
    pub fn url_key(&self) -> &[u8; 32] {
        &self.inner.url_key
    }

    /// Returns an account's role by its name.
    pub fn role(&self, account: AccountId, name: &RoleName) -> Option<Role> {
        let role = self.inner.catalog.role(account, name);
        role.map(|stored| stored.value.clone())
    }

    /// Issues temporary credentials with the rights of a role.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn issue_credentials(
        &self,
        role: &Role,
        span: Duration,
    ) -> Result<TemporaryCredentials, getrandom::Error> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce)?;
        let grant = RoleGrant {
            account: role.account,
            role: role.name.clone(),
            role_added: role.added,
            expires: clock::now_ms() / 1000 + span.as_secs() as i64,
        };
        Ok(self.inner.issuer.issue(&grant, nonce))
    }

    /// Returns the requirements for signatures.
    pub fn signatures(&self) -> &Signatures {
        &self.inner.rules.signatures
    }

    /// Returns the region in the names of resources.
    pub fn region(&self) -> &str {
        &self.inner.rules.region
    }

    /// Waits until the nonces consumed so far are on stable storage, so that none can be replayed after a loss of power.
    pub async fn sync_nonces(&self) {
        self.inner.nonces.sync().await;
    }

    /// Returns the principal of a token, if the role still exists.
    fn role_principal(
        &self,
        keyring: &Keyring,
        grant: &RoleGrant,
        depth: RecursionDepth,
    ) -> Option<Arc<Principal>> {
        let owner = keyring.owners.get(&grant.account)?;
        let role = self.inner.catalog.role(grant.account, &grant.role)?;
        (role.value.added == grant.role_added)
            .then(|| Principal::within(owner.clone(), Rights::Role(role), depth))
    }

    /// Returns the secret and the principal of a key id. `None` if the key is unknown, disabled or expired, or if the
    /// token belongs to another key.
    pub fn key(&self, id: &str, token: Option<&str>) -> Option<(Secret, Arc<Principal>)> {
        let keyring = self.keyring();
        if id.starts_with(PREFIX) {
            let now = clock::now_ms() / 1000;
            let (grant, key) = self.inner.issuer.read(id, token?, now).ok()?;
            let depth = self.inner.call_chains.depth_of_key(id);
            return Some((key, self.role_principal(&keyring, &grant, depth)?));
        }
        let entry = keyring.keys.get(id)?;
        let usable = token.is_none() && !entry.disabled;
        usable.then(|| (entry.secret.clone(), entry.principal.clone()))
    }

    /// Returns whether requests from a source address may authenticate, i.e. the address is not blocked.
    pub fn may_authenticate(&self, from: IpAddr) -> bool {
        !self.inner.failures.is_blocked(from, self.now_ns())
    }

    /// Returns whether a key has authenticated from this address before.
    pub fn has_authenticated(&self, from: IpAddr, key: &str) -> bool {
        self.inner.failures.has_authenticated(from, key)
    }

    /// Records a successful authentication of a key from an address.
    pub fn record_success(&self, from: IpAddr, key: &str) {
        self.inner.failures.record_success(from, key);
    }

    /// Records a failed authentication from an address.
    pub fn record_failure(&self, from: IpAddr) {
        self.inner.failures.record_failure(from, self.now_ns());
    }

    /// Returns the Uin of an account, as its functions see it.
    pub fn uin(&self, account: AccountId) -> String {
        let keyring = self.keyring();
        let owner = keyring.owners.get(&account);
        owner.map_or_else(String::new, |owner| owner.uin.clone())
    }

    /// Returns the nanoseconds since the start.
    fn now_ns(&self) -> u64 {
        self.inner.begun.elapsed().as_nanos() as u64
    }

    fn keyring(&self) -> Arc<Keyring> {
        let inner = &self.inner;
        let revision = inner.catalog.access_revision();
        let held = inner
            .keyring
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if held.revision == revision {
            return held;
        }
        let mut held = inner
            .keyring
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if held.revision < revision {
            *held = Arc::new(held.rebuild(&inner.catalog, &inner.operator, &inner.rules));
        }
        held.clone()
    }
}
