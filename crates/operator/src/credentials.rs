//! The configured account's key pair: from the environment, or created at first start and stored in the data directory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use scf::SecretKey;
use serde::{Deserialize, Serialize};

const ID: &str = "VIRGA_SECRET_ID";
const KEY: &str = "VIRGA_SECRET_KEY";
/// The file in the data directory.
pub const FILE: &str = "credentials.json";

/// A key pair.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The SecretId.
    pub id: String,
    /// The SecretKey.
    pub key: SecretKey,
}

/// The reason why no key pair can be loaded.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Only one of the two variables is set; the other is named.
    #[error("{ID} and {KEY} must be set together, or neither; {0} is missing")]
    Half(&'static str),
    /// This variable is empty.
    #[error(
        "{0} is set but empty; give it a value, or unset it to use the key pair in the data directory"
    )]
    Empty(&'static str),
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// The file is not JSON of this form.
    #[error("{path} is not a credentials file: {source}; remove it to create a new key pair")]
    Format {
        /// The file.
        path: String,
        /// The cause.
        source: serde_json::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Stored {
    secret_id: String,
    secret_key: String,
}

/// Returns the key pair of the environment, if set.
pub fn from_environment() -> Result<Option<Credentials>, CredentialsError> {
    pair(std::env::var(ID).ok(), std::env::var(KEY).ok())
}

/// Parses the two variables. An empty one is an error: it is a mistake in a script, and must not select another key
/// silently.
fn pair(id: Option<String>, key: Option<String>) -> Result<Option<Credentials>, CredentialsError> {
    for (name, value) in [(ID, &id), (KEY, &key)] {
        if value.as_ref().is_some_and(String::is_empty) {
            return Err(CredentialsError::Empty(name));
        }
    }
    match (id, key) {
        (Some(id), Some(key)) => Ok(Some(Credentials {
            id,
            key: SecretKey::new(key),
        })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(CredentialsError::Half(KEY)),
        (None, Some(_)) => Err(CredentialsError::Half(ID)),
    }
}

/// Loads the key pair of a data directory, if there is one.
pub fn from_file(path: &Path) -> Result<Option<Credentials>, CredentialsError> {
    let shown = || path.display().to_string();
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(CredentialsError::Io {
                path: shown(),
                source,
            });
        }
    };
    let stored: Stored =
        serde_json::from_slice(&text).map_err(|source| CredentialsError::Format {
            path: shown(),
            source,
        })?;
    Ok(Some(Credentials {
        id: stored.secret_id,
        key: SecretKey::new(stored.secret_key),
    }))
}

/// Loads the key pair of the environment, else of the data directory; else creates one, readable by its owner alone.
pub fn load(directory: &Path) -> Result<Credentials, CredentialsError> {
    if let Some(given) = from_environment()? {
        return Ok(given);
    }
    let path = directory.join(FILE);
    if let Some(stored) = from_file(&path)? {
        return Ok(stored);
    }
    make(&path).map_err(|source| CredentialsError::Io {
        path: path.display().to_string(),
        source,
    })
}

/// Creates a random key pair.
///
/// # Errors
/// The system has no random bytes.
fn random() -> io::Result<Credentials> {
    let mut random = [0; 48];
    io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut random)?;
    Ok(Credentials {
        id: format!("AKID{}", hex::encode(&random[..16])),
        key: SecretKey::new(hex::encode(&random[16..])),
    })
}

fn make(path: &Path) -> io::Result<Credentials> {
    let made = random()?;
    let stored = Stored {
        secret_id: made.id.clone(),
        secret_key: made.key.reveal().to_owned(),
    };
    let temporary = path.with_extension("new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(&serde_json::to_vec_pretty(&stored).map_err(io::Error::other)?)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn empty_credential_variable_is_refused() {
        let text = |value: &str| Some(value.to_owned());
        for (id, key) in [
            (text(""), None),
            (text(""), text("")),
            (None, text("")),
            (text("id"), text("")),
            (text("id"), None),
        ] {
            assert!(pair(id.clone(), key.clone()).is_err(), "{id:?} {key:?}");
        }
        assert!(matches!(pair(None, None), Ok(None)));
        let both = pair(text("id"), text("key")).expect("a pair");
        assert_eq!(both.expect("a pair").id, "id");
    }

    #[test]
    fn key_pair_is_created_once_with_mode_0600() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(FILE);
        let made = make(&path).expect("made");
        let read = from_file(&path).expect("read").expect("there");
        assert_eq!((made.id, made.key), (read.id, read.key));
        assert_eq!(
            fs::metadata(&path).expect("there").permissions().mode() & 0o777,
            0o600
        );
        let other = make(&directory.path().join("other")).expect("made");
        assert_ne!(
            other.key,
            from_file(&path).expect("read").expect("there").key
        );
        fs::write(&path, "{}").expect("written");
        assert!(matches!(
            from_file(&path),
            Err(CredentialsError::Format { .. })
        ));
    }
}
