//! Routing of requests: finds the dialect and the bucket, authenticates, and dispatches.
//!
//! A COS request is verified here, translated to S3, and its response is translated back. `s3s` verifies S3 requests.
//! Forms, appends and CORS preflights are handled here, because S3's API has no place for them.

mod body;
mod cors;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderValue, ORIGIN,
};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::body::Body as HttpBody;
use s3s::{Body, S3ErrorCode, StdError};
use tracing::{debug, error};

use self::body::MonitoredBody;
use crate::authorizer::{AccessRequest, Authorizer, ConnectionPolicy, Principal};
use crate::cos::request::{self, TOKEN};
use crate::cos::signature::{Authorization, SignatureError, Signed};
use crate::cos::{append, response, service};
use crate::error_response::{ErrorContext, ErrorResponse, id_header};
use crate::form;
use crate::host::Hosts;
use crate::names::{BucketName, ObjectKey};
use crate::s3::{self, Dialect, RequestContext, Service};
use crate::signed::{self, Scheme, v2::SignedUrl};
use crate::store::{self, Acl, Store};

/// An object server. Clones share the store.
#[derive(Clone)]
pub struct BucketServer {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    s3: Service,
    hosts: Hosts,
}

/// The client of a connection.
#[derive(Clone, Debug)]
pub struct Client {
    /// Source address.
    pub from: IpAddr,
    /// Whether the connection uses TLS.
    pub secure: bool,
    /// Rules of the connection.
    pub connection: Arc<dyn ConnectionPolicy>,
}

/// A request without its body, as parsed for routing.
pub(crate) struct RequestHead {
    pub(crate) dialect: Dialect,
    pub(crate) client: Client,
    /// Call-chain depth of the source address.
    pub(crate) depth: u32,
    /// Request id.
    pub(crate) id: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    /// Bucket in the host name.
    pub(crate) host_bucket: Option<String>,
    /// Whether the host name has COS's form.
    cos_host: bool,
}

/// Maximum size of a response document.
const DOCUMENT_MAX: usize = 32 << 20;
/// Maximum validity of a presigned URL (s): one week.
const URL_MAX: u32 = 604_800;
/// Parameters that select something other than the object's bytes.
const SUBRESOURCES: &[&str] = &[
    "acl",
    "attributes",
    "legal-hold",
    "retention",
    "tagging",
    "uploadId",
];

impl BucketServer {
    /// Creates a server over a store.
    pub fn new(store: Store, authorizer: Arc<dyn Authorizer>, hosts: Hosts) -> Self {
        let s3 = s3::service(store.clone(), authorizer.clone(), hosts.clone());
        Self {
            inner: Arc::new(Inner {
                store,
                authorizer,
                s3,
                hosts,
            }),
        }
    }

    /// Returns the bytes in use.
    pub fn used_bytes(&self) -> u64 {
        self.inner.store.used_bytes()
    }

    /// Handles a request.
    pub async fn answer<B>(&self, request: Request<B>, client: Client) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError>,
    {
        let begun = Instant::now();
        let (parts, body) = request.into_parts();
        if is_health(&parts) {
            return Response::new(Body::from("ok\n".to_owned()));
        }
        let head = self.read(&parts, client);
        let (method, origin) = (parts.method.clone(), parts.headers.get(ORIGIN).cloned());
        let headers = origin.is_some().then(|| parts.headers.clone());
        let bucket = self.bucket(&head, &parts.headers);
        let expects = parts.headers.contains_key(EXPECT) && parts.version == Version::HTTP_11;
        let empty = body.is_end_stream();
        let (body, overloaded) = MonitoredBody::new(body, head.client.connection.reserve_memory());
        let body = Body::http_body_unsync(body);
        let answered = self.route(&head, parts, body).await;
        let answered = overloaded.or(answered);
        let mut response =
            answered.unwrap_or_else(|error_response| error_response.answer(&head.error_context()));
        if let (Some(request_headers), Some(bucket), true) =
            (headers, bucket, method != Method::OPTIONS)
            && let Ok(bucket) = self.inner.store.bucket(&bucket)
        {
            cors::add_headers(
                &bucket.cors,
                method.as_str(),
                &request_headers,
                response.headers_mut(),
            );
        }
        if expects && (empty || !response.status().is_success()) {
            // There may have been no `100 Continue`, and botocore would misread the next response on this connection.
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Ok(id) = HeaderValue::from_str(&head.id) {
            response.headers_mut().insert(id_header(head.dialect), id);
        }
        response.extensions_mut().insert(head.dialect);
        debug!(
            request = %head.id,
            from = %head.client.from,
            api = head.dialect.as_str(),
            %method,
            host = %head.host,
            path = %head.path,
            status = response.status().as_u16(),
            took_us = begun.elapsed().as_micros() as u64,
            "answered"
        );
        response
    }

    fn read(&self, parts: &Parts, client: Client) -> RequestHead {
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host
            .or(parts.uri.authority().map(http::uri::Authority::as_str))
            .unwrap_or_default();
        let read = self.inner.hosts.read(host);
        let query = parts.uri.query().unwrap_or_default().as_bytes();
        let query: Vec<_> = form_urlencoded::parse(query).into_owned().collect();
        let has = |wanted: &str| query.iter().any(|(name, _)| name == wanted);
        let signed = parts
            .headers
            .get(AUTHORIZATION)
            .map_or(&[][..], HeaderValue::as_bytes);
        let dialect = if signed.starts_with(b"q-sign-algorithm") || has("q-sign-algorithm") {
            Dialect::Cos
        } else if !signed.is_empty() || has("X-Amz-Signature") || has("Signature") {
            Dialect::S3
        } else if read.cos
            || parts
                .headers
                .keys()
                .any(|name| name.as_str().starts_with("x-cos-"))
        {
            Dialect::Cos
        } else {
            Dialect::S3
        };
        RequestHead {
            dialect,
            depth: self.inner.authorizer.depth(client.from),
            client,
            id: new_id(),
            host: host.to_owned(),
            path: parts.uri.path().to_owned(),
            query,
            host_bucket: read.bucket.map(str::to_owned),
            cos_host: read.cos,
        }
    }

    async fn route(
        &self,
        head: &RequestHead,
        parts: Parts,
        body: Body,
    ) -> Result<Response<Body>, ErrorResponse> {
        if parts.method == Method::OPTIONS {
            return self.preflight(head, &parts.headers);
        }
        if !self.admits(head, &parts.headers) {
            let message = "too many requests of this address were not signed well; check the credentials and try again in a while";
            return Err(ErrorResponse::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "SlowDown",
                message,
            ));
        }
        if parts
            .headers
            .get("content-md5")
            .is_some_and(HeaderValue::is_empty)
        {
            return Err(S3ErrorCode::InvalidDigest.into());
        }
        if form::is_form(&parts) {
            return form::upload(&self.inner, head, &parts, body).await;
        }
        let scheme = Scheme::of(&parts.headers, &head.query)?;
        match head.dialect {
            Dialect::S3 => self.s3(head, scheme, parts, body).await,
            Dialect::Cos => self.cos(head, parts, body).await,
        }
    }

    /// Handles a request in COS's dialect.
    async fn cos(
        &self,
        head: &RequestHead,
        mut parts: Parts,
        body: Body,
    ) -> Result<Response<Body>, ErrorResponse> {
        let principal = self.verify(head, &parts)?;
        if let Some(name) = request::not_served(&head.query) {
            let message = format!(
                "virga's buckets do not serve what {name:?} asks for; docs/compatibility.md lists what they do"
            );
            return Err(ErrorResponse::new(
                StatusCode::NOT_IMPLEMENTED,
                "NotImplemented",
                message,
            ));
        }
        if let Some(name) = request::header_not_served(&parts.headers) {
            let message = format!("{name} is not implemented, and would not be done; leave it out");
            return Err(ErrorResponse::new(
                StatusCode::NOT_IMPLEMENTED,
                "NotImplemented",
                message,
            ));
        }
        if head.is_service(&parts.method) {
            return service::list(&self.inner, head, principal.as_ref());
        }
        if principal.is_none() && parts.method == Method::POST && head.has("restore") {
            // Only the owner may restore, and the document is read before the action is authorized.
            return Err(S3ErrorCode::AccessDenied.into());
        }
        if parts.method == Method::POST && head.has("append") {
            return append::append(&self.inner, head, &parts, principal.as_ref(), body).await;
        }
        let forbids = request::forbids_overwrite(&parts.headers);
        let (method, object) = (parts.method.clone(), head.is_object(&parts.method));
        request::to_s3(&mut parts, head.host_bucket.as_deref(), &self.inner.hosts).map_err(
            |error| {
                let message = format!("the request cannot be read: {error}");
                ErrorResponse::new(StatusCode::BAD_REQUEST, "InvalidArgument", message)
            },
        )?;
        parts.extensions.insert(head.call(&parts.method));
        if let Some(principal) = principal {
            parts.extensions.insert(principal);
        }
        let body = request::body(&mut parts, head, body).await?;
        let answered = self.call(parts, body).await?;
        if forbids && answered.status() == StatusCode::PRECONDITION_FAILED {
            let message =
                "the object exists already, and x-cos-forbid-overwrite says that it may not";
            return Err(ErrorResponse::new(
                StatusCode::CONFLICT,
                "FileAlreadyExists",
                message,
            ));
        }
        let mut answered = self.finish(head, &method, object, answered).await?;
        let headers = std::mem::take(answered.headers_mut());
        *answered.headers_mut() = response::headers(headers);
        Ok(answered)
    }

    /// Handles a request in S3's dialect.
    async fn s3(
        &self,
        head: &RequestHead,
        scheme: Scheme,
        mut parts: Parts,
        body: Body,
    ) -> Result<Response<Body>, ErrorResponse> {
        parts.extensions.insert(head.call(&parts.method));
        match scheme {
            Scheme::HeaderV4 | Scheme::UrlV4 => {
                signed::prepare_v4(scheme, &mut parts, &head.query)?;
            }
            Scheme::HeaderV2 => return Err(signed::no_v2_header()),
            Scheme::UrlV2 => {
                let principal = self.verify_v2(head, &mut parts)?;
                parts.extensions.insert(principal);
            }
            Scheme::Anonymous | Scheme::Cos => {}
        }
        if scheme != Scheme::UrlV2 {
            signed::headers_of_query(&mut parts.headers, &head.query)?;
        }
        if let Some(seconds) = head.get("X-Amz-Expires")
            && !seconds
                .parse()
                .is_ok_and(|s: u32| (1..=URL_MAX).contains(&s))
        {
            let message =
                format!("X-Amz-Expires is {seconds:?}; a URL serves 1 to {URL_MAX} seconds");
            let code = "AuthorizationQueryParametersError";
            return Err(ErrorResponse::new(StatusCode::BAD_REQUEST, code, message));
        }
        if parts
            .headers
            .get(AUTHORIZATION)
            .is_some_and(HeaderValue::is_empty)
        {
            parts.headers.remove(AUTHORIZATION);
        }
        let (method, object) = (parts.method.clone(), head.is_object(&parts.method));
        let answered = self.call(parts, body).await?;
        self.finish(head, &method, object, answered).await
    }

    async fn call(&self, parts: Parts, body: Body) -> Result<Response<Body>, ErrorResponse> {
        let answered = self.inner.s3.call(Request::from_parts(parts, body)).await;
        answered.map_err(|failed| {
            error!(error = %StdError::from(failed), "a bucket request failed");
            ErrorResponse::from(S3ErrorCode::InternalError)
        })
    }

    /// Authenticates a COS request. Returns `None` if it is anonymous.
    fn verify(
        &self,
        head: &RequestHead,
        parts: &Parts,
    ) -> Result<Option<Principal>, ErrorResponse> {
        let header = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let read = match header.filter(|text| !text.is_empty()) {
            Some(text) => Authorization::parse(text),
            None => match Authorization::from_query(&head.query) {
                Some(read) => read,
                None => return Ok(None),
            },
        };
        let token = parts
            .headers
            .get(TOKEN)
            .and_then(|value| value.to_str().ok());
        let signed = Signed {
            method: &parts.method,
            host: &head.host,
            service: head.is_service(&parts.method),
            path: &head.path,
            query: &head.query,
            headers: &parts.headers,
        };
        self.inner
            .verify(
                head,
                read,
                token.or(head.get(TOKEN)),
                |read, secret, now| read.verify(secret, &signed, now),
            )
            .map(Some)
    }

    /// Authenticates a version 2 URL and removes its signature.
    fn verify_v2(&self, head: &RequestHead, parts: &mut Parts) -> Result<Principal, ErrorResponse> {
        let url = SignedUrl::read(parts)?;
        let now = jiff::Timestamp::now().as_second();
        let bucket = head.host_bucket.as_deref();
        let principal =
            self.inner
                .authenticate(head, &url.key_id, url.token.as_deref(), |secret| {
                    url.verify(secret, parts, bucket, now)
                })?;
        url.strip(parts).map_err(|error| {
            let message = format!("the request cannot be read: {error}");
            ErrorResponse::new(StatusCode::BAD_REQUEST, "InvalidArgument", message)
        })?;
        Ok(principal)
    }

    /// Returns whether the address is admitted, or the key has authenticated from it before.
    fn admits(&self, head: &RequestHead, headers: &HeaderMap) -> bool {
        let (authorizer, from) = (&self.inner.authorizer, head.client.from);
        let known = || {
            let signer = head.signer(headers);
            signer.is_some_and(|(id, _)| authorizer.has_authenticated(from, &id))
        };
        authorizer.admits(from) || known()
    }

    /// Adapts a response to its dialect.
    async fn finish(
        &self,
        head: &RequestHead,
        method: &Method,
        object: bool,
        answered: Response<Body>,
    ) -> Result<Response<Body>, ErrorResponse> {
        let (mut parts, mut body) = answered.into_parts();
        let failed = parts.status.is_client_error() || parts.status.is_server_error();
        let xml = parts
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind == "application/xml");
        let completes = *method == Method::POST && head.has("uploadId");
        let attributes = *method == Method::GET && head.has("attributes");
        let of_interest =
            failed || (!object && head.dialect == Dialect::Cos) || completes || attributes;
        if !xml || !of_interest {
            return Ok(Response::from_parts(parts, body));
        }
        let document = body
            .store_all_limited(DOCUMENT_MAX)
            .await
            .map_err(|error| {
                error!(%error, "failed to read a response of the bucket API");
                ErrorResponse::from(S3ErrorCode::InternalError)
            })?;
        let text = String::from_utf8_lossy(&document);
        if failed {
            let mut error_response = ErrorResponse::read(parts.status, &text);
            self.inner.count_failure(head, &error_response);
            parts.headers.remove(CONTENT_LENGTH);
            error_response.headers = Box::new(parts.headers);
            return Err(error_response);
        }
        let mut text = text.into_owned();
        if head.dialect == Dialect::Cos {
            text = response::document(&text);
        }
        if attributes {
            // Here S3 omits the quotes of the ETag.
            text = text
                .replace("<ETag>&quot;", "<ETag>")
                .replace("&quot;</ETag>", "</ETag>")
                .replace("<ETag>\"", "<ETag>")
                .replace("\"</ETag>", "</ETag>");
        }
        if completes {
            text = with_location(&text, &head.url());
        }
        parts.headers.remove(CONTENT_LENGTH);
        Ok(Response::from_parts(parts, Body::from(text)))
    }

    fn preflight(
        &self,
        head: &RequestHead,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, ErrorResponse> {
        cors::check(headers)
            .map_err(|why| ErrorResponse::new(StatusCode::BAD_REQUEST, "BadRequest", why))?;
        let bucket = self
            .bucket(head, headers)
            .and_then(|name| self.inner.store.bucket(&name).ok());
        let said = bucket.and_then(|bucket| cors::preflight(&bucket.cors, headers));
        let Some(said) = said else {
            let message =
                "no rule of the bucket's CORS configuration allows this; its owner can add one";
            return Err(ErrorResponse::new(
                StatusCode::FORBIDDEN,
                "AccessForbidden",
                message,
            ));
        };
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = said;
        Ok(response)
    }

    /// Returns the bucket of a request. A short name belongs to the signer's account.
    fn bucket(&self, head: &RequestHead, headers: &HeaderMap) -> Option<BucketName> {
        let name = head.bucket_name()?;
        let full = BucketName::parse(&name)
            .ok()
            .filter(|name| self.inner.store.bucket(name).is_ok());
        full.or_else(|| {
            let (id, token) = head.signer(headers)?;
            let key = self.inner.authorizer.key(&id, token.as_deref())?;
            BucketName::new(&name, key.principal.app_id).ok()
        })
    }
}

impl Inner {
    /// Verifies a COS signature.
    pub(crate) fn verify(
        &self,
        head: &RequestHead,
        read: Result<Authorization, SignatureError>,
        token: Option<&str>,
        compare: impl FnOnce(&Authorization, &str, i64) -> Result<(), SignatureError>,
    ) -> Result<Principal, ErrorResponse> {
        let read = read.map_err(refused)?;
        let now = jiff::Timestamp::now().as_second();
        self.authenticate(head, &read.key_id, token, |secret| {
            compare(&read, secret, now).map_err(refused)
        })
    }

    /// Authenticates a request: looks up its key and verifies the signature. Apart from requests that `s3s` verifies,
    /// every authentication passes here.
    pub(crate) fn authenticate(
        &self,
        head: &RequestHead,
        id: &str,
        token: Option<&str>,
        compare: impl FnOnce(&str) -> Result<(), ErrorResponse>,
    ) -> Result<Principal, ErrorResponse> {
        let token = token.filter(|token| !token.is_empty());
        let key = self.authorizer.key(id, token).ok_or_else(|| {
            let message = "the Access Key Id you provided does not exist in our records, is disabled, or its token is not its own";
            ErrorResponse::new(StatusCode::FORBIDDEN, "InvalidAccessKeyId", message)
        });
        let verified = key.and_then(|key| {
            compare(&key.secret)?;
            Ok(key.principal)
        });
        let principal =
            verified.inspect_err(|error_response| self.count_failure(head, error_response))?;
        let accepted = head.client.connection.verified(&principal);
        accepted.map_err(|why| ErrorResponse::new(StatusCode::FORBIDDEN, "AccessDenied", why))?;
        Ok(principal)
    }

    /// Counts a failed authentication against the source address.
    pub(crate) fn count_failure(&self, head: &RequestHead, error_response: &ErrorResponse) {
        if ["SignatureDoesNotMatch", "InvalidAccessKeyId"].contains(&error_response.code.as_str()) {
            self.authorizer.record_failure(head.client.from);
        }
    }
}

impl Inner {
    /// Returns the bucket of a request. A short name belongs to the signer's account.
    pub(crate) fn bucket(
        &self,
        head: &RequestHead,
        signer: Option<&Principal>,
    ) -> Result<BucketName, ErrorResponse> {
        let none = || ErrorResponse::from(S3ErrorCode::NoSuchBucket);
        let name = head.bucket_name().ok_or_else(none)?;
        let full = BucketName::parse(&name).ok();
        let own = signer.and_then(|signer| BucketName::new(&name, signer.app_id).ok());
        let named = [full, own].into_iter().flatten();
        let mut there = named.filter(|name| self.store.bucket(name).is_ok());
        there.next().ok_or_else(none)
    }

    /// Authorizes a write: by the signer's permissions, else by the bucket's ACL.
    pub(crate) fn authorize_write(
        &self,
        signer: Option<&Principal>,
        action: &str,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<(), ErrorResponse> {
        let access = AccessRequest {
            action,
            app_id: bucket.app_id(),
            bucket: Some(bucket.name()),
            key: Some(key.as_str()),
        };
        let own = signer.is_some_and(|signer| self.authorizer.allows(signer, &access));
        let open = || {
            self.store
                .bucket(bucket)
                .is_ok_and(|bucket| bucket.acl == Acl::PublicReadWrite)
        };
        if own || open() {
            Ok(())
        } else {
            Err(S3ErrorCode::AccessDenied.into())
        }
    }
}

impl RequestHead {
    /// Returns the request data for an error document.
    pub(crate) fn error_context(&self) -> ErrorContext<'_> {
        ErrorContext {
            dialect: self.dialect,
            host: &self.host,
            path: &self.path,
            request: &self.id,
        }
    }

    /// Returns the context for S3's handlers.
    fn call(&self, method: &Method) -> RequestContext {
        let bucket = *method == Method::PUT && self.target().1.is_empty();
        RequestContext {
            dialect: self.dialect,
            full_names: self.cos_host,
            request: self.id.clone(),
            source_ip: self.client.from.to_string(),
            depth: self.depth,
            may_create: bucket,
            connection: self.client.connection.clone(),
        }
    }

    /// Returns the origin of the request's changes.
    pub(crate) fn change(&self, signer: Option<&Principal>) -> store::ChangeOrigin {
        store::ChangeOrigin {
            request: self.id.clone(),
            source_ip: self.client.from.to_string(),
            by: signer.map(|signer| signer.key_id.clone()),
            depth: signer.map_or(0, |signer| signer.depth).max(self.depth),
        }
    }

    /// Returns the request's URL.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.client.secure { "https" } else { "http" };
        format!("{scheme}://{}{}", self.host, self.path)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let pair = self.query.iter().find(|(given, _)| given == name);
        pair.map(|(_, value)| value.as_str())
    }

    /// Returns the bucket's name as given, and the key.
    pub(crate) fn target(&self) -> (Option<String>, String) {
        let path = crate::percent::decode(&self.path);
        let path = path.strip_prefix('/').unwrap_or(&path);
        match &self.host_bucket {
            Some(bucket) => (Some(bucket.clone()), path.to_owned()),
            None => {
                let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
                (
                    (!bucket.is_empty()).then(|| bucket.to_owned()),
                    key.to_owned(),
                )
            }
        }
    }

    /// Returns whether the request lists the account's buckets.
    fn is_service(&self, method: &Method) -> bool {
        *method == Method::GET && self.target() == (None, String::new())
    }

    fn bucket_name(&self) -> Option<String> {
        self.target().0
    }

    /// Returns whether the request reads an object's bytes.
    fn is_object(&self, method: &Method) -> bool {
        let about = SUBRESOURCES.iter().any(|name| self.has(name));
        *method == Method::GET && !self.target().1.is_empty() && !about
    }

    /// Returns the key id and session token that a request claims, unverified.
    fn signer(&self, headers: &HeaderMap) -> Option<(String, Option<String>)> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let given = text("authorization").filter(|text| !text.is_empty());
        let id = match given {
            Some(text) if text.starts_with("q-sign-algorithm") => {
                Authorization::parse(text).ok()?.key_id
            }
            Some(text) => match text.split_once("Credential=") {
                Some((_, rest)) => rest.split('/').next()?.to_owned(),
                None => text.strip_prefix("AWS ")?.split(':').next()?.to_owned(),
            },
            None => match Authorization::from_query(&self.query) {
                Some(read) => read.ok()?.key_id,
                None => {
                    let credential = self
                        .get("X-Amz-Credential")
                        .or(self.get("AWSAccessKeyId"))?;
                    credential.split('/').next()?.to_owned()
                }
            },
        };
        let token = text("x-amz-security-token").or(text(TOKEN));
        let token = token
            .or(self.get("X-Amz-Security-Token"))
            .or(self.get(TOKEN));
        Some((
            id,
            token.filter(|token| !token.is_empty()).map(str::to_owned),
        ))
    }
}

fn refused(error: SignatureError) -> ErrorResponse {
    let code = match error {
        SignatureError::Malformed(_) | SignatureError::Repeated(_) => {
            return ErrorResponse::new(
                StatusCode::BAD_REQUEST,
                "InvalidArgument",
                error.to_string(),
            );
        }
        SignatureError::NotYetValid => "RequestTimeTooSkewed",
        SignatureError::Expired | SignatureError::Unsigned(_) => "AccessDenied",
        SignatureError::Mismatch => "SignatureDoesNotMatch",
    };
    ErrorResponse::new(StatusCode::FORBIDDEN, code, error.to_string())
}

/// Returns whether this is an unauthenticated health check. A signed request for the path may mean a bucket.
fn is_health(parts: &Parts) -> bool {
    parts.method == Method::GET
        && parts.uri.path() == "/healthz"
        && parts.uri.query().is_none()
        && !parts.headers.contains_key(AUTHORIZATION)
}

/// Inserts the object's URL into the document of a completed upload.
fn with_location(text: &str, url: &str) -> String {
    let location = format!("<Location>{}</Location>", quick_xml::escape::escape(url));
    let outside = text.split_once("<Location>").and_then(|(head, rest)| {
        let (_, tail) = rest.split_once("</Location>")?;
        Some(format!("{head}{location}{tail}"))
    });
    outside.unwrap_or_else(|| {
        let root = "<CompleteMultipartUploadResult";
        match text
            .split_once(root)
            .and_then(|(head, rest)| Some((head, rest.split_once('>')?)))
        {
            Some((head, (attributes, tail))) => {
                format!("{head}{root}{attributes}>{location}{tail}")
            }
            None => text.to_owned(),
        }
    })
}

/// Returns a new request id in COS's form: base64 text.
fn new_id() -> String {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let mut random = [0; 12];
    // Ids need not be secret. Without random bytes the time still distinguishes them.
    let _ = getrandom::fill(&mut random);
    let now = jiff::Timestamp::now().as_second();
    let hex = hex::encode(random);
    STANDARD.encode(format!(
        "{now:x}_{}_{}_{}",
        &hex[..8],
        &hex[8..16],
        &hex[16..]
    ))
}

impl fmt::Debug for BucketServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("store", &self.inner.store)
            .finish_non_exhaustive()
    }
}
