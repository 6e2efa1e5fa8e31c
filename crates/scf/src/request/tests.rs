use sha2::{Digest, Sha256};

use super::*;
use crate::CLOCK_SKEW_S;
use crate::action::{GetFunction, Invoke, ListFunctions};
use crate::tc3::ToSign;
use crate::{Bounds, SecretKey};

const NOW: i64 = 1_700_000_000;

fn key() -> SecretKey {
    SecretKey::new("the key")
}

/// Returns the headers of a correctly signed POST.
fn signed(host: &str, signed_host: &str, body: &[u8]) -> Vec<(&'static str, String)> {
    signed_with(host, signed_host, body, &[])
}

/// As [`signed`], with further signed headers.
fn signed_with(
    host: &str,
    signed_host: &str,
    body: &[u8],
    headers: &[(&str, &str)],
) -> Vec<(&'static str, String)> {
    let key = key();
    let authorization = tc3::authorization(&ToSign {
        secret_id: "AKIDtest",
        secret_key: &key,
        service: "scf",
        host: signed_host,
        content_type: "application/json",
        headers,
        payload: body,
        timestamp: NOW,
    });
    vec![
        ("authorization", authorization),
        ("host", host.to_owned()),
        ("content-type", "application/json".to_owned()),
        ("x-tc-action", "GetFunction".to_owned()),
        ("x-tc-version", "2018-04-16".to_owned()),
        ("x-tc-timestamp", NOW.to_string()),
    ]
}

fn with<T>(
    headers: &[(&'static str, String)],
    body: &[u8],
    run: impl FnOnce(Result<Call<'_>, Error>) -> T,
) -> T {
    let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    run(Call::parse(RawRequest {
        method: "POST",
        path: "/",
        query: "",
        headers: &headers,
        body,
    }))
}

fn verify(headers: &[(&'static str, String)], body: &[u8], now: i64) -> Result<(), Code> {
    with(headers, body, |call| {
        call.and_then(|call| call.verify(&key(), now, CLOCK_SKEW_S))
            .map_err(|e| e.code)
    })
}

#[test]
fn signature_verifies_for_every_host_form_of_the_sdks() {
    for (host, signed_host) in [
        ("127.0.0.1:9400", "127.0.0.1:9400"),
        ("127.0.0.1:9400", "127.0.0.1"),
        ("http://127.0.0.1:9400", "http://127.0.0.1:9400"),
        ("LOCALHOST:9400", "localhost:9400"),
    ] {
        assert_eq!(
            verify(&signed(host, signed_host, b"{}"), b"{}", NOW),
            Ok(()),
            "{host} as {signed_host}"
        );
    }
}

#[test]
fn modified_or_expired_request_is_rejected() {
    let good = signed("h", "h", b"{}");
    assert_eq!(
        verify(&good, b"{ }", NOW),
        Err(Code::SignatureFailure),
        "body"
    );
    assert_eq!(
        verify(&signed("h", "g", b"{}"), b"{}", NOW),
        Err(Code::SignatureFailure),
        "host"
    );
    assert_eq!(verify(&good, b"{}", NOW + 300), Ok(()));
    assert_eq!(verify(&good, b"{}", NOW + 301), Err(Code::SignatureExpire));
    assert_eq!(verify(&good, b"{}", NOW - 301), Err(Code::SignatureExpire));
    let mut moved = good.clone();
    moved[5].1 = (NOW - 86_400).to_string();
    assert_eq!(
        verify(&moved, b"{}", NOW - 86_400),
        Err(Code::SignatureFailure),
        "date"
    );
}

#[test]
fn unsigned_payload_requires_its_header() {
    let mut headers = signed("h", "h", tc3::UNSIGNED_PAYLOAD.as_bytes());
    assert_eq!(verify(&headers, b"{}", NOW), Err(Code::SignatureFailure));
    headers.push(("x-tc-content-sha256", tc3::UNSIGNED_PAYLOAD.to_owned()));
    assert_eq!(verify(&headers, b"{}", NOW), Ok(()));
}

#[test]
fn body_can_be_verified_by_digest() {
    let headers = signed("h", "h", b"a large body");
    for (body, right) in [("a large body", true), ("another", false)] {
        let verified = with(&headers, b"", |call| {
            let call = call
                .expect("a call")
                .with_digest(Sha256::digest(body).into());
            call.verify(&key(), NOW, 300)
        });
        assert_eq!(verified.is_ok(), right, "{body}");
    }
    let mut unsigned = signed("h", "h", tc3::UNSIGNED_PAYLOAD.as_bytes());
    unsigned.push(("x-tc-content-sha256", tc3::UNSIGNED_PAYLOAD.to_owned()));
    let verified = with(&unsigned, b"", |call| {
        let call = call.expect("a call").with_digest([7; 32]);
        call.verify(&key(), NOW, 300)
    });
    assert_eq!(verified, Ok(()));
}

#[test]
fn oversized_version_1_forms_are_rejected_before_decoding() {
    let long = "a=1&".repeat(FORM_MAX / 4) + "b";
    let many = "a&".repeat(PAIRS_MAX + 1);
    for (body, code) in [
        (long, Code::RequestSizeLimitExceeded),
        (many, Code::InvalidParameter),
    ] {
        let error = with(&[("host", "h".into())], body.as_bytes(), |call| {
            call.map(drop).expect_err("refused")
        });
        assert_eq!(error.code, code, "{error}");
    }
}

#[test]
fn missing_headers_are_named() {
    for (index, name) in [
        (3, "X-TC-Action"),
        (4, "X-TC-Version"),
        (5, "X-TC-Timestamp"),
    ] {
        let mut headers = signed("h", "h", b"{}");
        headers.remove(index);
        let error = with(&headers, b"{}", |call| {
            call.map(drop).expect_err("a part is missing")
        });
        assert_eq!(
            error,
            Error::new(Code::MissingParameter, format!("header {name} is missing"))
        );
    }
    let error = with(&[("host", "h".into())], b"{}", |call| {
        call.map(drop).expect_err("no signature")
    });
    assert_eq!(error.code, Code::InvalidAuthorization);
}

#[test]
fn invalid_field_is_named_with_the_expected_type() {
    let rows: [(&[u8], Code, &str); 4] = [
        (
            br#"{"Namespace":"x"}"#,
            Code::MissingParameter,
            "FunctionName is missing",
        ),
        (
            br#"{"FunctionName":7}"#,
            Code::InvalidParameter,
            "FunctionName: invalid type: integer `7`, expected a string",
        ),
        (
            br#"{"FunctionName":"f""#,
            Code::InvalidParameter,
            "the body is not whole JSON",
        ),
        (br#"[]"#, Code::InvalidParameter, ".: invalid"),
    ];
    for (body, code, message) in rows {
        let error = with(&signed("h", "h", body), body, |call| {
            call.and_then(|call| call.decode::<Invoke>(&Bounds::default()))
                .expect_err("a bad body")
        });
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.starts_with(message), "{error}");
    }
}

#[test]
fn version_1_signature_verifies_as_query_and_as_form() {
    for (http_method, method) in [("GET", "HmacSHA1"), ("POST", "HmacSHA256")] {
        let nonce = "11886".to_owned();
        let now = NOW.to_string();
        let mut pairs = vec![
            ("Action", "ListFunctions"),
            ("Version", "2018-04-16"),
            ("Nonce", &nonce),
            ("Timestamp", &now),
            ("SecretId", "AKIDtest"),
            ("SignatureMethod", method),
            ("Limit", "5"),
            ("Filters.0.Name", "Status"),
            ("Filters.0.Values.0", "Active"),
        ];
        let hash = v1::Method::parse(method).expect("a method");
        let signature = STANDARD.encode(v1::sign(
            &key(),
            hash,
            http_method,
            "h:1",
            "/",
            pairs.clone(),
        ));
        pairs.push(("Signature", &signature));
        let form: Vec<String> = pairs
            .iter()
            .map(|(n, v)| {
                format!(
                    "{n}={}",
                    v.replace('+', "%2B")
                        .replace('/', "%2F")
                        .replace('=', "%3D")
                )
            })
            .collect();
        let form = form.join("&");
        let (query, body) = if http_method == "GET" {
            (form.as_str(), "")
        } else {
            ("", form.as_str())
        };
        let headers = [("host", "h:1"), ("content-type", "application/json")];
        let call = Call::parse(RawRequest {
            method: http_method,
            path: "/",
            query,
            headers: &headers,
            body: body.as_bytes(),
        })
        .expect("a call");
        assert_eq!(
            call.verify(&key(), NOW, CLOCK_SKEW_S),
            Ok(()),
            "{http_method}"
        );
        assert_eq!(
            call.verify(&SecretKey::new("other"), NOW, CLOCK_SKEW_S)
                .map_err(|e| e.code),
            Err(Code::SignatureFailure)
        );
        let request = call
            .decode::<ListFunctions>(&Bounds::default())
            .expect("parameters");
        assert_eq!(request.limit, Some(5));
        assert_eq!(
            request.filters.map(|f| f[0].values.clone()),
            Some(vec!["Active".to_owned()])
        );
    }
}

#[test]
fn mutated_requests_are_rejected_without_panic() {
    let mut seeded = seeded::Random::new(1);
    let mut random = |below: usize| seeded.index(below);
    let body = br#"{"FunctionName":"hello","Namespace":"default"}"#;
    let now = NOW.to_string();
    let more = [
        ("x-tc-action", "GetFunction"),
        ("x-tc-timestamp", &now),
        ("x-tc-version", "2018-04-16"),
    ];
    let plain = signed("h:1", "h:1", body);
    let whole = signed_with("h:1", "h:1", body, &more);
    for round in 0..20_000 {
        let is_whole = round % 2 == 0;
        let mut headers = if is_whole { &whole } else { &plain }.clone();
        let mut bytes = body.to_vec();
        let header = random(headers.len() + 1);
        let changed = if let Some((_, value)) = headers.get_mut(header) {
            let at = random(value.len());
            let letter = char::from(32 + random(95) as u8);
            let before = value.clone();
            value.replace_range(at..=at, &letter.to_string());
            // Case and port of the host are tolerated, and the action need not be signed.
            let open = header == 1 || (matches!(header, 3 | 4) && !is_whole);
            !before.eq_ignore_ascii_case(value) && !open
        } else {
            let at = random(bytes.len());
            let before = bytes[at];
            bytes[at] = random(256) as u8;
            before != bytes[at]
        };
        with(&headers, &bytes, |call| {
            if let Ok(call) = call {
                let _ = call.decode::<GetFunction>(&Bounds::default());
                // A different id selects a different key.
                let known = call.secret_id() == "AKIDtest";
                assert!(
                    !changed || !known || call.verify(&key(), NOW, CLOCK_SKEW_S).is_err(),
                    "{headers:?} {bytes:?}"
                );
            }
        });
    }
}
