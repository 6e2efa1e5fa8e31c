//! The signature of a request, as this crate sees it: it decides when each check runs, a gateway how.

use model::Secret;

/// A signed request of an API. The gateway that received it implements the checks; none has an effect.
///
/// Comparisons of signatures take constant time.
pub trait Signature {
    /// The reason why a check fails.
    type Refused;

    /// Returns the id of the claimed key.
    fn key_id(&self) -> &str;

    /// Returns the session token of temporary credentials, if there is one.
    fn token(&self) -> Option<&str>;

    /// Checks that requests may be signed by this scheme.
    ///
    /// # Errors
    /// The scheme is disabled.
    fn check_scheme(&self) -> Result<(), Self::Refused>;

    /// Checks the service that the signature is for, and that it covers what this service requires. Returns the nonce of a
    /// request that is valid once.
    ///
    /// # Errors
    /// It is for another service, or covers too little.
    fn check_scope(&self) -> Result<Option<Nonce>, Self::Refused>;

    /// Checks the age alone, which is possible before the body was received. Both arguments are in seconds: Unix time, and
    /// the maximum difference from it.
    ///
    /// # Errors
    /// The request is too old, or from the future.
    fn check_age(&self, now: i64, window: i64) -> Result<(), Self::Refused>;

    /// Verifies the age, then the signature.
    ///
    /// # Errors
    /// As [`check_age`](Self::check_age), or the signature does not match the secret.
    fn verify(&self, secret: &Secret, now: i64, window: i64) -> Result<(), Self::Refused>;

    /// Checks that the signature covers everything that determines the action.
    ///
    /// # Errors
    /// It covers less.
    fn check_action_signed(&self) -> Result<(), Self::Refused>;
}

/// The nonce of a request that is valid once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce {
    /// The nonce.
    pub text: String,
    /// The time of the signature, Unix time in seconds.
    pub signed_at: i64,
}
