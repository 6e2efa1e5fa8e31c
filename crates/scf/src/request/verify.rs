//! Verification of a call's signature.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::{Call, Parameters, Signature};
use crate::tc3::{Canonical, Claim};
use crate::{Code, Error, SecretKeyRef, tc3, v1};

impl<'a> Call<'a> {
    /// Verifies the signature and its age. `now` is Unix time (s), `window` the maximum clock skew (s).
    ///
    /// # Errors
    /// `AuthFailure.SignatureExpire` or `AuthFailure.SignatureFailure`.
    pub fn verify<'k>(
        &self,
        key: impl Into<SecretKeyRef<'k>>,
        now: i64,
        window: i64,
    ) -> Result<(), Error> {
        self.check_age(now, window)?;
        self.verify_signature(key.into())
    }

    /// Verifies only the age of the signature, which is possible before the body was received.
    ///
    /// # Errors
    /// `AuthFailure.SignatureExpire`.
    pub fn check_age(&self, now: i64, window: i64) -> Result<(), Error> {
        let age = now.saturating_sub(self.timestamp);
        if age.unsigned_abs() > window.unsigned_abs() {
            let message = format!(
                "the timestamp {} is {age} s off the server's clock; up to {window} s are allowed; correct the clock, \
                 or sign the request again",
                self.timestamp
            );
            return Err(Error::new(Code::SignatureExpire, message));
        }
        Ok(())
    }

    fn verify_signature(&self, key: SecretKeyRef<'_>) -> Result<(), Error> {
        let matches = match (&self.signature, &self.parameters) {
            (Signature::Tc3(claim), _) => self.verify_tc3(claim, key)?,
            (
                Signature::V1 {
                    method, signature, ..
                },
                Parameters::Flat(form),
            ) => self.verify_v1(key, *method, signature, &form.pairs),
            (Signature::V1 { .. }, Parameters::Json(_)) => false,
        };
        if matches {
            return Ok(());
        }
        let message = "the signature does not match; check the secret key, and that no proxy changes the Host header \
                       or the body of the request";
        Err(Error::new(Code::SignatureFailure, message))
    }

    fn verify_tc3(&self, claim: &Claim<'_>, key: SecretKeyRef<'_>) -> Result<bool, Error> {
        if claim.scope.date != tc3::date(self.timestamp) {
            let message = "the date in Credential is not the UTC date of X-TC-Timestamp";
            return Err(Error::new(Code::SignatureFailure, message));
        }
        let covered = |name: &str| self.signs(name);
        let typed = if self.whole {
            self.raw.header("Content-Type").is_some()
        } else {
            self.raw.method == "POST"
        };
        if !covered("host") || (typed && !covered("content-type")) {
            let message = "SignedHeaders must cover content-type and host";
            return Err(Error::new(Code::SignatureFailure, message));
        }
        let payload: &[u8] = if !self.is_body_signed() {
            tc3::UNSIGNED_PAYLOAD.as_bytes()
        } else if self.raw.method == "GET" && !self.whole {
            b""
        } else {
            self.raw.body
        };
        let of_body = self.is_body_signed() && (self.raw.method != "GET" || self.whole);
        let payload_hash = match self.digest {
            Some(digest) if of_body => hex::encode(digest),
            _ => hex::encode(Sha256::digest(payload)),
        };
        let matches = |lower: bool, with_port: bool| {
            let headers = self.canonical_headers(claim.signed_headers, lower, with_port)?;
            let canonical = Canonical {
                method: self.raw.method,
                path: self.raw.path,
                query: if self.raw.method == "GET" || self.whole {
                    self.raw.query
                } else {
                    ""
                },
                headers: &headers,
                signed_headers: claim.signed_headers,
                payload_hash: &payload_hash,
            };
            Some(claim.matches(&tc3::sign(key, self.timestamp, &claim.scope, &canonical)))
        };
        let ways = [(false, true), (false, false), (true, true), (true, false)];
        Ok(ways
            .into_iter()
            .any(|(lower, with_port)| matches(lower, with_port).unwrap_or(false)))
    }

    /// Returns `name:value\n` for each signed header; `None` if the request lacks one.
    fn canonical_headers(&self, names: &str, lower: bool, with_port: bool) -> Option<String> {
        let mut text = String::with_capacity(128);
        for name in names.split(';') {
            let mut value = Cow::from(self.raw.header(name)?.trim());
            if name == "host" && !with_port {
                value = without_port(&value).to_owned().into();
            }
            if lower {
                value = value.to_lowercase().into();
            }
            text.extend([name, ":", value.as_ref(), "\n"]);
        }
        Some(text)
    }

    fn verify_v1(
        &self,
        key: SecretKeyRef<'_>,
        method: v1::Method,
        claimed: &[u8],
        pairs: &[(String, String)],
    ) -> bool {
        let Some(host) = self.raw.header("Host") else {
            return false;
        };
        // Some clients replace `_` by `.` in names when they sign.
        let dotted: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (name.replace('_', "."), value.clone()))
            .collect();
        [pairs, &dotted].into_iter().any(|pairs| {
            let pairs = pairs
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()));
            v1::signatures_equal(
                claimed,
                &v1::sign(key, method, self.raw.method, host, self.raw.path, pairs),
            )
        })
    }
}

/// Strips the port from a host. An IPv6 address keeps its brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}
