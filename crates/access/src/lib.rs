//! Authentication and authorisation: accounts, keys, policies and rate limits.
//!
//! All keys are held in memory, ready to verify with. The first call after a change of the catalog rebuilds the keyring.
//! A call costs one look-up and one signature; a key with a policy adds one policy evaluation.
//!
//! Owns who a caller is, what it may do and how often: keys, policies, tokens, nonces, rate limits, and the depth of call
//! chains. Never knows how an action is carried out, nor anything of HTTP but heads, addresses, and whether others could read.
#![forbid(unsafe_code)]

mod call_chains;
mod limits;
pub mod master;
mod nonces;
pub mod objects;
mod policy_validator;
mod precheck;
mod principal;
pub mod raw;
mod resource_ref;
mod rules;
pub mod scope;
mod signing;
mod token;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use catalog::{Catalog, MasterKeys};
use model::{Account, AccountId, AccountName, FunctionKey, Role, RoleName};
use scf::keypair::{self, KeyPair};
use scf::{Call, Code, Error, SecretKey};

pub use self::call_chains::{CallChains, ChainMember};
use self::limits::{AuthFailures, RateLimiters};
pub use self::limits::{RateLimits, parse_rates};
use self::nonces::NonceRefused;
pub use self::nonces::Nonces;
pub use self::policy_validator::PolicyValidator;
pub use self::principal::Principal;
pub(crate) use self::principal::Rights;
pub use self::resource_ref::ResourceRef;
pub use self::rules::{AccessRules, Operator, Signatures};
pub use self::token::TemporaryCredentials;
use self::token::{PREFIX, RoleGrant, TokenIssuer};

/// The transport of a request: its source address, and whether others could read it.
#[derive(Clone, Copy, Debug)]
pub struct Transport {
    /// The source address.
    pub from: IpAddr,
    /// Whether the transport is confidential: TLS, or a connection from a function on this host.
    pub private: bool,
}

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

/// All keys and accounts as of one revision of the catalog.
#[derive(Debug)]
struct Keyring {
    revision: u64,
    keys: HashMap<String, KeyEntry>,
    owners: HashMap<AccountId, Arc<Owner>>,
}

/// A key, ready to verify with.
#[derive(Debug)]
struct KeyEntry {
    secret: SecretKey,
    disabled: bool,
    sign_action: bool,
    principal: Arc<Principal>,
}

/// An account with its rate limiters.
#[derive(Debug)]
pub struct Owner {
    /// The AppId.
    pub id: AccountId,
    /// The Uin.
    pub uin: String,
    limiters: RateLimiters,
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
        let empty = Keyring {
            revision: 0,
            keys: HashMap::new(),
            owners: HashMap::new(),
        };
        let inner = Inner {
            keyring: RwLock::new(Arc::new(read(&catalog, &operator, &rules, &empty))),
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

    /// Checks that a root key did not cross the network in plain text.
    ///
    /// # Errors
    /// `UnauthorizedOperation`.
    pub fn check_transport(
        &self,
        principal: &Principal,
        transport: Transport,
    ) -> Result<(), Error> {
        let open = !transport.private && !transport.from.to_canonical().is_loopback();
        if !open || principal.has_policy() || self.signatures().root_from_anywhere {
            return Ok(());
        }
        let message = format!(
            "root keys are not taken over plain HTTP from other hosts, as {}; use TLS (tls_listen), a key with a policy, or a tunnel to \
             the loopback. Where a proxy on another host ends TLS, start virga with --root-http all",
            transport.from.to_canonical()
        );
        Err(Error::new(Code::UnauthorizedOperation, message))
    }

    /// Returns the region in the names of resources.
    pub fn region(&self) -> &str {
        &self.inner.rules.region
    }

    /// Verifies the signature of a request. A source address with too many failures is blocked for a while.
    ///
    /// # Errors
    /// `AuthFailure…`, or `RequestLimitExceeded`.
    pub fn authenticate(
        &self,
        call: &Call<'_>,
        from: Option<IpAddr>,
    ) -> Result<Arc<Principal>, Error> {
        let now = self.now_ns();
        let failures = &self.inner.failures;
        let Some(from) = from else {
            return self.verify(call);
        };
        let id = call.secret_id();
        if !failures.may_authenticate(from, id, now) {
            return Err(too_many_failures());
        }
        let verified = self.verify(call);
        match &verified {
            Ok(_) => failures.record_success(from, id),
            Err(_) => {
                let is_blocked = failures.is_blocked(from, now);
                failures.record_failure(from, now);
                if is_blocked {
                    return Err(too_many_failures());
                }
            }
        }
        verified
    }

    fn verify(&self, call: &Call<'_>) -> Result<Arc<Principal>, Error> {
        if call.is_version_1() && !self.signatures().version_1 {
            return Err(version_1_off());
        }
        if call.version != operator::VERSION {
            signing::check_service(call)?;
            return self.verify_signature(call);
        }
        let nonce = signing::check_operator(call)?;
        let principal = self.verify_signature(call)?;
        // The nonce is consumed after the signature check, so that only the holder of a key can fill its nonce table.
        self.consume_nonce(call, &nonce)?;
        Ok(principal)
    }

    /// Consumes the nonce of a request whose signature is valid.
    fn consume_nonce(&self, call: &Call<'_>, nonce: &str) -> Result<(), Error> {
        let now = clock::now_ms() / 1000;
        let until = call.timestamp.saturating_add(self.signatures().window);
        let taken = self.inner.nonces.take(call.secret_id(), nonce, until, now);
        taken.map_err(|why| match why {
            NonceRefused::Used => {
                let message = "header X-TC-Nonce: the key has used it before; sign each request with a new one";
                Error::new(Code::SignatureFailure, message)
            }
            NonceRefused::Many => {
                let message =
                    "the key has used the maximum number of nonces within the signature window; try again in some minutes";
                Error::new(Code::RequestLimitExceeded, message)
            }
        })
    }

    /// Waits until the nonces consumed so far are on stable storage, so that none can be replayed after a loss of power.
    pub async fn sync_nonces(&self) {
        self.inner.nonces.sync().await;
    }

    fn verify_signature(&self, call: &Call<'_>) -> Result<Arc<Principal>, Error> {
        let keyring = self.keyring();
        if call.secret_id().starts_with(PREFIX) {
            return self.verify_temporary(&keyring, call);
        }
        let Some(entry) = keyring.keys.get(call.secret_id()) else {
            return Err(unknown_key());
        };
        if call.token.is_some() {
            let message = "a permanent secret id takes no token; remove the header X-TC-Token";
            return Err(Error::new(Code::TokenFailure, message));
        }
        let now = clock::now_ms() / 1000;
        call.verify(&entry.secret, now, self.signatures().window)?;
        if entry.sign_action || self.signatures().sign_action {
            signing::check_action_signed(call)?;
        }
        // A caller without the key does not learn that the key is disabled.
        if entry.disabled {
            let message = "the key is disabled; virga key enable turns it on again";
            return Err(Error::new(Code::SecretIdNotFound, message));
        }
        Ok(entry.principal.clone())
    }

    fn verify_temporary(
        &self,
        keyring: &Keyring,
        call: &Call<'_>,
    ) -> Result<Arc<Principal>, Error> {
        let refused = |why: String| Error::new(Code::TokenFailure, why);
        let Some(token) = &call.token else {
            let why = "temporary credentials need a token; send it in the header X-TC-Token";
            return Err(refused(why.into()));
        };
        let now = clock::now_ms() / 1000;
        let (grant, key) = self
            .inner
            .issuer
            .read(call.secret_id(), token, now)
            .map_err(|fault| refused(fault.to_string()))?;
        call.verify(&key, now, self.signatures().window)?;
        let depth = self.inner.call_chains.depth_of_key(call.secret_id());
        let role_principal = self.role_principal(keyring, &grant, depth);
        role_principal.ok_or_else(|| refused(format!("the role {} was deleted", grant.role)))
    }

    /// Returns the principal of a token, if the role still exists.
    fn role_principal(
        &self,
        keyring: &Keyring,
        grant: &RoleGrant,
        depth: model::RecursionDepth,
    ) -> Option<Arc<Principal>> {
        let owner = keyring.owners.get(&grant.account)?;
        let role = self.inner.catalog.role(grant.account, &grant.role)?;
        (role.value.added == grant.role_added)
            .then(|| Principal::within(owner.clone(), Rights::Role(role), depth))
    }

    /// Returns the secret and the principal of a key id. `None` if the key is unknown, disabled or expired, or if the
    /// token belongs to another key.
    pub fn key(&self, id: &str, token: Option<&str>) -> Option<(SecretKey, Arc<Principal>)> {
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

    /// Admits a call of an action, or throttles it by the account's rate limit.
    ///
    /// # Errors
    /// `RequestLimitExceeded`.
    pub fn admit(&self, principal: &Principal, action: &str) -> Result<(), Error> {
        let limiters = &principal.owner.limiters;
        if limiters.try_acquire(action, || self.now_ns()) {
            return Ok(());
        }
        let per_second = self.inner.rules.rates.of(action);
        let message = format!(
            "{action}: up to {per_second} requests a second are allowed to an account; try again in a moment"
        );
        Err(Error::new(Code::RequestLimitExceeded, message))
    }

    /// Authenticates a signed request to a function's URL and checks that it may call the function. Returns the caller's
    /// account; the caller compares it with the function's.
    ///
    /// # Errors
    /// `AuthFailure…`, `RequestLimitExceeded` or `UnauthorizedOperation`.
    pub fn admit_to_url(
        &self,
        call: &Call<'_>,
        transport: Transport,
        function: &FunctionKey,
    ) -> Result<AccountId, Error> {
        let principal = self.authenticate(call, Some(transport.from))?;
        self.check_transport(&principal, transport)?;
        let (space, name) = (function.namespace.as_str(), function.name.as_str());
        let path = scope::function(space, name);
        principal.check("scf", scope::INVOKE_URL, self.region(), &path)?;
        Ok(principal.owner.id)
    }

    /// Authenticates a request to an API by a key pair of the function's account, and checks that the key may call the
    /// function.
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub fn admit_to_api(
        &self,
        pair: &KeyPair<'_>,
        transport: Transport,
        function: &FunctionKey,
    ) -> Result<(), NotAdmitted> {
        let from = transport.from;
        if !self.may_authenticate(from) {
            return Err(NotAdmitted::Call(too_many_failures()));
        }
        let known = self.key(pair.id, None).ok_or(keypair::Refused::Unknown);
        let now = clock::now_ms() / 1000;
        let verified =
            known.and_then(|(key, principal)| pair.verify(&key, now).map(|()| principal));
        let principal = verified.inspect_err(|_| self.record_failure(from))?;
        self.check_transport(&principal, transport)?;
        if principal.owner.id != function.account {
            return Err(keypair::Refused::Key.into());
        }
        let path = scope::function(function.namespace.as_str(), function.name.as_str());
        principal.check("scf", scope::INVOKE_URL, self.region(), &path)?;
        Ok(())
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
            *held = Arc::new(read(&inner.catalog, &inner.operator, &inner.rules, &held));
        }
        held.clone()
    }
}

/// The reason why a request signed with a key pair is refused.
#[derive(Debug, thiserror::Error)]
pub enum NotAdmitted {
    /// The signature is missing or invalid.
    #[error(transparent)]
    Signature(#[from] keypair::Refused),
    /// The key may not call the function, or its source address is blocked.
    #[error(transparent)]
    Call(#[from] scf::Error),
}

fn version_1_off() -> scf::Error {
    let message = "signatures of version 1 are disabled (signature_v1); sign with TC3-HMAC-SHA256";
    scf::Error::new(Code::InvalidAuthorization, message)
}

fn unknown_key() -> scf::Error {
    let message = "the secret id is not known here; virga's first is in credentials.json in its data directory, \
                   and virga key list shows all";
    scf::Error::new(Code::SecretIdNotFound, message)
}

fn too_many_failures() -> scf::Error {
    let message = "too many requests of this address could not be authenticated; \
                   check the credentials and try again in a while";
    scf::Error::new(Code::RequestLimitExceeded, message)
}

/// Rebuilds the keyring. Accounts keep their rate limiters.
fn read(catalog: &Catalog, operator: &Operator, rules: &AccessRules, old: &Keyring) -> Keyring {
    let revision = catalog.access_revision();
    let own = &operator.account;
    let stored = catalog.accounts();
    let accounts = stored.iter().map(|stored| &stored.value);
    let owner = |account: &Account| {
        let previous = old.owners.get(&account.id).cloned();
        let uin = account.uin.to_string();
        previous
            .filter(|owner| owner.uin == uin)
            .unwrap_or_else(|| {
                Arc::new(Owner {
                    id: account.id,
                    uin,
                    limiters: RateLimiters::new(&rules.rates),
                })
            })
    };
    // A closed account has no principals.
    let owners: HashMap<_, _> = accounts
        .filter(|account| account.id != own.id && account.closed.is_none())
        .chain([own])
        .map(|account| (account.id, owner(account)))
        .collect();
    let mut keys = HashMap::new();
    for stored in catalog.all_keys() {
        let key = &stored.value;
        let Some(owner) = owners.get(&key.account) else {
            continue;
        };
        let rights = match &key.policy {
            Some(policy) => Rights::Policy(policy.clone()),
            None => Rights::Root,
        };
        let entry = KeyEntry {
            secret: SecretKey::new(key.secret.reveal()),
            disabled: key.disabled,
            sign_action: key.sign_action,
            principal: Principal::new(owner.clone(), rights),
        };
        keys.insert(key.id.to_string(), entry);
    }
    if let Some(owner) = owners.get(&own.id) {
        let entry = KeyEntry {
            secret: operator.credentials.key.clone(),
            disabled: false,
            sign_action: false,
            principal: Principal::new(owner.clone(), Rights::Operator),
        };
        keys.insert(operator.credentials.id.clone(), entry);
    }
    Keyring {
        revision,
        keys,
        owners,
    }
}

/// Returns the configured account, which has no entry in the catalog.
pub fn operator_account(id: AccountId, uin: u64) -> Result<Account, model::Invalid> {
    Ok(Account {
        id,
        uin,
        name: AccountName::parse(OPERATOR_NAME)?,
        added: 0,
        closed: None,
    })
}

/// The name of the configured account.
pub(crate) const OPERATOR_NAME: &str = "operator";
