//! Browser uploads by HTML form (POST), in the dialects of COS and S3.
//!
//! The form carries a policy that limits its contents. The policy is signed instead of the request. The file comes
//! last and is streamed. Only a limited amount is read before the policy's signature has been verified
//! ([`field_frames`]). Source: COS's page "POST Object", S3's "Authenticating requests in browser-based uploads using
//! POST".

mod field_frames;
mod fields;
mod policy;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use multer::{Constraints, Multipart, SizeLimit};
use quick_xml::escape::escape;
use s3s::xml::Deserialize;
use s3s::{Body, S3ErrorCode};
use subtle::ConstantTimeEq;

use self::field_frames::{FIELDS_MAX, FieldLimit, FieldsTooLong};
use self::fields::{Fields, Signer};
use crate::core::Core;
use crate::cos::signature::{Authorization, TOKEN};
use crate::error_response::ErrorResponse;
use crate::names::{BucketName, ObjectKey};
use crate::notice::ChangeKind;
use crate::request_head::RequestHead;
use crate::s3::Dialect;
use crate::signed::{v2, v4};
use crate::store::{Meta, Object, Put, PutConditions, StorageClass, Tags};

/// Limits: size of one field, and number of fields.
const FIELD: u64 = 64 << 10;
const FIELDS: usize = 256;
/// Returns whether a request is a form upload.
pub(crate) fn is_form(parts: &Parts) -> bool {
    let kind = parts
        .headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    const KIND: &str = "multipart/form-data";
    parts.method == Method::POST
        && kind.is_some_and(|kind| {
            kind.get(..KIND.len())
                .is_some_and(|kind| kind.eq_ignore_ascii_case(KIND))
        })
}

/// Stores the file of a form.
pub(crate) async fn upload(
    core: &Core,
    head: &RequestHead,
    parts: &Parts,
    body: Body,
) -> Result<Response<Body>, ErrorResponse> {
    let kind = parts
        .headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let boundary = multer::parse_boundary(kind.unwrap_or_default()).map_err(malformed)?;
    // Rejects an oversized form by its `Content-Length` alone.
    let length = parts.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let least = length.unwrap_or_default().saturating_sub(2 * FIELDS_MAX);
    core.store.check_capacity(least).map_err(refused)?;
    let limits = SizeLimit::new().per_field(u64::MAX).whole_stream(u64::MAX);
    let limits = Constraints::new().size_limit(limits);
    let field_limit = FieldLimit::default();
    let mut form = Multipart::with_constraints(field_limit.field_frames(body), boundary, limits);
    let (fields, file) = fields(&mut form, &field_limit).await?;
    let signed = verify(core, head, &fields)?;
    let bucket = core.bucket(head, signed.principal())?;
    let name = file.file_name().unwrap_or_default().to_owned();
    let key = fields
        .get("key")
        .ok_or_else(|| missing("key"))?
        .replace("${filename}", &name);
    let (given, _) = head.target();
    let limits = policy::check(given.as_deref(), &signed, &fields, &key)?;
    if least > limits.1 {
        return Err(S3ErrorCode::EntityTooLarge.into());
    }
    let key = ObjectKey::parse(&key).map_err(|why| invalid(&why.to_string()))?;
    core.authorize_write(signed.principal(), "PostObject", &bucket, &key)?;
    reject_unknown_fields(&fields)?;
    let put = put(head.dialect, &fields, &key)?;
    // Reads at most what the policy allows.
    let (mut read, mut over) = (0, false);
    let file = file.map(|chunk| {
        let chunk = chunk.map_err(|error| error.to_string())?;
        read += chunk.len() as u64;
        over = read > limits.1;
        if over {
            Err("the file is longer than the form's policy allows".to_owned())
        } else {
            Ok(chunk)
        }
    });
    let staged = core.store.stage(file, &[]).await;
    if over {
        return Err(S3ErrorCode::EntityTooLarge.into());
    }
    let staged = staged.map_err(refused)?;
    if staged.length < limits.0 {
        return Err(S3ErrorCode::EntityTooSmall.into());
    }
    if let Some(md5) = fields.get("content-md5") {
        staged.check_md5(md5).map_err(refused)?;
    }
    let change = head.change(signed.principal());
    let object = core
        .store
        .put(&bucket, &key, staged, put, ChangeKind::Post, change)
        .await;
    answer(head, &fields, &bucket, &key, &object.map_err(refused)?)
}

/// Reads all fields up to the file.
async fn fields(
    form: &mut Multipart<'static>,
    field_limit: &FieldLimit,
) -> Result<(Fields, multer::Field<'static>), ErrorResponse> {
    let mut fields = Fields::new();
    loop {
        let next = field_limit
            .within(form.next_field())
            .await
            .map_err(fields_too_long)?;
        let Some(mut field) = next.map_err(malformed)? else {
            return Err(missing("file"));
        };
        let name = field.name().unwrap_or_default().to_ascii_lowercase();
        if name == "file" {
            field_limit.file_begins();
            return Ok((fields, field));
        }
        let mut text = Vec::new();
        loop {
            let chunk = field_limit
                .within(field.chunk())
                .await
                .map_err(fields_too_long)?;
            let Some(chunk) = chunk.map_err(malformed)? else {
                break;
            };
            text.extend_from_slice(&chunk);
            if text.len() as u64 > FIELD {
                return Err(invalid(&format!(
                    "the form's field {name:?} has more than {FIELD} bytes"
                )));
            }
        }
        if fields.len() >= FIELDS {
            return Err(invalid(&format!("the form has more than {FIELDS} fields")));
        }
        fields.insert(name, String::from_utf8_lossy(&text).into_owned());
    }
}

fn fields_too_long(_: FieldsTooLong) -> ErrorResponse {
    invalid(&format!(
        "the form has more than {FIELDS_MAX} bytes in front of its file; what comes there is for fields"
    ))
}

/// Verifies the signature of the policy.
fn verify(core: &Core, head: &RequestHead, fields: &Fields) -> Result<Signer, ErrorResponse> {
    let words: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    // Some clients send COS's whole authorization string in one field.
    let whole = ["signature", "authorization"]
        .into_iter()
        .find_map(|name| fields.get(name));
    let whole = whole.filter(|text| text.starts_with("q-sign-algorithm"));
    let read = whole
        .map(|text| Authorization::parse(text))
        .or_else(|| Authorization::from_query(&words));
    if let Some(read) = read {
        let decoded = STANDARD
            .decode(sent_policy(fields)?)
            .map_err(|_| invalid("the form's policy is not base64"))?;
        let compare =
            |read: &Authorization, secret: &str, now| read.verify_policy(secret, &decoded, now);
        let token = fields.get(TOKEN).map(String::as_str);
        return core.verify(head, read, token, compare).map(Signer::Cos);
    }
    let token = fields.get("x-amz-security-token").map(String::as_str);
    let matching = |matches: bool| {
        let mismatch = || S3ErrorCode::SignatureDoesNotMatch.into();
        matches.then_some(()).ok_or_else(mismatch)
    };
    let principal = if let Some(signature) = fields.get("x-amz-signature") {
        let signed = SignedV4::read(fields)?;
        core.authenticate(head, signed.id, token, |secret| {
            matching(signed.matches(secret, signature))
        })?
    } else if let Some(id) = fields.get("awsaccesskeyid") {
        let signature = fields
            .get("signature")
            .ok_or_else(|| missing("signature"))?;
        let policy = sent_policy(fields)?;
        core.authenticate(head, id, token, |secret| {
            matching(v2::matches(secret, policy, signature))
        })?
    } else {
        return Ok(Signer::Nobody);
    };
    Ok(Signer::S3(principal))
}

/// Returns the policy as it was sent.
fn sent_policy(fields: &Fields) -> Result<&str, ErrorResponse> {
    let text = fields.get("policy").ok_or_else(|| missing("policy"))?;
    Ok(text)
}

/// The signed parts of a form, and its key, in S3's version 4.
struct SignedV4<'a> {
    id: &'a str,
    /// From the key to the policy; each step signs the next.
    steps: [&'a str; 5],
}

impl<'a> SignedV4<'a> {
    fn read(fields: &'a Fields) -> Result<Self, ErrorResponse> {
        let get = |name: &str| {
            fields
                .get(name)
                .map(String::as_str)
                .ok_or_else(|| missing(name))
        };
        let scope: Vec<_> = get("x-amz-credential")?.split('/').collect();
        let [id, day, region, service @ "s3", last @ "aws4_request"] = scope[..] else {
            return Err(invalid(
                "x-amz-credential must be KEY/DAY/REGION/s3/aws4_request",
            ));
        };
        if get("x-amz-algorithm")? != "AWS4-HMAC-SHA256" {
            return Err(invalid("x-amz-algorithm must be AWS4-HMAC-SHA256"));
        }
        if get("x-amz-date")?.split('T').next() != Some(day) {
            return Err(invalid("x-amz-date must be of x-amz-credential's day"));
        }
        let steps = [day, region, service, last, sent_policy(fields)?];
        Ok(Self { id, steps })
    }

    fn matches(&self, secret: &str, signature: &str) -> bool {
        hex::encode(v4::key(secret, self.steps))
            .as_bytes()
            .ct_eq(signature.as_bytes())
            .into()
    }
}

/// Builds the object's properties from the form's fields.
fn put(dialect: Dialect, fields: &Fields, key: &ObjectKey) -> Result<Put, ErrorResponse> {
    let get = |name: &str| fields.get(name).cloned();
    let either =
        |name: &str| get(&format!("x-cos-{name}")).or_else(|| get(&format!("x-amz-{name}")));
    let user = fields.iter().filter_map(|(name, value)| {
        let name = name
            .strip_prefix("x-cos-meta-")
            .or_else(|| name.strip_prefix("x-amz-meta-"))?;
        Some((name.to_owned(), value.clone()))
    });
    let acl = crate::cos::append::acl(get("acl").or_else(|| either("acl")).as_deref())?;
    let forbids = either("forbid-overwrite").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    let default = || (dialect == Dialect::Cos).then(|| crate::cos::content_type(key.as_str()));
    Ok(Put {
        meta: Meta {
            content_type: get("content-type").or_else(default),
            cache_control: get("cache-control"),
            content_disposition: get("content-disposition"),
            content_encoding: get("content-encoding"),
            content_language: get("content-language"),
            expires: get("expires"),
            redirect: either("website-redirect-location"),
            user: user.collect(),
        },
        tags: tags(fields)?,
        when: PutConditions {
            if_none_match: forbids.then(|| "*".to_owned()),
            ..PutConditions::default()
        },
        acl,
        class: StorageClass::parse(&either("storage-class").unwrap_or_default())
            .map_err(refused)?,
    })
}

/// Fields that are applied or belong to a signature, without their prefix.
const KNOWN: [&str; 10] = [
    "acl",
    "algorithm",
    "credential",
    "date",
    "forbid-overwrite",
    "security-token",
    "signature",
    "storage-class",
    "tagging",
    "website-redirect-location",
];

/// Rejects fields that would otherwise be ignored, such as conditions, encryption or checksums.
fn reject_unknown_fields(fields: &Fields) -> Result<(), ErrorResponse> {
    let dropped = fields.keys().find(|name| {
        let rest = name
            .strip_prefix("x-amz-")
            .or_else(|| name.strip_prefix("x-cos-"));
        let unknown = rest.is_some_and(|rest| !rest.starts_with("meta-") && !KNOWN.contains(&rest));
        unknown || name.starts_with("if-")
    });
    match dropped {
        Some(name) => Err(ErrorResponse::new(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            format!(
                "the form's field {name} is not implemented, and would not be held; leave it out"
            ),
        )),
        None => Ok(()),
    }
}

/// Parses the tags: XML in S3's field, a query string in COS's.
fn tags(fields: &Fields) -> Result<Tags, ErrorResponse> {
    if let Some(text) = ["x-cos-tagging", "x-amz-tagging"]
        .into_iter()
        .find_map(|name| fields.get(name))
    {
        return Ok(form_urlencoded::parse(text.as_bytes())
            .into_owned()
            .collect());
    }
    let Some(text) = fields.get("tagging") else {
        return Ok(Tags::default());
    };
    let malformed = || ErrorResponse::from(S3ErrorCode::MalformedXML);
    let mut document = s3s::xml::Deserializer::new(text.as_bytes());
    let read = s3s::dto::Tagging::deserialize(&mut document).map_err(|_| malformed())?;
    let pairs = read.tag_set.into_iter();
    Ok(pairs
        .map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default()))
        .collect())
}

/// Builds the response that the form asks for.
fn answer(
    head: &RequestHead,
    fields: &Fields,
    bucket: &BucketName,
    key: &ObjectKey,
    object: &Object,
) -> Result<Response<Body>, ErrorResponse> {
    let etag = format!("\"{}\"", object.etag);
    let path: Vec<_> = key
        .as_str()
        .split('/')
        .map(|part| crate::percent::encode(part.as_bytes()))
        .collect();
    let url = format!("{}/{}", head.url().trim_end_matches('/'), path.join("/"));
    let (given, _) = head.target();
    let shown = given.unwrap_or_else(|| bucket.as_str().to_owned());
    let mut response = Response::new(Body::empty());
    let mut set = |name: HeaderName, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            response.headers_mut().insert(name, value);
        }
    };
    set(ETAG, &etag);
    let redirect = fields
        .get("success_action_redirect")
        .or(fields.get("redirect"));
    if let Some(redirect) = redirect.filter(|url| !url.is_empty()) {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("bucket", &shown)
            .append_pair("key", key.as_str())
            .append_pair("etag", &etag)
            .finish();
        let separator = if redirect.contains('?') { '&' } else { '?' };
        set(LOCATION, &format!("{redirect}{separator}{query}"));
        *response.status_mut() = StatusCode::SEE_OTHER;
        return Ok(response);
    }
    set(LOCATION, &url);
    let status = fields.get("success_action_status").map(String::as_str);
    *response.status_mut() = match status {
        Some("200") => StatusCode::OK,
        Some("201") => StatusCode::CREATED,
        _ => StatusCode::NO_CONTENT,
    };
    if status == Some("201") {
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        *response.body_mut() = Body::from(format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<PostResponse><Location>{}</Location><Bucket>{}</Bucket><Key>{}</Key>\
             <ETag>{}</ETag></PostResponse>",
            escape(url.as_str()),
            escape(shown.as_str()),
            escape(key.as_str()),
            escape(etag.as_str())
        ));
    }
    if head.dialect == Dialect::Cos {
        response
            .headers_mut()
            .extend(crate::cos::append::object_headers(object));
    }
    Ok(response)
}

fn malformed(error: multer::Error) -> ErrorResponse {
    ErrorResponse::new(
        StatusCode::BAD_REQUEST,
        "MalformedPOSTRequest",
        format!("the form cannot be read: {error}"),
    )
}

fn missing(field: &str) -> ErrorResponse {
    invalid(&format!(
        "the form has no field {field:?}, which it must have in front of the file"
    ))
}

fn invalid(message: &str) -> ErrorResponse {
    ErrorResponse::new(StatusCode::BAD_REQUEST, "InvalidArgument", message)
}

fn refused(error: crate::error::StoreError) -> ErrorResponse {
    crate::s3::to_s3_error(error).into()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures_util::stream;

    use seeded::Random;

    use super::*;

    /// Reads a form that arrives in pieces. Returns its fields and the size of its file.
    async fn read(pieces: Vec<Vec<u8>>) -> Result<(Fields, usize), ErrorResponse> {
        let body = stream::iter(
            pieces
                .into_iter()
                .map(|piece| Ok::<_, Infallible>(Bytes::from(piece))),
        );
        let limits = SizeLimit::new().per_field(u64::MAX).whole_stream(u64::MAX);
        let limits = Constraints::new().size_limit(limits);
        let field_limit = FieldLimit::default();
        let mut form = Multipart::with_constraints(field_limit.field_frames(body), "B", limits);
        let (fields, mut file) = fields(&mut form, &field_limit).await?;
        let mut length = 0;
        while let Some(chunk) = file.chunk().await.map_err(malformed)? {
            length += chunk.len();
        }
        Ok((fields, length))
    }

    fn form(fields: &[(String, String)], file: &[u8]) -> Vec<u8> {
        let parts = fields.iter().map(|(name, value)| {
            format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        });
        let mut form = parts.collect::<String>().into_bytes();
        form.extend_from_slice(
            b"--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n",
        );
        form.extend_from_slice(file);
        form.extend_from_slice(b"\r\n--B--\r\n");
        form
    }

    #[tokio::test]
    async fn form_is_read_the_same_for_any_fragmentation() {
        for seed in 1..300 {
            let mut rng = Random::new(seed);
            let count = rng.index(8);
            let fields: Vec<(String, String)> = (0..count)
                .map(|number| {
                    let value = rng.text(200, "ab \r\n-=é\"\0");
                    (format!("field-{number}"), value)
                })
                .collect();
            let file = rng.bytes(200_000);
            let most = [1, 7, 100, 65_536][rng.index(4)];
            let file = if most == 1 {
                &file[..file.len().min(500)]
            } else {
                &file[..]
            };
            let pieces = rng.pieces(&form(&fields, file), most);
            let (read, length) = read(pieces).await.expect("a form");
            assert_eq!(read, fields.into_iter().collect(), "seed {seed}");
            assert_eq!(length, file.len(), "seed {seed}");
        }
    }

    #[tokio::test]
    async fn mutated_forms_are_parsed_or_rejected() {
        for seed in 1..3000 {
            let mut rng = Random::new(seed);
            let fields = [
                ("a".to_owned(), rng.text(50, "ab\r\n-")),
                ("key".to_owned(), "k".to_owned()),
            ];
            let bytes = form(&fields, b"rain");
            let changed = rng.mutated(&bytes);
            if let Ok((fields, length)) = read(rng.pieces(&changed, 64)).await {
                assert!(length <= changed.len(), "seed {seed}");
                let all: usize = fields
                    .iter()
                    .map(|(name, value)| name.len() + value.len())
                    .sum();
                // An invalid UTF-8 byte is replaced by three bytes.
                assert!(all <= 3 * changed.len(), "seed {seed}");
            }
        }
    }

    #[tokio::test]
    async fn form_fields_before_the_file_are_limited() {
        let long = |length: usize| vec![("a".to_owned(), "x".repeat(length)); 4];
        let read = |fields: Vec<(String, String)>| {
            let form = form(&fields, b"rain");
            read(form.chunks(4096).map(<[u8]>::to_vec).collect())
        };
        assert!(read(long(20_000)).await.is_ok());
        let refused = read(long(50_000)).await.expect_err("refused");
        assert!(
            refused.message.contains("in front of its file"),
            "{}",
            refused.message
        );
        let refused = read(long(70_000)).await.expect_err("refused");
        assert!(
            refused.message.contains("has more than 65536 bytes"),
            "{}",
            refused.message
        );
    }

    #[test]
    fn fuzzed_forms_are_read_or_refused() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        fuzzer::run("form", 5000, |input| {
            let pieces = input.chunks(64).map(<[u8]>::to_vec).collect();
            match runtime.block_on(read(pieces)) {
                Ok((fields, length)) => {
                    assert!(length <= input.len());
                    let all: usize = fields
                        .iter()
                        .map(|(name, value)| name.len() + value.len())
                        .sum();
                    // An invalid UTF-8 byte is replaced by three bytes.
                    assert!(all <= 3 * input.len());
                    format!("{} fields", fields.len())
                }
                Err(refused) => fuzzer::shape(&refused.message),
            }
        });
    }
}
