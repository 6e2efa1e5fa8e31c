//! Temporary credentials: the rights of a role for a limited time.
//!
//! Nothing is stored. The token holds the grant and its expiry under a MAC whose key is derived from the master key. The
//! secret key is derived from the token. So every virga with the master key can verify it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use catalog::MasterKeys;
use hmac::{Hmac, KeyInit, Mac};
use model::{AccountId, RoleName, Secret, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use thiserror::Error;

/// Prefix of the secret ids of temporary credentials.
pub(super) const PREFIX: &str = "AKIDT";

/// The content of a token: a role, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RoleGrant {
    pub(crate) account: AccountId,
    pub(crate) role: RoleName,
    /// Creation time of the role: a later role of the same name is another role.
    pub(crate) role_added: Timestamp,
    /// Unix time, seconds.
    pub(crate) expires: i64,
}

/// Temporary credentials.
#[derive(Clone, Debug)]
pub struct TemporaryCredentials {
    /// The SecretId.
    pub id: String,
    /// The SecretKey.
    pub key: Secret,
    /// The session token.
    pub token: Secret,
    /// Unix time, seconds.
    pub expires: i64,
}

/// The reason why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenFault {
    /// The token was not issued here.
    #[error("the token is truncated, or was not issued by this installation")]
    Invalid,
    /// The token is of other credentials.
    #[error("the token belongs to another secret id")]
    WrongSecretId,
    /// The credentials are no longer valid.
    #[error("the temporary credentials have expired; get new ones")]
    Expired,
}

/// Issues and verifies temporary credentials.
#[derive(Clone)]
pub(crate) struct TokenIssuer {
    /// Keys by the id of their master key; the first one issues.
    keys: Vec<(String, [u8; 32])>,
}

impl std::fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenIssuer")
    }
}

#[derive(Serialize, Deserialize)]
struct Payload {
    #[serde(flatten)]
    grant: RoleGrant,
    nonce: String,
}

impl TokenIssuer {
    pub(crate) fn new(master: &MasterKeys) -> Self {
        let own = |key: &catalog::MasterKey| (key.id().to_owned(), key.derive("token"));
        Self {
            keys: master.all().map(own).collect(),
        }
    }

    /// Issues credentials for a grant. The nonce makes them unique.
    pub(crate) fn issue(&self, grant: &RoleGrant, nonce: [u8; 16]) -> TemporaryCredentials {
        let nonce = hex::encode(nonce);
        let id = format!("{PREFIX}{nonce}");
        let payload = Payload {
            grant: grant.clone(),
            nonce,
        };
        let payload = serde_json::to_vec(&payload).unwrap_or_default();
        let (master, key) = &self.keys[0];
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let token = format!(
            "{master}.{}.{}",
            text(&payload),
            text(&mac(key, MAC, &payload))
        );
        TemporaryCredentials {
            id,
            key: Secret::new(hex::encode(mac(key, SECRET, &payload))),
            token: Secret::new(token),
            expires: grant.expires,
        }
    }

    /// Returns the grant of a token and the secret key that belongs to it.
    pub(crate) fn read(
        &self,
        id: &str,
        token: &str,
        now: i64,
    ) -> Result<(RoleGrant, Secret), TokenFault> {
        let mut parts = token.splitn(3, '.');
        let mut next = || parts.next().ok_or(TokenFault::Invalid);
        let (master, payload, claimed) = (next()?, next()?, next()?);
        let own = self.keys.iter().find(|(id, _)| id == master);
        let (_, key) = own.ok_or(TokenFault::Invalid)?;
        let bytes = |text: &str| {
            URL_SAFE_NO_PAD
                .decode(text)
                .map_err(|_| TokenFault::Invalid)
        };
        let (payload, claimed) = (bytes(payload)?, bytes(claimed)?);
        if !bool::from(mac(key, MAC, &payload).as_slice().ct_eq(&claimed)) {
            return Err(TokenFault::Invalid);
        }
        let secret = Secret::new(hex::encode(mac(key, SECRET, &payload)));
        let payload: Payload = serde_json::from_slice(&payload).map_err(|_| TokenFault::Invalid)?;
        if id.strip_prefix(PREFIX) != Some(payload.nonce.as_str()) {
            return Err(TokenFault::WrongSecretId);
        }
        if payload.grant.expires <= now {
            return Err(TokenFault::Expired);
        }
        Ok((payload.grant, secret))
    }
}

const MAC: &[u8] = b"mac\n";
const SECRET: &[u8] = b"secret\n";

fn mac(key: &[u8], purpose: &[u8], payload: &[u8]) -> [u8; 32] {
    // HMAC takes keys of any length, so this never fails.
    Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| {
            let mac = mac.chain_update(purpose).chain_update(payload);
            mac.finalize().into_bytes().into()
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use catalog::MasterKey;

    use super::*;

    fn issuer(bytes: &[u8]) -> TokenIssuer {
        let mut keys = bytes.iter().map(|byte| MasterKey::new([*byte; 32]));
        TokenIssuer::new(&MasterKeys {
            first: keys.next().expect("a key"),
            older: keys.collect(),
        })
    }

    fn grant() -> RoleGrant {
        RoleGrant {
            account: AccountId(7),
            role: RoleName::parse("reader").expect("a name"),
            role_added: 5,
            expires: 1000,
        }
    }

    #[test]
    fn token_is_valid_until_it_expires() {
        let issued = issuer(&[1]).issue(&grant(), [9; 16]);
        let read = |issuer: &TokenIssuer, now| issuer.read(&issued.id, issued.token.reveal(), now);
        assert_eq!(read(&issuer(&[1]), 999), Ok((grant(), issued.key.clone())));
        // After a rotation of the master key, with and without the old key.
        assert_eq!(
            read(&issuer(&[2, 1]), 999),
            Ok((grant(), issued.key.clone()))
        );
        assert_eq!(read(&issuer(&[2]), 999), Err(TokenFault::Invalid));
        assert_eq!(read(&issuer(&[1]), 1000), Err(TokenFault::Expired));
        let other = issuer(&[1]).issue(&grant(), [8; 16]);
        assert_ne!(other.key, issued.key);
        let swapped = issuer(&[1]).read(&other.id, issued.token.reveal(), 999);
        assert_eq!(swapped, Err(TokenFault::WrongSecretId));
    }

    #[test]
    fn tampered_token_is_invalid() {
        let issued = issuer(&[1]).issue(&grant(), [9; 16]);
        let token = issued.token.reveal();
        let (head, rest) = token.split_once('.').expect("parts");
        let (payload, tag) = rest.split_once('.').expect("parts");
        let richer = URL_SAFE_NO_PAD.decode(payload).expect("base64");
        let richer = String::from_utf8(richer)
            .expect("text")
            .replace("1000", "9999");
        let richer = URL_SAFE_NO_PAD.encode(richer);
        for changed in [
            String::new(),
            head.to_owned(),
            format!("{head}.{payload}"),
            format!("{head}.{payload}."),
            format!("{head}.{richer}.{tag}"),
            format!("x.{payload}.{tag}"),
            format!("{token}x"),
        ] {
            let read = issuer(&[1]).read(&issued.id, &changed, 0);
            assert_eq!(read, Err(TokenFault::Invalid), "{changed}");
        }
    }
}
