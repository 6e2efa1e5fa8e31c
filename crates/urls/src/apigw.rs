//! APIs of the API gateway: routing, authentication, and the gateway's own replies, whose texts are the cloud's.

use access::{AuthError, NotAdmitted, Transport};
use axum::http::{HeaderMap, Method, StatusCode};
use model::{FunctionKey, Secret, TriggerName};
use scf::keypair::{self, KeyPair};
use scf::{RawRequest, SecretKeyRef};

use super::cors;
use super::refusal::Refused;
use super::target::{EntryPoint, MatchedApi, Target};
use super::urls::Urls;

impl Urls {
    /// Finds the target of a request to a service, and to a path that begins with a stage. The service must be
    /// `account`'s if that is given.
    pub(super) fn service_target(
        &self,
        service: &str,
        account: Option<&str>,
        path: &str,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Target, Refused> {
        let not_found = || missing("host", service);
        let id = TriggerName::parse(service).map_err(|_| not_found())?;
        let stored = self.catalog.function_of_url(&id).ok_or_else(not_found)?;
        let function = &stored.value;
        let (trigger, api) = function.api(service).ok_or_else(not_found)?;
        if account.is_some_and(|account| account != function.key.account.to_string()) {
            return Err(not_found());
        }
        let (stage, below) = split(path);
        if stage != api.stage.as_str() {
            return Err(missing("default env_mapping", stage));
        }
        let parameters = api
            .path
            .match_path(below)
            .ok_or_else(|| missing("uri", below))?;
        let asks = api.cors && cors::is_preflight(method, headers);
        if !asks && !api.method.accepts(method.as_str()) {
            return Err(missing("method", method.as_str()));
        }
        if !trigger.enabled {
            let message = "this API's trigger is closed".to_owned();
            return Err(Refused::of_gateway(StatusCode::FORBIDDEN, message));
        }
        let parameters = parameters
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(Target {
            function: function.key.clone(),
            found: Some(stored.clone().into()),
            qualifier: trigger.qualifier.clone(),
            path: Some(below.to_owned()),
            by_path: false,
            shared_origin: false,
            entry_point: EntryPoint::Api(Box::new(MatchedApi {
                parameters: parameters.collect(),
                api: api.clone(),
            })),
        })
    }

    /// Authenticates a request to an API by its key pair. Returns the id of the key.
    pub(super) fn key_of(
        &self,
        function: &FunctionKey,
        transport: Transport,
        request: RawRequest<'_>,
    ) -> Result<String, Refused> {
        let unsigned =
            |e: keypair::Refused| Refused::of_gateway(StatusCode::UNAUTHORIZED, e.to_string());
        let pair = KeyPair::parse(request).map_err(unsigned)?;
        let verify = |secret: &Secret, now| pair.verify(SecretKeyRef::new(secret.reveal()), now);
        self.access
            .admit_to_api(pair.id, verify, transport, function)
            .map_err(|refused| match refused {
                NotAdmitted::Auth(AuthError::Signature(e)) => unsigned(e),
                NotAdmitted::Auth(AuthError::Blocked) => {
                    Refused::of_gateway(StatusCode::TOO_MANY_REQUESTS, refused.to_string())
                }
                // The gateway does not say why a key is not usable.
                NotAdmitted::Auth(_) => unsigned(keypair::Refused::Unknown),
                NotAdmitted::OtherAccount => unsigned(keypair::Refused::Key),
                NotAdmitted::PlainRootKey(_) | NotAdmitted::Denied(_) => {
                    Refused::of_gateway(StatusCode::FORBIDDEN, refused.to_string())
                }
            })?;
        Ok(pair.id.to_owned())
    }
}

fn missing(what: &str, given: &str) -> Refused {
    let shown: String = given.chars().take(200).collect();
    let message = format!("There is no api match {what} '{shown}'");
    Refused::of_gateway(StatusCode::NOT_FOUND, message)
}

/// Splits a path into its first segment and the rest.
fn split(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    match path.find('/') {
        Some(at) => path.split_at(at),
        None => (path, "/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_path_starts_with_the_stage() {
        for (path, stage, below) in [
            ("/release/a/b", "release", "/a/b"),
            ("/release/", "release", "/"),
            ("/release", "release", "/"),
            ("/", "", "/"),
            ("", "", "/"),
        ] {
            assert_eq!(split(path), (stage, below), "{path}");
        }
    }
}
