//! External servers that may send notifications, identified by their tokens.

use std::collections::BTreeMap;
use std::fmt;

use model::{AccountId, BucketName};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Minimum token length, so that tokens cannot be guessed.
const TOKEN_MIN: usize = 16;

/// An external server that may send notifications.
#[derive(Clone)]
pub struct EventSource {
    /// Name given by the operator.
    pub name: String,
    /// Hash of the token. The token itself is not stored.
    token: [u8; 32],
    /// Account that owns its buckets.
    pub account: AccountId,
    /// Local bucket names by remote ones. Others keep their names.
    buckets: BTreeMap<String, BucketName>,
}

impl EventSource {
    /// Creates a source.
    ///
    /// # Errors
    /// The token is too weak; the error states the allowed form.
    pub fn new(
        name: String,
        token: &str,
        account: AccountId,
        buckets: BTreeMap<String, BucketName>,
    ) -> Result<Self, String> {
        let fine = token.len() >= TOKEN_MIN && token.bytes().all(|b| b.is_ascii_graphic());
        if !fine {
            return Err(format!(
                "a token has {TOKEN_MIN} or more visible ASCII characters; create one with openssl rand -hex 24"
            ));
        }
        Ok(Self {
            name,
            token: Sha256::digest(token).into(),
            account,
            buckets,
        })
    }

    /// Returns whether two sources have the same token.
    pub fn has_token_of(&self, other: &Self) -> bool {
        self.token.ct_eq(&other.token).into()
    }

    /// Returns the local name of a remote bucket. `None` if no local bucket can have it.
    pub(super) fn bucket(&self, remote_name: &str) -> Option<BucketName> {
        let named = self.buckets.get(remote_name).cloned();
        named.or_else(|| BucketName::of(self.account, remote_name).ok())
    }
}

impl fmt::Debug for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSource")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// All configured event sources.
#[derive(Clone, Debug, Default)]
pub struct EventSources(pub Vec<EventSource>);

impl EventSources {
    /// Returns the source with this token. It always compares all of them, to take constant time.
    pub fn of_token(&self, token: &str) -> Option<&EventSource> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        self.0.iter().fold(None, |found, source| {
            let is_it: bool = source.token.ct_eq(&hash).into();
            if is_it { Some(source) } else { found }
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) const TOKEN: &str = "0123456789abcdef";

    pub(in super::super) fn source(name: &str, token: &str) -> EventSource {
        let buckets = [("Photos.2024", "photos")].map(|(remote_name, here)| {
            (
                remote_name.to_owned(),
                BucketName::parse(here).expect("a name"),
            )
        });
        let account = AccountId(1_250_000_000);
        EventSource::new(name.into(), token, account, buckets.into()).expect("a token")
    }

    #[test]
    fn source_is_found_by_token_and_debug_hides_it() {
        let (one, other) = (source("one", TOKEN), source("other", "fedcba9876543210"));
        let sources = EventSources(vec![one, other]);
        let found = |token| sources.of_token(token).map(|source| source.name.as_str());
        assert_eq!(found(TOKEN), Some("one"));
        assert_eq!(found("fedcba9876543210"), Some("other"));
        assert_eq!((found(""), found("0123456789abcdeF")), (None, None));
        assert!(!format!("{sources:?}").contains("token"));
        for bad in [
            "",
            "0123456789abcde",
            "0123456789abcde\n",
            "0123456789 abcdef",
        ] {
            let made = EventSource::new("x".into(), bad, AccountId(1), BTreeMap::new());
            assert!(made.is_err(), "{bad:?}");
        }
    }
}
