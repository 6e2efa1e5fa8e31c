//! SCF's signatures for `access`: signed calls of the API, of the operator's API, and of functions' URLs.
//!
//! Owns what a signature must cover for each API, and the codes of a failed authentication, which the API and functions' URLs
//! share. Never knows keys beyond the one that it verifies with, nor when each check runs: `access` decides that.
#![forbid(unsafe_code)]

mod coverage;
mod error;
pub mod raw;

use access::{Nonce, Signature};
use model::Secret;
use scf::{Call, SecretKeyRef};

pub use self::error::auth_error;

/// A parsed call, as `access` verifies it.
#[derive(Clone, Copy, Debug)]
pub struct SignedCall<'a, 'r> {
    call: &'a Call<'r>,
    version_1: bool,
}

impl<'a, 'r> SignedCall<'a, 'r> {
    /// Wraps a call of the API. `version_1` is whether signatures of version 1 are accepted.
    pub fn new(call: &'a Call<'r>, version_1: bool) -> Self {
        Self { call, version_1 }
    }

    /// Wraps a call of a function's URL, which is never signed with version 1.
    pub fn of_url(call: &'a Call<'r>) -> Self {
        Self::new(call, false)
    }
}

impl Signature for SignedCall<'_, '_> {
    type Refused = scf::Error;

    fn key_id(&self) -> &str {
        self.call.secret_id()
    }

    fn token(&self) -> Option<&str> {
        self.call.token.as_deref()
    }

    fn check_scheme(&self) -> Result<(), scf::Error> {
        if self.call.is_version_1() && !self.version_1 {
            return Err(error::version_1_disabled());
        }
        Ok(())
    }

    fn check_scope(&self) -> Result<Option<Nonce>, scf::Error> {
        if self.call.version != operator::VERSION {
            return coverage::check_service(self.call).map(|()| None);
        }
        let text = coverage::check_operator(self.call)?;
        Ok(Some(Nonce {
            text,
            signed_at: self.call.timestamp,
        }))
    }

    fn check_age(&self, now: i64, window: i64) -> Result<(), scf::Error> {
        self.call.check_age(now, window)
    }

    fn verify(&self, secret: &Secret, now: i64, window: i64) -> Result<(), scf::Error> {
        let secret = SecretKeyRef::new(secret.reveal());
        self.call.verify(secret, now, window)
    }

    fn check_action_signed(&self) -> Result<(), scf::Error> {
        coverage::check_action_signed(self.call)
    }
}
