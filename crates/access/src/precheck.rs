//! Checks of a request's head, before its body is received.

use std::net::IpAddr;

use scf::{Call, Code, Error};

use super::token::PREFIX;
use super::{Access, signing, too_many_failures, unknown_key, version_1_off};

impl Access {
    /// Checks everything that the head reveals: the address is not blocked, the key is known, the signature is not
    /// expired. The signature itself is not verified yet.
    ///
    /// # Errors
    /// As [`Access::authenticate`].
    pub fn precheck(&self, call: &Call<'_>, from: Option<IpAddr>) -> Result<(), Error> {
        let (failures, now) = (&self.inner.failures, self.now_ns());
        if from.is_some_and(|from| !failures.may_authenticate(from, call.secret_id(), now)) {
            return Err(too_many_failures());
        }
        let checked = self.check_head(call);
        if let (Err(_), Some(from)) = (&checked, from) {
            failures.record_failure(from, now);
        }
        checked
    }

    /// Same as [`Access::precheck`], without the source address.
    ///
    /// # Errors
    /// As [`Access::authenticate`].
    pub fn check_head(&self, call: &Call<'_>) -> Result<(), Error> {
        let now = clock::now_ms() / 1000;
        if call.is_version_1() && !self.signatures().version_1 {
            return Err(version_1_off());
        }
        let id = call.secret_id();
        if id.starts_with(PREFIX) {
            let token = call.token.as_deref().unwrap_or_default();
            let read = self.inner.issuer.read(id, token, now);
            read.map_err(|fault| Error::new(Code::TokenFailure, fault.to_string()))?;
        } else if !self.keyring().keys.contains_key(id) {
            return Err(unknown_key());
        }
        if call.version == operator::VERSION {
            signing::check_operator(call)?;
        } else {
            signing::check_service(call)?;
        }
        call.check_age(now, self.signatures().window)
    }
}
