//! The location of the master key: the environment, or a file in the data directory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use catalog::kv::{Kv, KvError, SealedKv};
use catalog::{MasterKey, MasterKeys};
use thiserror::Error;

const VARIABLE: &str = "VIRGA_MASTER_KEY";
/// The file in the data directory.
pub(crate) const FILE: &str = "master.key";

/// The reason why the master key is missing or wrong, with the fix.
#[derive(Debug, Error)]
pub enum MasterError {
    /// The data is sealed under a key that is not there.
    #[error(
        "the data is sealed with the master key {id}, which is not here; restore {path} from its backup, or set {VARIABLE} \
         to that key. Without it nothing that is stored can be read"
    )]
    Missing {
        /// The id of the key.
        id: String,
        /// The file.
        path: String,
    },
    /// The key file is not of this form.
    #[error("{0} must hold one key per line, the newest first, each base64 of 32 bytes")]
    Format(String),
    /// The variable with the key is malformed.
    #[error(
        "{VARIABLE} must hold base64 of 32 bytes, as `openssl rand -base64 32` prints; older keys may follow after commas"
    )]
    Variable,
    /// A value cannot be decrypted.
    #[error("{0} can be read by others than its owner; chmod 600 {0}")]
    Open(String),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// The system has no random bytes.
    #[error("failed to create a master key: {0}")]
    Random(getrandom::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] KvError),
}

/// Loads the master keys from the environment or the data directory. Creates a key if nothing is sealed yet.
pub async fn load(directory: &Path, store: &dyn Kv) -> Result<MasterKeys, MasterError> {
    if let Some(given) = std::env::var_os(VARIABLE).filter(|given| !given.is_empty()) {
        let given = given.to_str().ok_or(MasterError::Variable)?;
        return MasterKeys::parse(given.split(',')).ok_or(MasterError::Variable);
    }
    let path = directory.join(FILE);
    let shown = || path.display().to_string();
    let failed = |source| MasterError::Io {
        path: shown(),
        source,
    };
    match File::open(&path) {
        Ok(file) => {
            if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
                return Err(MasterError::Open(shown()));
            }
            let text = io::read_to_string(file).map_err(failed)?;
            MasterKeys::parse(text.lines()).ok_or_else(|| MasterError::Format(shown()))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => match SealedKv::key_of(store).await? {
            Some(id) => Err(MasterError::Missing { id, path: shown() }),
            None => {
                let first = MasterKey::random().map_err(MasterError::Random)?;
                write(&path, &first).map_err(failed)?;
                Ok(MasterKeys {
                    first,
                    older: Vec::new(),
                })
            }
        },
        Err(e) => Err(failed(e)),
    }
}

/// Opens a sealed store with these keys.
pub async fn unseal(
    directory: &Path,
    store: std::sync::Arc<dyn Kv>,
    keys: &MasterKeys,
) -> Result<SealedKv, MasterError> {
    SealedKv::open(store, keys).await.map_err(|e| match e {
        KvError::Locked { id } => MasterError::Missing {
            id,
            path: directory.join(FILE).display().to_string(),
        },
        other => other.into(),
    })
}

/// Writes the key to stable storage before anything is sealed with it.
fn write(path: &Path, key: &MasterKey) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    writeln!(file, "{}", key.reveal())?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
