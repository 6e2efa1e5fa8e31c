//! How virga connects to the servers.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions};
use percent_encoding::percent_decode_str;
use thiserror::Error;

/// How long an answer of a server is waited for. It is longer than an election mostly takes.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);
/// How often a connection is checked. The client's own default of a minute would keep a dead connection for two.
const PING: Duration = Duration::from_secs(1);
/// The longest pause between two attempts to connect, so that a server that returns is used within two seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Where the servers are, and who connects.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// URLs of servers: `nats://HOST:PORT` or `tls://HOST:PORT`, perhaps with `USER:PASSWORD@`. They name further ones.
    pub servers: Vec<String>,
    /// File with the user's credentials, as `nsc` writes it (a JWT and a seed), or with a seed alone (an nkey).
    pub credentials: Option<PathBuf>,
    /// Encryption.
    pub tls: Tls,
    /// Name under which the servers list the connection.
    pub name: String,
}

/// Encryption of the connection.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Whether a server without it is refused.
    pub required: bool,
    /// File with the certificates of the authorities that may sign the servers' (PEM); the system's if there is none.
    pub authority: Option<PathBuf>,
    /// Files with virga's certificate and its key (PEM), for servers that verify their clients.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// Why there is no connection.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConnectError {
    /// The servers do not answer; trying again helps.
    #[error("no NATS server of {servers} can be reached: {reason}")]
    Unavailable {
        /// Their URLs, without passwords.
        servers: String,
        /// Why.
        reason: String,
    },
    /// The servers do not know the user, or the certificate.
    #[error(
        "the NATS servers {servers} refuse the connection: {reason}. Check the credentials and the authority's certificate"
    )]
    Refused {
        /// Their URLs, without passwords.
        servers: String,
        /// Why.
        reason: String,
    },
    /// The credentials cannot be read.
    #[error("the credentials in {} cannot be used: {reason}", path.display())]
    Credentials {
        /// Their file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Connects to the servers. The connection moves to another of them when its own ends.
///
/// # Errors
/// Fails if none answers, if they refuse the user, or if the credentials cannot be read.
pub async fn connect(connection: &Connection) -> Result<Client, ConnectError> {
    let options = with_tls(&connection.tls, credentials(connection)?);
    let options = options.name(&connection.name);
    let connected = relied_on(options).connect(&connection.servers).await;
    connected.map_err(|error| {
        let servers = connection.servers.iter().map(|url| without_user(url));
        let servers = servers.collect::<Vec<_>>().join(", ");
        let reason = error.to_string();
        match error.kind() {
            ConnectErrorKind::Authentication
            | ConnectErrorKind::AuthorizationViolation
            | ConnectErrorKind::Tls => ConnectError::Refused { servers, reason },
            _ => ConnectError::Unavailable { servers, reason },
        }
    })
}

/// Adds the settings on which a log relies.
fn relied_on(options: ConnectOptions) -> ConnectOptions {
    let pause = |attempt: usize| {
        let doubled = Duration::from_millis(50).saturating_mul(1 << attempt.min(10));
        doubled.min(LONGEST_PAUSE)
    };
    options
        .ping_interval(PING)
        .connection_timeout(TIMEOUT)
        .request_timeout(Some(TIMEOUT))
        .reconnect_delay_callback(pause)
}

fn credentials(connection: &Connection) -> Result<ConnectOptions, ConnectError> {
    let Some(path) = &connection.credentials else {
        // The client itself ignores the user in a URL.
        return Ok(match connection.servers.iter().find_map(|url| user(url)) {
            Some((user, password)) => ConnectOptions::with_user_and_password(user, password),
            None => ConnectOptions::new(),
        });
    };
    let failed = |reason: String| ConnectError::Credentials {
        path: path.clone(),
        reason,
    };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let line = text.trim();
    if line.starts_with("SU") && !line.contains('\n') {
        return Ok(ConnectOptions::with_nkey(line.to_owned()));
    }
    ConnectOptions::with_credentials(&text).map_err(|_| {
        failed("it has neither a user's JWT and seed, as nsc writes them, nor a user's seed alone (SU…)".to_owned())
    })
}

fn with_tls(tls: &Tls, mut options: ConnectOptions) -> ConnectOptions {
    options = options.require_tls(tls.required);
    if let Some(authority) = &tls.authority {
        options = options.add_root_certificates(authority.clone());
    }
    if let Some((certificate, key)) = &tls.certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    options
}

/// Returns the user and the password of a URL.
fn user(url: &str) -> Option<(String, String)> {
    let url = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (user, _) = url.rsplit_once('@')?;
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some((decoded(user), decoded(password)))
}

fn without_user(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_servers_without_their_passwords() {
        for (url, shown) in [
            ("nats://a:4222", "nats://a:4222"),
            ("nats://user:p@ss@a:4222", "nats://a:4222"),
            ("user:pass@a", "a"),
            ("a", "a"),
        ] {
            assert_eq!(without_user(url), shown);
        }
    }

    #[test]
    fn a_user_is_read_from_the_url() {
        for (url, expected) in [
            ("nats://a:4222", None),
            ("nats://me:p%40ss@a:4222", Some(("me", "p@ss"))),
            ("nats://me:p:a:ss@a", Some(("me", "p:a:ss"))),
            ("me@a", Some(("me", ""))),
        ] {
            let expected = expected.map(|(user, password)| (user.to_owned(), password.to_owned()));
            assert_eq!(user(url), expected, "{url}");
        }
    }

    #[tokio::test]
    async fn credentials_that_are_none_are_refused_with_what_is_expected() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("virga.creds");
        let connection = Connection {
            servers: vec!["nats://127.0.0.1:1".to_owned()],
            credentials: Some(path.clone()),
            ..Connection::default()
        };
        let refused = connect(&connection).await.unwrap_err();
        assert!(
            matches!(refused, ConnectError::Credentials { .. }),
            "{refused}"
        );
        std::fs::write(&path, "secret").unwrap();
        let refused = connect(&connection).await.unwrap_err().to_string();
        assert!(refused.contains("seed alone"), "{refused}");
        assert!(!refused.contains("secret"), "{refused}");
    }
}
