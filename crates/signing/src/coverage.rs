//! The parts of a request that its signature must cover, by API and key.
//!
//! Official SDKs sign the host, the content type and the body, so the action of a captured request can be replaced. The
//! operator's API creates keys and does not accept that: its requests are signed for a service of their own, in full,
//! and are valid once.

use scf::{Call, Code, Error};

/// Headers outside the body that change the meaning of a request.
const REQUIRED_HEADERS: [&str; 3] = ["x-tc-action", "x-tc-version", "x-tc-timestamp"];
/// Optional headers of the same kind.
const OPTIONAL_HEADERS: [&str; 2] = ["x-tc-region", "x-tc-token"];
/// The header with the nonce.
const NONCE: &str = "x-tc-nonce";
const NONCE_LENGTH: std::ops::RangeInclusive<usize> = 16..=64;

/// Checks the signed parts of a request to the operator's API. Returns the nonce in lower case.
///
/// # Errors
/// `AuthFailure.SignatureFailure` or `MissingParameter`, naming the header to sign.
pub(crate) fn check_operator(call: &Call<'_>) -> Result<String, Error> {
    let service = operator::SERVICE;
    if call.service() != Some(service) {
        let message = format!(
            "version {} is signed with TC3-HMAC-SHA256 for the service {service}, as Credential=<id>/<date>/{service}/tc3_request; \
             a signature for another service is not taken",
            operator::VERSION
        );
        return Err(refused(message));
    }
    let nonce = call.header(NONCE).ok_or_else(|| {
        let message = "header X-TC-Nonce is missing; send 16 to 64 letters and digits that no other request has, and sign them";
        Error::new(Code::MissingParameter, message)
    })?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if !NONCE_LENGTH.contains(&nonce.len()) || !nonce.bytes().all(plain) {
        let shown: String = nonce.chars().take(80).collect();
        let message = format!(
            "header X-TC-Nonce: {shown:?} is not allowed; 16 to 64 letters, digits, - and _ are"
        );
        return Err(Error::new(Code::InvalidParameter, message));
    }
    check_signed(call, REQUIRED_HEADERS.iter().chain([&NONCE]))?;
    // Header values may be signed in lower case, so case does not make another nonce.
    Ok(nonce.to_ascii_lowercase())
}

/// Checks that a request to another API is not signed for the operator's service.
///
/// # Errors
/// `AuthFailure.SignatureFailure`.
pub(crate) fn check_service(call: &Call<'_>) -> Result<(), Error> {
    if call.service() == Some(operator::SERVICE) {
        let message = format!(
            "the signature is for the service {}, which has version {} alone",
            operator::SERVICE,
            operator::VERSION
        );
        return Err(refused(message));
    }
    Ok(())
}

/// Checks that a signature covers everything that determines the action. Version 1 signs every parameter, and requests
/// to functions' URLs are signed in full.
///
/// # Errors
/// `AuthFailure.SignatureFailure`, naming the header to sign.
pub(crate) fn check_action_signed(call: &Call<'_>) -> Result<(), Error> {
    if call.is_version_1() || call.is_whole() {
        return Ok(());
    }
    check_signed(call, REQUIRED_HEADERS.iter())
}

fn check_signed<'n>(
    call: &Call<'_>,
    needed: impl Iterator<Item = &'n &'n str>,
) -> Result<(), Error> {
    let sent = OPTIONAL_HEADERS
        .iter()
        .filter(|name| call.header(name).is_some());
    let open: Vec<&str> = needed
        .chain(sent)
        .copied()
        .filter(|name| !call.signs(name))
        .collect();
    if !open.is_empty() {
        let message = format!(
            "SignedHeaders must cover {}, too; this key or API requires a signed action",
            open.join(", ")
        );
        return Err(refused(message));
    }
    if !call.is_body_signed() {
        let message = "the body must be signed; remove X-TC-Content-SHA256: UNSIGNED-PAYLOAD";
        return Err(refused(message.to_owned()));
    }
    Ok(())
}

fn refused(message: String) -> Error {
    Error::new(Code::SignatureFailure, message)
}
