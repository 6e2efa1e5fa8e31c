//! A client of the public API.

use std::time::Duration;

use operator::credentials::{self, Credentials, CredentialsError};
use scf::action::Action;
use scf::envelope::{self, ErrorResponse};
use scf::tc3::{self, ToSign};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::common::CommonArgs;
use super::roots::{self, RootsError};

/// Longer than the maximum timeout of a function.
const TIMEOUT: Duration = Duration::from_secs(1000);
const ANSWER_MAX: u64 = 128 << 20;

/// The error of an API call.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    #[error(
        "{endpoint} cannot be reached: {source}; start the server with virga up, or set its address with --endpoint"
    )]
    Unreachable {
        endpoint: String,
        source: Box<ureq::Error>,
    },
    #[error("{0}")]
    Refused(#[from] ErrorResponse),
    #[error("{endpoint} sent a response that is not the API's: {why}; check --endpoint")]
    UnexpectedAnswer { endpoint: String, why: String },
    #[error(
        "failed to upload the package of {bytes} bytes to bucket {bucket} at {endpoint}: {why}; a request carries up to 50 MB, so choose \
         another bucket with --bucket, or the address of the buckets with --buckets, or exclude files with .virgaignore"
    )]
    NotUploaded {
        bytes: usize,
        bucket: String,
        endpoint: String,
        why: String,
    },
    #[error("no credentials: {data} has no {file}; set the server's data directory with --data, or set VIRGA_SECRET_ID and VIRGA_SECRET_KEY", file = credentials::FILE)]
    NoCredentials { data: String },
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Roots(#[from] RootsError),
}

impl ClientError {
    pub(super) fn is_authentication(&self) -> bool {
        match self {
            Self::Refused(refusal) => {
                refusal.code.starts_with("AuthFailure") || refusal.code == "UnauthorizedOperation"
            }
            Self::NoCredentials { .. } | Self::Credentials(_) => true,
            Self::Unreachable { .. }
            | Self::UnexpectedAnswer { .. }
            | Self::NotUploaded { .. }
            | Self::Roots(_) => false,
        }
    }

    /// Returns whether the server responded with this error code.
    pub(super) fn is_code(&self, code: &str) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == code)
    }

    /// Returns whether the error is that the function does not exist.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code.starts_with("ResourceNotFound.Function"))
    }
}

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Client {
    agent: ureq::Agent,
    endpoint: String,
    host: String,
    credentials: Credentials,
    pub(super) namespace: String,
}

impl Client {
    pub(super) fn new(common: &CommonArgs) -> Result<Self, ClientError> {
        let credentials =
            match credentials::from_environment()? {
                Some(configured) => configured,
                None => credentials::from_file(&common.data.join(credentials::FILE))?.ok_or_else(
                    || ClientError::NoCredentials {
                        data: common.data.display().to_string(),
                    },
                )?,
            };
        let endpoint = common.endpoint.trim_end_matches('/').to_owned();
        let host = endpoint
            .split_once("://")
            .map_or(endpoint.as_str(), |(_, host)| host)
            .to_owned();
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false);
        let config = if endpoint.starts_with("https://") {
            config.tls_config(roots::config(common.ca.as_deref())?)
        } else {
            config
        };
        // A local server is never behind a forward proxy.
        let agent = config.proxy(None).build().into();
        Ok(Self {
            agent,
            endpoint,
            host,
            credentials,
            namespace: common.namespace.clone(),
        })
    }

    /// Calls an action.
    pub(super) fn call<A: Action>(&self, request: &A::Request) -> Result<A::Response, ClientError> {
        self.send(A::VERSION, A::NAME, request)
    }

    /// Calls an action by name.
    pub(super) fn call_by_name<T: DeserializeOwned>(
        &self,
        action: &str,
        request: &impl Serialize,
    ) -> Result<T, ClientError> {
        let known = scf::action::find(action);
        let version = known.map_or(scf::VERSION, |known| known.service.version);
        self.send(version, action, request)
    }

    fn send<T: DeserializeOwned>(
        &self,
        version: &str,
        action: &str,
        request: &impl Serialize,
    ) -> Result<T, ClientError> {
        const CONTENT_TYPE: &str = "application/json";
        let body = envelope::request_body(request);
        let now = clock::now_ms() / 1000;
        let (timestamp, nonce) = (now.to_string(), clock::new_request_id().to_string());
        let mut signed = vec![("x-tc-action", action)];
        let service = if version == operator::VERSION {
            signed.push(("x-tc-nonce", &nonce));
            operator::SERVICE
        } else {
            let own = scf::SERVICES.iter().find(|one| one.version == version);
            own.map_or(scf::SERVICE, |service| service.name)
        };
        signed.extend([
            ("x-tc-timestamp", &timestamp[..]),
            ("x-tc-version", version),
        ]);
        let authorization = tc3::authorization(&ToSign {
            secret_id: &self.credentials.id,
            secret_key: &self.credentials.key,
            service,
            host: &self.host,
            content_type: CONTENT_TYPE,
            headers: &signed,
            payload: &body,
            timestamp: now,
        });
        let request = self
            .agent
            .post(&format!("{}/", self.endpoint))
            .header("Host", &self.host)
            .header("Content-Type", CONTENT_TYPE)
            .header("Authorization", &authorization);
        let request = signed.iter().fold(request, |request, (name, value)| {
            request.header(*name, *value)
        });
        let sent = request.send(&body[..]);
        let unreachable = |source| ClientError::Unreachable {
            endpoint: self.endpoint.clone(),
            source: Box::new(source),
        };
        let mut answer = sent.map_err(unreachable)?;
        let bytes = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_MAX)
            .read_to_vec()
            .map_err(unreachable)?;
        let unexpected = |why: String| ClientError::UnexpectedAnswer {
            endpoint: self.endpoint.clone(),
            why,
        };
        let read = envelope::decode::<T>(&bytes).map_err(|e| unexpected(e.to_string()))?;
        Ok(read?)
    }

    /// Sends a request that is already signed.
    pub(super) fn run(
        &self,
        request: ureq::http::Request<&[u8]>,
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        self.agent.run(request)
    }

    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Returns the address of the API, without a trailing slash.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns the namespace from the command line.
    pub(super) fn namespace(&self) -> Option<String> {
        Some(self.namespace.clone())
    }
}
