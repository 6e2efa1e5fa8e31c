use http::{HeaderName, HeaderValue};

use seeded::Random;

use super::*;

/// Example key from COS's page.
const SECRET: &str = "BQYIM75p8x0iWVFSIgqEKwFprpRSVHlz";
const ID: &str = "AKIDQjz3ltompVjBni5LitkWHFlFpwkn9U5q";
const HOST: &str = "examplebucket-1250000000.cos.ap-beijing.myqcloud.com";
const PATH: &str = "/exampleobject(%E8%85%BE%E8%AE%AF%E4%BA%91)";

fn headers(rows: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (
            HeaderName::try_from(*name).expect("a name"),
            HeaderValue::from_str(value).expect("a value"),
        )
    };
    rows.iter().map(pair).collect()
}

fn query(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn put() -> HeaderMap {
    headers(&[
        ("date", "Thu, 16 May 2019 06:45:51 GMT"),
        ("host", HOST),
        ("content-type", "text/plain"),
        ("content-length", "13"),
        ("content-md5", "mQ/fVh815F3k6TAUm8m0eg=="),
        ("x-cos-acl", "private"),
        ("x-cos-grant-read", "uin=\"100000000011\""),
    ])
}

fn authorization(span: &str, headers: &str, params: &str, signature: &str) -> String {
    format!(
        "q-sign-algorithm=sha1&q-ak={ID}&q-sign-time={span}&q-key-time={span}\
         &q-header-list={headers}&q-url-param-list={params}&q-signature={signature}"
    )
}

const PUT_HEADERS: &str =
    "content-length;content-md5;content-type;date;host;x-cos-acl;x-cos-grant-read";

/// Source: the two examples on COS's page "Request Signature".
#[test]
fn published_cos_examples_verify() {
    let upload = authorization(
        "1557989151;1557996351",
        PUT_HEADERS,
        "",
        "3b8851a11a569213c17ba8fa7dcf2abec6935172",
    );
    let signed = Signed {
        method: &Method::PUT,
        host: HOST,
        service: false,
        path: PATH,
        query: &[],
        headers: &put(),
    };
    let read = Authorization::parse(&upload).expect("words");
    assert_eq!(read.verify(SECRET, &signed, 1_557_989_200), Ok(()));
    let download = authorization(
        "1557989753;1557996953",
        "date;host",
        "response-cache-control;response-content-type",
        "01681b8c9d798a678e43b685a9f1bba0f6c0e012",
    );
    let signed = Signed {
        method: &Method::GET,
        query: &query(&[
            ("response-content-type", "application/octet-stream"),
            ("response-cache-control", "max-age=600"),
        ]),
        headers: &headers(&[("date", "Thu, 16 May 2019 06:55:53 GMT"), ("host", HOST)]),
        ..signed
    };
    let read = Authorization::parse(&download).expect("words");
    assert_eq!(read.verify(SECRET, &signed, 1_557_989_800), Ok(()));
    let words = download
        .split('&')
        .map(|word| word.split_once('=').expect("a pair"));
    let in_query = query(&words.collect::<Vec<_>>());
    let from_query = Authorization::from_query(&in_query)
        .expect("there")
        .expect("words");
    assert_eq!(from_query, read);
}

#[test]
fn changed_signed_content_fails_verification() {
    let text = authorization(
        "1557989151;1557996351",
        PUT_HEADERS,
        "",
        "3b8851a11a569213c17ba8fa7dcf2abec6935172",
    );
    let read = Authorization::parse(&text).expect("words");
    let verify = |secret: &str, method: &Method, path: &str, headers: &HeaderMap, now: i64| {
        let signed = Signed {
            method,
            host: headers["host"].to_str().expect("a host"),
            service: false,
            path,
            query: &[],
            headers,
        };
        read.verify(secret, &signed, now)
    };
    let mut other = put();
    other.insert("x-cos-acl", HeaderValue::from_static("public-read"));
    let mut with_port = put();
    let host = format!("{HOST}:9401");
    with_port.insert("host", HeaderValue::from_str(&host).expect("a host"));
    let now = 1_557_989_200;
    let rows = [
        (verify(SECRET, &Method::PUT, PATH, &with_port, now), Ok(())),
        (
            verify("another", &Method::PUT, PATH, &put(), now),
            Err(SignatureError::Mismatch),
        ),
        (
            verify(SECRET, &Method::GET, PATH, &put(), now),
            Err(SignatureError::Mismatch),
        ),
        (
            verify(SECRET, &Method::PUT, "/other", &put(), now),
            Err(SignatureError::Mismatch),
        ),
        (
            verify(SECRET, &Method::PUT, PATH, &other, now),
            Err(SignatureError::Mismatch),
        ),
        (
            verify(SECRET, &Method::PUT, PATH, &put(), 1_557_996_352),
            Err(SignatureError::Expired),
        ),
        (
            verify(SECRET, &Method::PUT, PATH, &put(), 1_557_980_000),
            Err(SignatureError::NotYetValid),
        ),
    ];
    for (row, (found, expected)) in rows.into_iter().enumerate() {
        assert_eq!(found, expected, "row {row}");
    }
}

/// Signs the listed headers and parameters, and verifies a request that may contain more.
fn signed_and_sent(
    listed: &str,
    params: &str,
    sent: &[(&str, &str)],
    pairs: &[(&str, &str)],
) -> Result<(), SignatureError> {
    let span = "1557989151;1557996351";
    let mut given = headers(&[("host", HOST)]);
    for (name, value) in sent {
        let name = HeaderName::try_from(*name).expect("a name");
        given.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    let pairs = query(pairs);
    let signed = Signed {
        method: &Method::PUT,
        host: HOST,
        service: false,
        path: PATH,
        query: &pairs,
        headers: &given,
    };
    let mut read = Authorization::parse(&authorization(span, listed, params, "0")).expect("words");
    let request = read.canonical(&signed, HOST);
    let text = format!("sha1\n{span}\n{}\n", hex::encode(Sha1::digest(request)));
    read.signature = mac(signing_key(SECRET, span).as_bytes(), text.as_bytes());
    read.verify(SECRET, &signed, 1_557_989_200)
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn unsigned_headers_and_parameters_are_rejected() {
    type Pairs<'a> = &'a [(&'a str, &'a str)];
    let rows: [(&str, &str, Pairs<'_>, Pairs<'_>, &str); 19] = [
        ("host", "", &[], &[], ""),
        ("host", "", &[("x-cos-grant-read", "")], &[], ""),
        (
            "host",
            "",
            &[("x-cos-grant-read", ""), ("x-cos-grant-read", "id=1")],
            &[],
            "x-cos-grant-read",
        ),
        ("host", "", &[("x-cos-acl", "")], &[], "header x-cos-acl"),
        ("", "", &[], &[], "header host"),
        (
            "host",
            "",
            &[("x-cos-acl", "public-read")],
            &[],
            "header x-cos-acl",
        ),
        (
            "host;x-cos-acl",
            "",
            &[("x-cos-acl", "public-read")],
            &[],
            "",
        ),
        (
            "host",
            "",
            &[("x-cos-copy-source", "b/k")],
            &[],
            "header x-cos-copy-source",
        ),
        (
            "host",
            "",
            &[("x-amz-copy-source", "b/k")],
            &[],
            "header x-amz-copy-source",
        ),
        (
            "host",
            "",
            &[
                ("x-cos-security-token", "t"),
                ("content-type", "text/plain"),
            ],
            &[],
            "",
        ),
        ("host", "", &[], &[("acl", "")], "parameter acl"),
        ("host", "acl", &[], &[("acl", "")], ""),
        ("host", "", &[], &[("ACL", "")], "parameter ACL"),
        ("host", "", &[], &[("uploads", "")], "parameter uploads"),
        ("host", "versionid", &[], &[("versionId", "1")], ""),
        (
            "host",
            "",
            &[],
            &[("q-ak", "1"), ("x-cos-security-token", "t")],
            "",
        ),
        (
            "host",
            "versionid",
            &[],
            &[("VERSIONID", "1"), ("versionId", "2")],
            "VERSIONID is there twice",
        ),
        (
            "host;x-cos-acl",
            "",
            &[("x-cos-acl", "private"), ("x-cos-acl", "public-read")],
            &[],
            "x-cos-acl is there twice",
        ),
        (
            "content-type;host",
            "",
            &[("content-type", "a/b"), ("content-type", "c/d")],
            &[],
            "content-type is there twice",
        ),
    ];
    for (listed, params, sent, pairs, why) in rows {
        let found = signed_and_sent(listed, params, sent, pairs);
        let message = found.err().map_or(String::new(), |error| error.to_string());
        assert_eq!(
            message.is_empty(),
            why.is_empty(),
            "{sent:?} {pairs:?}: {message}"
        );
        assert!(message.contains(why), "{sent:?} {pairs:?}: {message}");
    }
}

#[test]
fn missing_authorization_fields_are_named() {
    for (text, part) in [
        ("q-sign-algorithm=md5&q-ak=a&q-signature=b", "sha1"),
        ("q-sign-algorithm=sha1&q-ak=a", "q-signature"),
        ("", "sha1"),
    ] {
        let refused = Authorization::parse(text).expect_err("refused").to_string();
        assert!(refused.contains(part), "{text}: {refused}");
    }
    let text = "q-sign-algorithm=sha1&q-ak=a&q-sign-time=1&q-key-time=1;2&q-signature=b";
    let read = Authorization::parse(text).expect("words");
    let refused = read.verify_policy("k", b"{}", 1).expect_err("refused");
    assert!(refused.to_string().contains("START;END"), "{refused}");
    assert_eq!(Authorization::from_query(&query(&[("prefix", "a")])), None);
}

#[test]
fn mutated_authorizations_never_verify() {
    let good = authorization(
        "1557989151;1557996351",
        PUT_HEADERS,
        "",
        "3b8851a11a569213c17ba8fa7dcf2abec6935172",
    );
    let sent = put();
    for seed in 1..5000 {
        let mut rng = Random::new(seed);
        let path = rng.mutated_text(PATH);
        let host = rng.mutated_text(HOST);
        let text = rng.mutated_text(&good);
        let words: Vec<_> = text
            .split('&')
            .map(|word| word.split_once('=').unwrap_or((word, "")))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let read = [
            Some(Authorization::parse(&text)),
            Authorization::from_query(&words),
        ];
        for read in read.into_iter().flatten().flatten() {
            let signed = |path, host| Signed {
                method: &Method::PUT,
                host,
                service: false,
                path,
                query: &[],
                headers: &sent,
            };
            let verify = |signed: &Signed<'_>| read.verify(SECRET, signed, 1_557_989_200).is_ok();
            assert!(
                !verify(&signed(&path, HOST)) || decoded(&path) == decoded(PATH),
                "seed {seed}: {path}"
            );
            // The port need not be signed.
            let bare = host
                .rsplit_once(':')
                .map_or(host.as_str(), |(bare, _)| bare);
            assert!(
                !verify(&signed(PATH, &host)) || host == HOST || bare == HOST,
                "seed {seed}: {host}"
            );
            if verify(&signed(PATH, HOST)) {
                // All signed parts are unchanged.
                let whole = Authorization::parse(&good).expect("words");
                assert_eq!(
                    (&read.signature, &read.sign_time, &read.key_time),
                    (&whole.signature, &whole.sign_time, &whole.key_time),
                    "seed {seed}"
                );
            }
            let _ = read.verify_policy(SECRET, text.as_bytes(), 1_557_989_200);
        }
    }
}
