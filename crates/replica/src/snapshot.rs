//! Stored copies of a machine's database, from which a replica starts when its log was trimmed.
//!
//! A snapshot is of a [checkpoint](crate::Checkpoint), so every replica knows its digest. It is named by the log's identity and the
//! position: one of a log that was lost is never taken for one of its successor.

mod choice;

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::{info, warn};

use self::choice::{Choice, Local};
use crate::checkpoint::{Checkpoint, CheckpointError, View};
use crate::contents;
use crate::control::Control;
use crate::follower::append_control;
use crate::log::{Log, LogError, LogIdentity, Position};
use crate::machine::Machine;
use crate::record::{Contents, Record};
use crate::replica::Replica;
use crate::submission::SubmitError;
use crate::vault::{StoredFile, Vault, VaultError, file_error, sha256};

/// The version of the form of snapshots.
const VERSION: u32 = 1;
/// Snapshots of a log that are kept: the last one, and one before in case that the last is damaged.
const KEPT: usize = 2;
/// Bytes of records after which a snapshot is worth it, however small the database is.
const LEAST: u64 = 64 << 20;

/// How often it is looked whether a snapshot is due.
const LOOK: Duration = Duration::from_secs(5);
/// The pause after one that failed.
const PAUSE: Duration = Duration::from_secs(30);
/// How long one may take.
const LONGEST: Duration = Duration::from_mins(10);

/// Copies the database in a file to another file, and returns the position of the copy. Writers go on meanwhile.
///
/// # Errors
/// Fails if a file cannot be read or written.
pub fn take(database: &Path, copy: &Path) -> rusqlite::Result<Position> {
    let (view, position) = View::open(database)?;
    view.copy(copy)?;
    Ok(position)
}

/// Returns whether a snapshot is due: when it takes longer to apply the records since the last one than to load it.
pub fn is_due(bytes_since_last: u64, database: u64) -> bool {
    bytes_since_last > LEAST.max(database / 2)
}

/// The snapshots of one log.
#[derive(Clone, Debug)]
pub struct Snapshots {
    vault: Vault,
    /// The log's name, such as `cluster`.
    log: String,
    /// The version of the machine's tables.
    tables: u32,
}

/// Describes a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of its form.
    pub version: u32,
    /// The identity of the log.
    pub log: String,
    /// The checkpoint's position.
    pub at: u64,
    /// The position before it.
    pub through: u64,
    /// The digest of the database's contents.
    pub digest: String,
    /// The version of its tables.
    pub tables: u32,
    /// The database.
    pub file: StoredFile,
}

/// What confirms a snapshot before the log is trimmed behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// Another replica, which had the same contents.
    Replica,
    /// Reading it again. For a cluster of one.
    Reading,
}

/// How a replica starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// From the database that was there, or from an empty one.
    Own,
    /// From a snapshot, which is in the database's file now.
    Snapshot(Position),
}

/// Why a snapshot cannot be stored or loaded.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The replica does not come to a checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The record of it is not written.
    #[error("failed to announce a snapshot: {0}")]
    Submit(#[from] SubmitError),
    /// It cannot be stored or read.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The database cannot be read.
    #[error("the database {path} cannot be read: {error}")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        error: rusqlite::Error,
    },
    /// The snapshot is not what it should be.
    #[error("the snapshot {name} cannot be used: {reason}")]
    Unusable {
        /// Its manifest.
        name: String,
        /// Why.
        reason: String,
    },
    /// The replica cannot start here.
    #[error("{0}")]
    Refused(String),
}

impl Snapshots {
    /// Keeps the snapshots of the log with a name, and of a machine, in a vault.
    pub fn new<M: Machine>(vault: Vault, log: &str) -> Self {
        Self {
            vault,
            log: log.to_owned(),
            tables: M::VERSION,
        }
    }

    /// Stores a snapshot, announces it in the log, and trims the log behind it when it is confirmed. `copy` is a file that is there
    /// meanwhile.
    ///
    /// # Errors
    /// Fails if it cannot be stored, announced or confirmed; the log is not trimmed then.
    pub async fn store<M: Machine>(
        &self,
        replica: &Replica<M>,
        log: &impl Log,
        copy: &Path,
        confirmation: Confirmation,
    ) -> Result<Manifest, SnapshotError> {
        remove(copy)?;
        let checkpoint = replica.checkpoint(copy).await?;
        let manifest = self.upload(&checkpoint, copy).await?;
        let announced = replica.submit_control(Control::Snapshot {
            at: manifest.at,
            through: manifest.through,
            digest: manifest.digest.clone(),
            version: manifest.version,
        });
        announced.await?;
        match confirmation {
            Confirmation::Replica => replica.confirmed(checkpoint.position).await,
            Confirmation::Reading => self.load(&manifest, copy).await?,
        }
        remove(copy)?;
        log.trim(checkpoint.through).await?;
        info!(
            log = self.log,
            position = manifest.at,
            bytes = manifest.file.size,
            "stored a snapshot, and trimmed the log"
        );
        if let Err(error) = self.clean(&manifest).await {
            warn!(log = self.log, %error, "failed to delete older snapshots; the next one tries again");
        }
        Ok(manifest)
    }

    /// Stores a snapshot whenever one is due. Never ends; one member of the log's replicas does it. A snapshot that fails is tried again
    /// after a pause.
    pub async fn keep<M: Machine>(
        &self,
        replica: &Replica<M>,
        log: &impl Log,
        database: &Path,
        confirmation: Confirmation,
    ) {
        let copy = with_suffix(database, ".copy");
        loop {
            tokio::time::sleep(LOOK).await;
            // A size that cannot be read is that of a small database.
            let size = std::fs::metadata(database).map_or(0, |file| file.len());
            if !is_due(replica.bytes_since_snapshot(), size) {
                continue;
            }
            let stored = self.store(replica, log, &copy, confirmation);
            match tokio::time::timeout(LONGEST, stored).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    warn!(log = self.log, %error, "failed to store a snapshot; the log is not trimmed");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(_) => warn!(
                    log = self.log,
                    "a snapshot was not confirmed within {LONGEST:?}, so the log is not trimmed; is another replica up?"
                ),
            }
        }
    }

    async fn upload(
        &self,
        checkpoint: &Checkpoint,
        copy: &Path,
    ) -> Result<Manifest, SnapshotError> {
        let identity = checkpoint.log.clone().unwrap_or(LogIdentity(String::new()));
        let prefix = format!("{}{:020}/", self.prefix(&identity), checkpoint.position.0);
        let name = |index: usize, _: &str| format!("{prefix}{index:06}");
        let file = self.vault.put_file(copy, name, |_| false).await?;
        let manifest = Manifest {
            version: VERSION,
            log: identity.0,
            at: checkpoint.position.0,
            through: checkpoint.through.0,
            digest: checkpoint.digest.clone(),
            tables: checkpoint.tables,
            file,
        };
        // Stored last: a snapshot with a manifest is whole.
        let name = format!("{prefix}{MANIFEST}");
        self.vault.put_json(&name, &manifest).await?;
        Ok(manifest)
    }

    /// Deletes the snapshots of this log before the last ones.
    async fn clean(&self, last: &Manifest) -> Result<(), SnapshotError> {
        let identity = LogIdentity(last.log.clone());
        let manifests = self.manifests(&identity).await?;
        let Some(oldest) = manifests.iter().rev().nth(KEPT - 1) else {
            return Ok(());
        };
        let oldest = oldest.trim_end_matches(MANIFEST);
        for name in self.vault.list(&self.prefix(&identity)).await? {
            if name.as_str() < oldest {
                self.vault.delete(&name).await?;
            }
        }
        Ok(())
    }

    /// Begins an empty log with the database in a file, which was embedded or is from another log. Replicas that follow the log start from
    /// it. `copy` is a file that is there meanwhile. It can be repeated after a failure.
    ///
    /// # Errors
    /// Fails if the log has records, or cannot be written, or if the database cannot be stored.
    pub async fn found(
        &self,
        database: &Path,
        log: &impl Log,
        copy: &Path,
    ) -> Result<Manifest, SnapshotError> {
        let identity = log.identity().await?;
        let at = self.begin(log).await?;
        remove(copy)?;
        let digest = adopt(database, copy, &identity, at);
        let checkpoint = Checkpoint {
            position: at,
            through: at,
            digest: digest.map_err(|error| database_error(database, error))?,
            log: Some(identity),
            tables: self.tables,
        };
        let manifest = self.upload(&checkpoint, copy).await?;
        // The rest of a trimmed log begins with a checkpoint.
        append(log, &Control::Checkpoint { id: String::new() }).await?;
        log.trim(at).await?;
        remove(copy)?;
        Ok(manifest)
    }

    /// Appends the log's first record, unless it is there, and returns its position.
    async fn begin(&self, log: &impl Log) -> Result<Position, SnapshotError> {
        let refused = || {
            SnapshotError::Refused(format!(
                "the log {} has records: a database can be restored into an empty log alone. Choose another subject prefix, or remove its streams",
                self.log
            ))
        };
        if log.trimmed().await? > Position(0) {
            return Err(refused());
        }
        if log.latest().await? == Position(0) {
            return append(log, &Control::Founded).await;
        }
        let mut entries = log.follow(Position(0)).await?;
        let first = entries.next().await.transpose()?.ok_or_else(refused)?;
        match Record::decode(first.record) {
            Ok(Record {
                contents: Contents::Control(Control::Founded),
                ..
            }) => Ok(first.position),
            _ => Err(refused()),
        }
    }

    /// Prepares a database's file for a replica that is going to follow the log: leaves it as it is, or loads a snapshot.
    ///
    /// # Errors
    /// Fails if the database is of another log, or if the log was trimmed and no snapshot reaches to where it begins.
    pub async fn prepare(&self, database: &Path, log: &impl Log) -> Result<Start, SnapshotError> {
        let local = local(database)?;
        let identity = log.identity().await?;
        let trimmed = log.trimmed().await?;
        match choice::choose(local.as_ref(), &identity, trimmed) {
            Choice::Own => return Ok(Start::Own),
            Choice::Refuse(reason) => return Err(SnapshotError::Refused(reason)),
            Choice::Snapshot => {}
        }
        let manifests = self.manifests(&identity).await?;
        for name in manifests.iter().rev() {
            match self.try_load(name, &identity, trimmed, database).await {
                Ok(position) => {
                    info!(log = self.log, position = position.0, "loaded a snapshot");
                    return Ok(Start::Snapshot(position));
                }
                Err(error) => warn!(log = self.log, %error, "a snapshot is passed over"),
            }
        }
        if trimmed == Position(0) {
            return Ok(Start::Own);
        }
        Err(SnapshotError::Refused(format!(
            "the log {} was trimmed up to record {}, and no snapshot in its store reaches there ({} were tried): configure the store that the \
             other nodes have, or restore a backup",
            self.log,
            trimmed.0,
            manifests.len()
        )))
    }

    async fn try_load(
        &self,
        name: &str,
        identity: &LogIdentity,
        trimmed: Position,
        database: &Path,
    ) -> Result<Position, SnapshotError> {
        let manifest: Manifest = self.vault.get_json(name).await?;
        let unusable = |reason: &str| SnapshotError::Unusable {
            name: name.to_owned(),
            reason: reason.to_owned(),
        };
        if manifest.version != VERSION || manifest.tables > self.tables {
            return Err(unusable(
                "a later version of virga wrote it; update this node",
            ));
        }
        if manifest.log != identity.0 {
            return Err(unusable("it is of another log"));
        }
        if manifest.at < trimmed.0 {
            return Err(unusable("the log was trimmed behind it"));
        }
        let new = database.with_extension("snapshot");
        remove(&new)?;
        self.load(&manifest, &new).await?;
        // Records that are in the old database's own log of changes are not this one's.
        for of in [database, &new] {
            for suffix in ["-wal", "-shm"] {
                remove(&with_suffix(of, suffix))?;
            }
        }
        std::fs::rename(&new, database).map_err(|error| file_error(database, error))?;
        sync_directory(database)?;
        Ok(Position(manifest.at))
    }

    /// Writes a snapshot to a file, and checks that it is what the replicas had.
    async fn load(&self, manifest: &Manifest, path: &Path) -> Result<(), SnapshotError> {
        self.vault.get_file(&manifest.file, path).await?;
        let checked = path.to_owned();
        let checked = tokio::task::spawn_blocking(move || {
            let connection = Connection::open(&checked)?;
            let position = connection.query_row("SELECT position FROM replica", [], |row| {
                row.get::<_, i64>(0)
            })?;
            Ok((position as u64, contents::digest(&connection)?))
        });
        let checked = checked
            .await
            .map_err(|error| file_error(path, std::io::Error::other(error)))?;
        let (position, digest) = checked.map_err(|error| database_error(path, error))?;
        if position != manifest.at || digest != manifest.digest {
            return Err(SnapshotError::Unusable {
                name: format!("at {}", manifest.at),
                reason: "its contents are not those that were announced".to_owned(),
            });
        }
        Ok(())
    }

    /// Returns the names of the manifests of a log, the oldest first.
    async fn manifests(&self, identity: &LogIdentity) -> Result<Vec<String>, SnapshotError> {
        let mut names = self.vault.list(&self.prefix(identity)).await?;
        names.retain(|name| name.ends_with(MANIFEST));
        Ok(names)
    }

    fn prefix(&self, identity: &LogIdentity) -> String {
        let identity = sha256(identity.0.as_bytes());
        format!("snapshots/{}/{}/", self.log, &identity[..16])
    }
}

const MANIFEST: &str = "manifest";

async fn append(log: &impl Log, control: &Control) -> Result<Position, SnapshotError> {
    let appended = append_control(log, control).await;
    appended.map_err(|error| SnapshotError::Log(LogError::Unavailable(error.to_string())))
}

/// Copies a database, and makes it one that has applied a log up to a position. Returns its digest.
fn adopt(
    database: &Path,
    copy: &Path,
    log: &LogIdentity,
    at: Position,
) -> rusqlite::Result<String> {
    let (view, _) = View::open(database)?;
    view.copy(copy)?;
    let connection = Connection::open(copy)?;
    connection.execute_batch("DELETE FROM replica_writer; DELETE FROM replica_backup;")?;
    connection.execute(
        "UPDATE replica SET position = ?, log = ?",
        params![at.0 as i64, log.0],
    )?;
    let digest = contents::digest(&connection)?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(digest)
}

/// Reads what a database's file has; `None` if it is not there or empty.
fn local(database: &Path) -> Result<Option<Local>, SnapshotError> {
    if !database.exists() {
        return Ok(None);
    }
    let read = || {
        let connection = Connection::open(database)?;
        let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'replica'";
        if connection.query_row(tables, [], |row| row.get::<_, i64>(0))? == 0 {
            return Ok(None);
        }
        connection.query_row("SELECT position, log FROM replica", [], |row| {
            let position = Position(row.get::<_, i64>(0)? as u64);
            let log = row.get::<_, Option<String>>(1)?.map(LogIdentity);
            Ok(Some(Local { position, log }))
        })
    };
    read().map_err(|error| database_error(database, error))
}

fn database_error(path: &Path, error: rusqlite::Error) -> SnapshotError {
    SnapshotError::Database {
        path: path.to_owned(),
        error,
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

fn remove(path: &Path) -> Result<(), VaultError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(file_error(path, error)),
        _ => Ok(()),
    }
}

fn sync_directory(file: &Path) -> Result<(), VaultError> {
    let directory = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let synced = std::fs::File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| file_error(directory, error))
}
