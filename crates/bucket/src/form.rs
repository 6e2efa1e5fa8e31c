//! Uploads by a form, as a page sends them: in COS's dialect and in S3's.
//!
//! The form carries a policy, which says what it may hold, and is signed instead of the request. The file comes last and is
//! streamed. Source: COS's page "POST Object", S3's "Authenticating requests in browser-based uploads using POST".

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use multer::{Constraints, Multipart, SizeLimit};
use quick_xml::escape::escape;
use s3s::post_policy::{PostPolicy, PostPolicyCondition};
use s3s::xml::Deserialize;
use s3s::{Body, S3ErrorCode};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::cos::request::TOKEN;
use crate::cos::signature::Authorization;
use crate::gate::{Key, Principal};
use crate::names::{BucketName, ObjectKey};
use crate::notice::ChangeKind;
use crate::refusal::Refusal;
use crate::s3::Dialect;
use crate::serve::{Asked, Inner};
use crate::signed::v2;
use crate::store::{Meta, Object, OnPut, Put, StorageClass, Tags};

/// Bytes of one field, and of the whole form but its file.
const FIELD: u64 = 64 << 10;
const FIELDS: usize = 256;
/// What is not the user's to be named in a policy.
const UNNAMED: [&str; 6] = [
    "awsaccesskeyid",
    "file",
    "policy",
    "signature",
    "submit",
    "x-amz-signature",
];

/// Who signed a form's policy, and how.
enum Signer {
    Nobody,
    Cos(Principal),
    S3(Principal),
}

impl Signer {
    fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Nobody => None,
            Self::Cos(principal) | Self::S3(principal) => Some(principal),
        }
    }
}

/// The fields in front of the file, names in small letters.
type Fields = BTreeMap<String, String>;

/// Whether a request is a form.
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

/// Takes a form in.
pub(crate) async fn upload(
    inner: &Inner,
    asked: &Asked,
    parts: &Parts,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let kind = parts
        .headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let boundary = multer::parse_boundary(kind.unwrap_or_default()).map_err(malformed)?;
    let limits = SizeLimit::new().per_field(u64::MAX).whole_stream(u64::MAX);
    let mut form =
        Multipart::with_constraints(body, boundary, Constraints::new().size_limit(limits));
    let (fields, file) = fields(&mut form).await?;
    let signed = verify(inner, asked, &fields)?;
    let bucket = inner.bucket(asked, signed.principal())?;
    let name = file.file_name().unwrap_or_default().to_owned();
    let key = fields
        .get("key")
        .ok_or_else(|| missing("key"))?
        .replace("${filename}", &name);
    let room = check_policy(asked, &signed, &fields, &key)?;
    let key = ObjectKey::parse(&key).map_err(|why| invalid(&why.to_string()))?;
    inner.may_write(signed.principal(), "PostObject", &bucket, &key)?;
    check_known(&fields)?;
    let put = put(asked.dialect, &fields, &key)?;
    // No more is read than the policy allows.
    let (mut read, mut over) = (0, false);
    let file = file.map(|chunk| {
        let chunk = chunk.map_err(|error| error.to_string())?;
        read += chunk.len() as u64;
        over = read > room.1;
        if over {
            Err("the file is longer than the form's policy allows".to_owned())
        } else {
            Ok(chunk)
        }
    });
    let staged = inner.store.stage(file, &[]).await;
    if over {
        return Err(S3ErrorCode::EntityTooLarge.into());
    }
    let staged = staged.map_err(refused)?;
    if staged.length < room.0 {
        return Err(S3ErrorCode::EntityTooSmall.into());
    }
    if let Some(md5) = fields.get("content-md5") {
        staged.check_md5(md5).map_err(refused)?;
    }
    let change = asked.change(signed.principal());
    let object = inner
        .store
        .put(&bucket, &key, staged, put, ChangeKind::Post, change)
        .await;
    answer(asked, &fields, &bucket, &key, &object.map_err(refused)?)
}

/// Reads up to the file.
async fn fields(
    form: &mut Multipart<'static>,
) -> Result<(Fields, multer::Field<'static>), Refusal> {
    let mut fields = Fields::new();
    while let Some(mut field) = form.next_field().await.map_err(malformed)? {
        let name = field.name().unwrap_or_default().to_ascii_lowercase();
        if name == "file" {
            return Ok((fields, field));
        }
        let mut text = Vec::new();
        while let Some(chunk) = field.chunk().await.map_err(malformed)? {
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
    Err(missing("file"))
}

/// Says who signed the policy.
fn verify(inner: &Inner, asked: &Asked, fields: &Fields) -> Result<Signer, Refusal> {
    let words: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    // Some clients send all of COS's words as one.
    let whole = ["signature", "authorization"]
        .into_iter()
        .find_map(|name| fields.get(name));
    let whole = whole.filter(|text| text.starts_with("q-sign-algorithm"));
    let read = whole
        .map(|text| Authorization::parse(text))
        .or_else(|| Authorization::from_query(&words));
    if let Some(read) = read {
        let decoded = STANDARD
            .decode(policy(fields)?)
            .map_err(|_| invalid("the form's policy is not base64"))?;
        let compare =
            |read: &Authorization, secret: &str, now| read.verify_policy(secret, &decoded, now);
        let token = fields.get(TOKEN).map(String::as_str);
        return inner.verify(asked, read, token, compare).map(Signer::Cos);
    }
    let token = fields.get("x-amz-security-token").map(String::as_str);
    let (key, matches) = if let Some(signature) = fields.get("x-amz-signature") {
        verify_v4(inner, asked, fields, token, signature)?
    } else if let Some(id) = fields.get("awsaccesskeyid") {
        let signature = fields
            .get("signature")
            .ok_or_else(|| missing("signature"))?;
        let key = inner.key(asked, id, token)?;
        let matches = v2::matches(&key.secret, policy(fields)?, signature);
        (key, matches)
    } else {
        return Ok(Signer::Nobody);
    };
    if matches {
        return Ok(Signer::S3(key.principal));
    }
    let refusal = Refusal::from(S3ErrorCode::SignatureDoesNotMatch);
    inner.count_failure(asked, &refusal);
    Err(refusal)
}

/// The policy as it was sent.
fn policy(fields: &Fields) -> Result<&str, Refusal> {
    let text = fields.get("policy").ok_or_else(|| missing("policy"))?;
    Ok(text)
}

/// The key that signed by S3's version 4, and whether it did.
fn verify_v4(
    inner: &Inner,
    asked: &Asked,
    fields: &Fields,
    token: Option<&str>,
    signature: &str,
) -> Result<(Key, bool), Refusal> {
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
    let key = inner.key(asked, id, token)?;
    let first = format!("AWS4{}", key.secret);
    let steps = [day, region, service, last, policy(fields)?];
    let made = steps
        .into_iter()
        .fold(first.into_bytes(), |key, text| mac(&key, text.as_bytes()));
    let matches = hex::encode(made).as_bytes().ct_eq(signature.as_bytes());
    Ok((key, matches.into()))
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    // HMAC takes keys of every length, so this never fails.
    Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| mac.chain_update(text).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

/// Whether the form holds what its policy allows. Says how long the file may be.
fn check_policy(
    asked: &Asked,
    signer: &Signer,
    fields: &Fields,
    key: &str,
) -> Result<(u64, u64), Refusal> {
    let mut room = (0, u64::MAX);
    let Some(text) = fields.get("policy") else {
        return Ok(room);
    };
    let denied = |why: String| Refusal::new(StatusCode::FORBIDDEN, "AccessDenied", why);
    let policy = STANDARD
        .decode(text)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let policy = policy.filter(|text| is_dated(text));
    let policy = policy.and_then(|text| PostPolicy::from_json(&text).ok());
    let policy = policy.ok_or_else(|| {
        let message = "the form's policy is not JSON with an expiration and conditions";
        Refusal::new(StatusCode::BAD_REQUEST, "InvalidPolicyDocument", message)
    })?;
    let now = s3s::dto::Timestamp::from(std::time::SystemTime::now());
    if policy.expiration < now {
        return Err(denied("the form's policy has expired".to_owned()));
    }
    let (bucket, _) = asked.target();
    let value = |field: &str| match field {
        "bucket" => bucket.clone().unwrap_or_default(),
        "key" => key.to_owned(),
        _ => fields.get(field).cloned().unwrap_or_default(),
    };
    let mut named = Vec::new();
    for condition in &policy.conditions {
        let (field, holds) = match condition {
            PostPolicyCondition::Eq {
                field,
                value: wanted,
            } => (field, value(&field.to_ascii_lowercase()) == *wanted),
            PostPolicyCondition::StartsWith { field, prefix } => (
                field,
                value(&field.to_ascii_lowercase()).starts_with(prefix.as_str()),
            ),
            PostPolicyCondition::ContentLengthRange { min, max } => {
                room = (*min, *max);
                continue;
            }
        };
        if !holds {
            return Err(denied(format!(
                "the form's policy allows another value of {field}"
            )));
        }
        named.push(field.to_ascii_lowercase());
    }
    let named = |name: &str| named.iter().any(|one| one == name);
    // The bucket and the key are where the signer allowed it, and nowhere else.
    let mut must = vec!["bucket", "key"];
    match signer {
        Signer::Nobody => must.clear(),
        Signer::Cos(_) => must.extend(
            fields
                .keys()
                .map(String::as_str)
                .filter(|name| obeyed(name)),
        ),
        Signer::S3(_) => must.extend(
            fields
                .keys()
                .map(String::as_str)
                .filter(|name| !UNNAMED.contains(name) && !name.starts_with("x-ignore-")),
        ),
    }
    match must.into_iter().find(|name| !named(name)) {
        Some(name) => Err(denied(format!(
            "the form's policy does not name the field {name}, so its signer has not allowed it"
        ))),
        None => Ok(room),
    }
}

/// Whether a policy's expiration is a time as S3 writes it: other forms of it may be read as another time.
fn is_dated(policy: &str) -> bool {
    let read: Result<serde_json::Value, _> = serde_json::from_str(policy);
    let read = read.ok();
    let expiration = read
        .as_ref()
        .and_then(|policy| policy["expiration"].as_str());
    expiration.is_some_and(|text| {
        text.contains('T') && text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok()
    })
}

/// Whether a field of a form in COS's dialect changes what is done. COS wants no field to be named; here these must be.
fn obeyed(name: &str) -> bool {
    name == "acl" || (name != TOKEN && (name.starts_with("x-cos-") || name.starts_with("x-amz-")))
}

/// What the form says of the object.
fn put(dialect: Dialect, fields: &Fields, key: &ObjectKey) -> Result<Put, Refusal> {
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
        when: OnPut {
            if_none_match: forbids.then(|| "*".to_owned()),
            ..OnPut::default()
        },
        acl,
        class: StorageClass::parse(&either("storage-class").unwrap_or_default())
            .map_err(refused)?,
    })
}

/// Fields that are obeyed, or that are a signature's, by their names behind the prefix.
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

/// Refuses a field that would be passed over: a condition, encryption, a checksum.
fn check_known(fields: &Fields) -> Result<(), Refusal> {
    let dropped = fields.keys().find(|name| {
        let rest = name
            .strip_prefix("x-amz-")
            .or_else(|| name.strip_prefix("x-cos-"));
        let unknown = rest.is_some_and(|rest| !rest.starts_with("meta-") && !KNOWN.contains(&rest));
        unknown || name.starts_with("if-")
    });
    match dropped {
        Some(name) => Err(Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            format!(
                "the form's field {name} is not implemented, and would not be held; leave it out"
            ),
        )),
        None => Ok(()),
    }
}

/// Tags: as a document in S3's field, as a query in COS's.
fn tags(fields: &Fields) -> Result<Tags, Refusal> {
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
    let malformed = || Refusal::from(S3ErrorCode::MalformedXML);
    let mut document = s3s::xml::Deserializer::new(text.as_bytes());
    let read = s3s::dto::Tagging::deserialize(&mut document).map_err(|_| malformed())?;
    let pairs = read.tag_set.into_iter();
    Ok(pairs
        .map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default()))
        .collect())
}

/// What the form wants to be told.
fn answer(
    asked: &Asked,
    fields: &Fields,
    bucket: &BucketName,
    key: &ObjectKey,
    object: &Object,
) -> Result<Response<Body>, Refusal> {
    let etag = format!("\"{}\"", object.etag);
    let path: Vec<_> = key
        .as_str()
        .split('/')
        .map(|part| urlencoding::encode(part).into_owned())
        .collect();
    let url = format!("{}/{}", asked.url().trim_end_matches('/'), path.join("/"));
    let (given, _) = asked.target();
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
    if asked.dialect == Dialect::Cos {
        response
            .headers_mut()
            .extend(crate::cos::append::facts(object));
    }
    Ok(response)
}

fn malformed(error: multer::Error) -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "MalformedPOSTRequest",
        format!("the form cannot be read: {error}"),
    )
}

fn missing(field: &str) -> Refusal {
    invalid(&format!(
        "the form has no field {field:?}, which it must have in front of the file"
    ))
}

fn invalid(message: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "InvalidArgument", message)
}

fn refused(error: crate::error::StoreError) -> Refusal {
    crate::s3::refuse(error).into()
}
