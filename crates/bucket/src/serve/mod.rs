//! Routing of requests: finds the dialect and the bucket, authenticates, and dispatches.
//!
//! A COS request is verified here, translated to S3, and its response is translated back. `s3s` verifies S3 requests.
//! Forms, appends and CORS preflights are handled here, because S3's API has no place for them.

mod body;
mod cors;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderValue, ORIGIN,
};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::body::Body as HttpBody;
use s3s::{Body, S3ErrorCode, StdError};
use tracing::{debug, error};

use self::body::MonitoredBody;
use crate::authorizer::{Authorizer, Principal};
use crate::core::Core;
use crate::cos::signature::{Authorization, Signed, TOKEN};
use crate::cos::{append, request, response, service};
use crate::error_response::{ErrorResponse, id_header};
use crate::form;
use crate::host::Hosts;
use crate::names::BucketName;
use crate::request_head::{Client, RequestHead};
use crate::s3::{self, Dialect, Service};
use crate::signed::{self, Scheme, v2::SignedUrl};
use crate::store::Store;

/// An object server. Clones share the store.
#[derive(Clone)]
pub struct BucketServer {
    inner: Arc<Inner>,
}

struct Inner {
    core: Core,
    s3: Service,
    hosts: Hosts,
}

/// Maximum size of a response document.
const DOCUMENT_MAX: usize = 32 << 20;
/// Maximum validity of a presigned URL (s): one week.
const URL_MAX: u32 = 604_800;
impl BucketServer {
    /// Creates a server over a store.
    pub fn new(store: Store, authorizer: Arc<dyn Authorizer>, hosts: Hosts) -> Self {
        let s3 = s3::service(store.clone(), authorizer.clone(), hosts.clone());
        Self {
            inner: Arc::new(Inner {
                core: Core { store, authorizer },
                s3,
                hosts,
            }),
        }
    }

    /// Returns the bytes in use.
    pub fn used_bytes(&self) -> u64 {
        self.inner.core.store.used_bytes()
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
        let depth = self.inner.core.authorizer.depth(client.from);
        let head = RequestHead::read(&parts, client, depth, &self.inner.hosts);
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
            && let Ok(bucket) = self.inner.core.store.bucket(&bucket)
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
            return form::upload(&self.inner.core, head, &parts, body).await;
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
            return service::list(&self.inner.core, head, principal.as_ref());
        }
        if principal.is_none() && parts.method == Method::POST && head.has("restore") {
            // Only the owner may restore, and the document is read before the action is authorized.
            return Err(S3ErrorCode::AccessDenied.into());
        }
        if parts.method == Method::POST && head.has("append") {
            return append::append(&self.inner.core, head, &parts, principal.as_ref(), body).await;
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
            .core
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
                .core
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
        let (authorizer, from) = (&self.inner.core.authorizer, head.client.from);
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
            self.inner.core.count_failure(head, &error_response);
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
            .and_then(|name| self.inner.core.store.bucket(&name).ok());
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
            .filter(|name| self.inner.core.store.bucket(name).is_ok());
        full.or_else(|| {
            let (id, token) = head.signer(headers)?;
            let key = self.inner.core.authorizer.key(&id, token.as_deref())?;
            BucketName::new(&name, key.principal.app_id).ok()
        })
    }
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

impl fmt::Debug for BucketServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("store", &self.inner.core.store)
            .finish_non_exhaustive()
    }
}
