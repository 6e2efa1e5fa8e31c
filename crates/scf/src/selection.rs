//! Selection of the service for a request.

use crate::service::SERVICES;
use crate::{Call, Code, Error, Service};

/// Domain of the services' hosts, which may contain a region after the service name.
const CLOUD: &str = ".tencentcloudapi.com";

impl Service {
    /// Selects the service of a request, by its API version and the service that it names.
    ///
    /// # Errors
    /// `NoSuchProduct` for an unsupported service, `NoSuchVersion` if the service has another version.
    pub fn of(call: &Call<'_>) -> Result<Self, Error> {
        Self::asked(&call.version, named(call))
    }

    fn asked(version: &str, named: Option<&str>) -> Result<Self, Error> {
        let of_version = SERVICES.into_iter().find(|one| one.version == version);
        let of_name = named.map(|name| SERVICES.into_iter().find(|one| one.name == name));
        match (of_name, of_version) {
            (Some(None), _) => Err(not_here(named.unwrap_or_default())),
            (None, Some(service)) => Ok(service),
            (Some(Some(named)), Some(service)) if named == service => Ok(service),
            (Some(Some(named)), _) => {
                let shown: String = version.chars().take(40).collect();
                let message = format!(
                    "version {shown:?} of the service {} does not exist; {} does",
                    named.name, named.version
                );
                Err(Error::new(Code::NoSuchVersion, message))
            }
            (None, None) => {
                let shown: String = version.chars().take(40).collect();
                let message = format!("version {shown:?} does not exist; {} do", there_are());
                Err(Error::new(Code::NoSuchVersion, message))
            }
        }
    }
}

/// Creates the error for an unsupported service.
fn not_here(name: &str) -> Error {
    let shown: String = name.chars().take(40).collect();
    let message = format!(
        "the service {shown:?} is not here; there are {}",
        there_are()
    );
    Error::new(Code::NoSuchProduct, message)
}

fn there_are() -> String {
    SERVICES
        .map(|one| format!("{} (version {})", one.name, one.version))
        .join(" and ")
}

/// Returns the service that a request names, by a host of the cloud, or else by its credential scope. Some clients derive the
/// scope from the first label of any configured host; such a scope names no service.
fn named<'a>(call: &'a Call<'_>) -> Option<&'a str> {
    let host = call.header("Host").unwrap_or_default();
    let host = host.rsplit_once("://").map_or(host, |(_, host)| host);
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    let label = host.split('.').next().unwrap_or_default();
    if host.ends_with(CLOUD) && !label.is_empty() {
        return Some(label);
    }
    let scope = call.service().filter(|scope| *scope != label)?;
    let starts = scope.starts_with(|c: char| c.is_ascii_lowercase());
    let is_name = starts && scope.bytes().all(|b| b.is_ascii_alphanumeric());
    is_name.then_some(scope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RawRequest, SCF, TAG};

    fn asked(host: &str, scope: &str, version: &str) -> Result<Service, Code> {
        let authorization = format!(
            "TC3-HMAC-SHA256 Credential=id/2019-02-25/{scope}/tc3_request, SignedHeaders=content-type;host, Signature=00"
        );
        let headers = [
            ("Host", host),
            ("X-TC-Action", "Any"),
            ("X-TC-Version", version),
            ("X-TC-Timestamp", "1551113065"),
            ("Authorization", authorization.as_str()),
        ];
        let call = Call::parse(RawRequest {
            method: "POST",
            path: "/",
            query: "",
            headers: &headers,
            body: b"{}",
        });
        Service::of(&call.expect("a request")).map_err(|e| e.code)
    }

    #[test]
    fn service_is_selected_by_host_then_scope_then_version() {
        let (scf, tag) = (SCF.version, TAG.version);
        for (host, scope, version, expected) in [
            ("scf.tencentcloudapi.com", "scf", scf, Ok(SCF)),
            (
                "scf.ap-guangzhou.tencentcloudapi.com:443",
                "scf",
                scf,
                Ok(SCF),
            ),
            ("scf.internal.tencentcloudapi.com", "scf", scf, Ok(SCF)),
            ("tag.tencentcloudapi.com", "tag", tag, Ok(TAG)),
            // The scope does not overrule the host.
            ("tag.tencentcloudapi.com", "scf", tag, Ok(TAG)),
            ("127.0.0.1:9400", "scf", scf, Ok(SCF)),
            ("127.0.0.1:9400", "tag", tag, Ok(TAG)),
            ("http://127.0.0.1:9400", "tag", tag, Ok(TAG)),
            // The Node.js SDK derives the scope from any configured host.
            ("127.0.0.1:9400", "127", scf, Ok(SCF)),
            ("127.0.0.1:9400", "127", tag, Ok(TAG)),
            ("virga.internal:9400", "virga", scf, Ok(SCF)),
            ("localhost:9400", "localhost", tag, Ok(TAG)),
            ("scf.example.com", "scf", scf, Ok(SCF)),
            (
                "vpc.tencentcloudapi.com",
                "vpc",
                "2017-03-12",
                Err(Code::NoSuchProduct),
            ),
            (
                "vpc.tencentcloudapi.com",
                "vpc",
                scf,
                Err(Code::NoSuchProduct),
            ),
            // The same version as the tag service.
            (
                "sts.tencentcloudapi.com",
                "sts",
                tag,
                Err(Code::NoSuchProduct),
            ),
            ("127.0.0.1:9400", "sts", tag, Err(Code::NoSuchProduct)),
            (
                "127.0.0.1:9400",
                "cam",
                "2019-01-16",
                Err(Code::NoSuchProduct),
            ),
            ("127.0.0.1:9400", "tag", scf, Err(Code::NoSuchVersion)),
            ("127.0.0.1:9400", "scf", tag, Err(Code::NoSuchVersion)),
            (
                "127.0.0.1:9400",
                "127",
                "2019-01-16",
                Err(Code::NoSuchVersion),
            ),
            (
                "tag.tencentcloudapi.com",
                "tag",
                "2020-01-01",
                Err(Code::NoSuchVersion),
            ),
        ] {
            assert_eq!(
                asked(host, scope, version),
                expected,
                "{host} {scope} {version}"
            );
        }
    }

    #[test]
    fn error_names_unsupported_and_supported_services() {
        let refused = Service::asked("2018-08-08", Some("apigateway")).expect_err("refused");
        let expected = "the service \"apigateway\" is not here; there are scf (version 2018-04-16) and tag (version 2018-08-13)";
        assert_eq!(refused.message, expected);
    }
}
