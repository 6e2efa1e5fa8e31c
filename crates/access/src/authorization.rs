//! What an authenticated caller may do: its policy, its rate limits, and calls of functions over HTTP.

use std::net::IpAddr;
use std::sync::Arc;

use model::{AccountId, FunctionKey, Policy, Secret};

use crate::Access;
use crate::action::INVOKE_URL;
use crate::error::{AuthError, Denied, NotAdmitted, PlainRootKey, RateLimited};
use crate::policy_validator::PolicyValidator;
use crate::principal::Principal;
use crate::resource_ref::{Request, ResourceRef};
use crate::signature::Signature;

/// The transport of a request: its source address, and whether others could read it.
#[derive(Clone, Copy, Debug)]
pub struct Transport {
    /// The source address.
    pub from: IpAddr,
    /// Whether the transport is confidential: TLS, or a connection from a function on this host.
    pub private: bool,
}

impl Access {
    /// Checks that a root key did not cross the network in plain text.
    ///
    /// # Errors
    /// [`PlainRootKey`].
    pub fn check_transport(
        &self,
        principal: &Principal,
        transport: Transport,
    ) -> Result<(), PlainRootKey> {
        let open = !transport.private && !transport.from.to_canonical().is_loopback();
        if !open || principal.has_policy() || self.signatures().root_from_anywhere {
            return Ok(());
        }
        Err(PlainRootKey(transport.from.to_canonical()))
    }

    /// Admits a call of an action, or throttles it by the account's rate limit.
    ///
    /// # Errors
    /// [`RateLimited`].
    pub fn admit(&self, principal: &Principal, action: &str) -> Result<(), RateLimited> {
        let limiters = &principal.owner.limiters;
        if limiters.try_acquire(action, || self.now_ns()) {
            return Ok(());
        }
        Err(RateLimited {
            action: action.to_owned(),
            per_second: self.inner.rules.rates.of(action),
        })
    }

    /// Checks the caller's policy against all resources that a request names.
    ///
    /// # Errors
    /// [`Denied`], naming the first resource that is not allowed.
    pub fn authorize(&self, principal: &Principal, request: &Request<'_>) -> Result<(), Denied> {
        principal.authorize(request, self.region())
    }

    /// Checks that each pattern of an account's policy can match something.
    ///
    /// # Errors
    /// The pattern without a match, with the nearest match or the allowed forms.
    pub fn check_policy(&self, account: AccountId, policy: &Policy) -> Result<(), String> {
        let validator = PolicyValidator {
            actions: &self.inner.rules.actions,
            region: self.region(),
            uin: &self.uin(account),
            app_id: account.0,
        };
        validator.check(policy)
    }

    /// Authenticates a signed request to a function's URL and checks that it may call the function.
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub fn admit_to_url<S: Signature>(
        &self,
        request: &S,
        transport: Transport,
        function: &FunctionKey,
    ) -> Result<(), NotAdmitted<S::Refused>> {
        let principal = self.authenticate(request, Some(transport.from))?;
        self.check_transport(&principal, transport)?;
        self.check_call(&principal, function)?;
        if principal.owner.id == function.account {
            Ok(())
        } else {
            Err(NotAdmitted::OtherAccount)
        }
    }

    /// Authenticates a request to an API by a key of the function's account, and checks that the key may call the
    /// function. `verify` gets the key's secret and the Unix time (s).
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub fn admit_to_api<S>(
        &self,
        key: &str,
        verify: impl FnOnce(&Secret, i64) -> Result<(), S>,
        transport: Transport,
        function: &FunctionKey,
    ) -> Result<(), NotAdmitted<S>> {
        let from = transport.from;
        if !self.may_authenticate(from) {
            return Err(AuthError::Blocked.into());
        }
        let now = clock::now_ms() / 1000;
        let verified: Result<Arc<Principal>, AuthError<S>> = match self.key(key, None) {
            None => Err(AuthError::UnknownKey),
            Some((secret, principal)) => verify(&secret, now)
                .map(|()| principal)
                .map_err(AuthError::Signature),
        };
        let principal = verified.inspect_err(|_| self.record_failure(from))?;
        self.check_transport(&principal, transport)?;
        if principal.owner.id != function.account {
            return Err(NotAdmitted::OtherAccount);
        }
        self.check_call(&principal, function)?;
        Ok(())
    }

    /// Checks that the policy allows the call of a function by HTTP.
    fn check_call(&self, principal: &Principal, function: &FunctionKey) -> Result<(), Denied> {
        let (space, name) = (function.namespace.as_str(), function.name.as_str());
        let request = Request {
            action: INVOKE_URL,
            resources: &[ResourceRef::Function { space, name }],
        };
        self.authorize(principal, &request)
    }
}
