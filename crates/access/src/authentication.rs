//! Who sent a request: the checks of its signature, and their order.

use std::net::IpAddr;
use std::sync::Arc;

use crate::Access;
use crate::error::AuthError;
use crate::keyring::Keyring;
use crate::nonces::NonceRefused;
use crate::principal::Principal;
use crate::signature::{Nonce, Signature};
use crate::token::PREFIX;

impl Access {
    /// Verifies the signature of a request. A source address with too many failures is blocked for a while.
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn authenticate<S: Signature>(
        &self,
        request: &S,
        from: Option<IpAddr>,
    ) -> Result<Arc<Principal>, AuthError<S::Refused>> {
        let now = self.now_ns();
        let failures = &self.inner.failures;
        let Some(from) = from else {
            return self.verify(request);
        };
        let id = request.key_id();
        if !failures.may_authenticate(from, id, now) {
            return Err(AuthError::Blocked);
        }
        let verified = self.verify(request);
        match &verified {
            Ok(_) => failures.record_success(from, id),
            Err(_) => {
                let is_blocked = failures.is_blocked(from, now);
                failures.record_failure(from, now);
                if is_blocked {
                    return Err(AuthError::Blocked);
                }
            }
        }
        verified
    }

    fn verify<S: Signature>(&self, request: &S) -> Result<Arc<Principal>, AuthError<S::Refused>> {
        request.check_scheme().map_err(AuthError::Signature)?;
        let nonce = request.check_scope().map_err(AuthError::Signature)?;
        let principal = self.verify_signature(request)?;
        // The nonce is consumed after the signature check, so that only the holder of a key can fill its nonce table.
        if let Some(nonce) = &nonce {
            self.consume_nonce(request.key_id(), nonce)?;
        }
        Ok(principal)
    }

    /// Consumes the nonce of a request whose signature is valid.
    fn consume_nonce<S>(&self, key: &str, nonce: &Nonce) -> Result<(), AuthError<S>> {
        let now = clock::now_ms() / 1000;
        let until = nonce.signed_at.saturating_add(self.signatures().window);
        let taken = self.inner.nonces.take(key, &nonce.text, until, now);
        taken.map_err(|why| match why {
            NonceRefused::Used => AuthError::NonceUsed,
            NonceRefused::Many => AuthError::NonceLimit,
        })
    }

    fn verify_signature<S: Signature>(
        &self,
        request: &S,
    ) -> Result<Arc<Principal>, AuthError<S::Refused>> {
        let keyring = self.keyring();
        if request.key_id().starts_with(PREFIX) {
            return self.verify_temporary(&keyring, request);
        }
        let Some(entry) = keyring.keys.get(request.key_id()) else {
            return Err(AuthError::UnknownKey);
        };
        if request.token().is_some() {
            return Err(AuthError::TokenUnexpected);
        }
        let now = clock::now_ms() / 1000;
        let verified = request.verify(&entry.secret, now, self.signatures().window);
        verified.map_err(AuthError::Signature)?;
        if entry.sign_action || self.signatures().sign_action {
            let checked = request.check_action_signed();
            checked.map_err(AuthError::Signature)?;
        }
        // A caller without the key does not learn that the key is disabled.
        if entry.disabled {
            return Err(AuthError::DisabledKey);
        }
        Ok(entry.principal.clone())
    }

    fn verify_temporary<S: Signature>(
        &self,
        keyring: &Keyring,
        request: &S,
    ) -> Result<Arc<Principal>, AuthError<S::Refused>> {
        let Some(token) = request.token() else {
            return Err(AuthError::TokenMissing);
        };
        let now = clock::now_ms() / 1000;
        let (grant, secret) = self
            .inner
            .issuer
            .read(request.key_id(), token, now)
            .map_err(AuthError::Token)?;
        let verified = request.verify(&secret, now, self.signatures().window);
        verified.map_err(AuthError::Signature)?;
        let depth = self.inner.call_chains.depth_of_key(request.key_id());
        let role_principal = self.role_principal(keyring, &grant, depth);
        role_principal.ok_or(AuthError::RoleDeleted(grant.role))
    }

    /// Checks everything that the head reveals: the address is not blocked, the key is known, the signature is not
    /// expired. The signature itself is not verified yet.
    ///
    /// # Errors
    /// As [`Access::authenticate`].
    pub fn precheck<S: Signature>(
        &self,
        request: &S,
        from: Option<IpAddr>,
    ) -> Result<(), AuthError<S::Refused>> {
        let (failures, now) = (&self.inner.failures, self.now_ns());
        if from.is_some_and(|from| !failures.may_authenticate(from, request.key_id(), now)) {
            return Err(AuthError::Blocked);
        }
        let checked = self.check_head(request);
        if let (Err(_), Some(from)) = (&checked, from) {
            failures.record_failure(from, now);
        }
        checked
    }

    /// Same as [`Access::precheck`], without the source address.
    ///
    /// # Errors
    /// As [`Access::authenticate`].
    pub fn check_head<S: Signature>(&self, request: &S) -> Result<(), AuthError<S::Refused>> {
        let now = clock::now_ms() / 1000;
        request.check_scheme().map_err(AuthError::Signature)?;
        let id = request.key_id();
        if id.starts_with(PREFIX) {
            let token = request.token().unwrap_or_default();
            let read = self.inner.issuer.read(id, token, now);
            read.map_err(AuthError::Token)?;
        } else if !self.keyring().keys.contains_key(id) {
            return Err(AuthError::UnknownKey);
        }
        request.check_scope().map_err(AuthError::Signature)?;
        let checked = request.check_age(now, self.signatures().window);
        checked.map_err(AuthError::Signature)
    }
}
