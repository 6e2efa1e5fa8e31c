//! Copies of several replicas in a store of their own: incremental, encrypted if there are keys, verified, and restored.
//!
//! A backup holds one database of each replica, and all together can be started from. It begins with a mark in every log, after which
//! nothing that moves from one log to another is [removed from the first](crate::Replica::backup_is_open); then every database is copied,
//! in the order that the caller gives; then the marks end. So an item on its way is in the backup at least once, and its receiver drops
//! duplicates. Databases that refer to others are given before them: what they refer to is in the later copy.
//!
//! Databases are stored in parts under names that follow from their contents. A backup stores only the parts that are not there yet.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::warn;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::contents;
use crate::control::Control;
use crate::machine::Machine;
use crate::record::WriterId;
use crate::replica::Replica;
use crate::submission::SubmitError;
use crate::time::Time;
use crate::vault::{StoredFile, Vault, VaultError, file_error};

/// The version of the form of backups.
const VERSION: u32 = 1;
const BACKUPS: &str = "backups/";
const PARTS: &str = "parts/";

/// The backups in a directory or an object store.
#[derive(Clone, Debug)]
pub struct Backups {
    vault: Vault,
}

/// Describes a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// The version of its form.
    pub version: u32,
    /// Its name, which sorts by time.
    pub name: String,
    /// When it was begun (microseconds since the Unix epoch).
    pub begun: u64,
    /// The databases.
    pub databases: Vec<StoredDatabase>,
}

/// A database in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredDatabase {
    /// The replica's name, such as `events`.
    pub replica: String,
    /// The position in its log.
    pub position: u64,
    /// The identity of its log; none for an embedded one.
    pub log: Option<String>,
    /// The digest of its contents.
    pub digest: String,
    /// The database.
    pub file: StoredFile,
}

/// Why there is no backup, or none that can be used.
#[derive(Debug, Error)]
pub enum BackupError {
    /// A replica does not come to the mark.
    #[error("failed to mark a backup in {replica}: {error}")]
    Mark {
        /// The replica.
        replica: String,
        /// Why.
        error: SubmitError,
    },
    /// A database cannot be copied.
    #[error("failed to copy {replica}: {error}")]
    Copy {
        /// The replica.
        replica: String,
        /// Why.
        error: CheckpointError,
    },
    /// Something cannot be stored or read.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// There is no such backup.
    #[error("there is no backup{}", .0.as_ref().map_or(String::new(), |name| format!(" {name}")))]
    Missing(Option<String>),
    /// A database differs from the copied one.
    #[error("the copy of {replica} in the backup {backup} is damaged: {reason}")]
    Damaged {
        /// The backup.
        backup: String,
        /// The replica.
        replica: String,
        /// What differs.
        reason: String,
    },
    /// A later version wrote it.
    #[error(
        "the backup {0} has version {1}, which this virga does not read (it reads {VERSION}): use a newer virga"
    )]
    Version(String, u32),
    /// The file to be restored is there.
    #[error("{} is there already: restore into an empty directory", .0.display())]
    Exists(PathBuf),
    /// A replica's name cannot be the name of a file.
    #[error("a replica in a backup is named {0:?}: letters, digits, '-' and '_' are allowed")]
    Name(String),
    /// The system has no random numbers.
    #[error("failed to name a backup: {0}")]
    Random(String),
}

/// A replica of any machine, as a backup sees it.
#[async_trait]
pub trait Source: Sync {
    /// Begins or ends a backup in the replica's log.
    ///
    /// # Errors
    /// Fails if the replica does not come to it.
    async fn mark(&self, id: &str, open: bool) -> Result<(), SubmitError>;

    /// Copies the database to a file, as it is at one position.
    ///
    /// # Errors
    /// Fails if it cannot be copied.
    async fn copy(&self, to: &Path) -> Result<Checkpoint, CheckpointError>;
}

#[async_trait]
impl<M: Machine> Source for Replica<M> {
    async fn mark(&self, id: &str, open: bool) -> Result<(), SubmitError> {
        let id = id.to_owned();
        self.submit_control(Control::Backup { id, open }).await?;
        Ok(())
    }

    async fn copy(&self, to: &Path) -> Result<Checkpoint, CheckpointError> {
        self.checkpoint(to).await
    }
}

impl Backups {
    /// Keeps backups in a vault.
    pub fn new(vault: Vault) -> Self {
        Self { vault }
    }

    /// Makes a backup of some replicas, those that refer to others first. `work` is a directory for copies, which are removed.
    ///
    /// # Errors
    /// Fails if a replica cannot be copied, or if the copy cannot be stored. There is no backup of that name then.
    pub async fn make(
        &self,
        sources: &[(&str, &dyn Source)],
        begun: Time,
        work: &Path,
    ) -> Result<Backup, BackupError> {
        if let Some((replica, _)) = sources.iter().find(|(replica, _)| !is_name(replica)) {
            return Err(BackupError::Name((*replica).to_owned()));
        }
        let id = WriterId::random().map_err(|error| BackupError::Random(error.to_string()))?;
        let id = format!("{id:?}");
        let copies = Copies::new(work, &id);
        let copied = match mark(sources, &id, true).await {
            Ok(()) => copy(sources, &copies).await,
            Err(error) => Err(error),
        };
        if let Err(error) = mark(sources, &id, false).await {
            warn!(%error, "a backup's mark ends by itself after some minutes");
        }
        let present: HashSet<_> = self.vault.list(PARTS).await?.into_iter().collect();
        let mut backup = Backup {
            version: VERSION,
            name: format!("{:020}-{}", begun.0, &id[..8]),
            begun: begun.0,
            databases: Vec::new(),
        };
        for ((replica, _), checkpoint) in sources.iter().zip(copied?) {
            let path = copies.path(replica);
            let name = |_: usize, digest: &str| self.part(digest);
            let has = |name: &str| present.contains(name);
            backup.databases.push(StoredDatabase {
                replica: (*replica).to_owned(),
                position: checkpoint.position.0,
                log: checkpoint.log.map(|log| log.0),
                digest: checkpoint.digest,
                file: self.vault.put_file(&path, name, has).await?,
            });
        }
        // Stored last: a backup with a description is whole.
        self.vault
            .put_json(&described(&backup.name), &backup)
            .await?;
        Ok(backup)
    }

    fn part(&self, digest: &str) -> String {
        let name = self.vault.name_of(digest);
        format!("{PARTS}{}/{name}", &name[..2])
    }

    /// Returns the names of all backups, the oldest first.
    ///
    /// # Errors
    /// Fails if the store does.
    pub async fn list(&self) -> Result<Vec<String>, BackupError> {
        let names = self.vault.list(BACKUPS).await?;
        let names = names.iter().filter_map(|name| name.strip_prefix(BACKUPS));
        Ok(names.map(str::to_owned).collect())
    }

    /// Returns a backup, or the last one.
    ///
    /// # Errors
    /// Fails if there is none, or if its description cannot be read.
    pub async fn get(&self, name: Option<&str>) -> Result<Backup, BackupError> {
        let names = self.list().await?;
        let found = match name {
            Some(name) => names.into_iter().find(|found| found == name),
            None => names.into_iter().next_back(),
        };
        let found = found.ok_or_else(|| BackupError::Missing(name.map(str::to_owned)))?;
        let backup: Backup = self.vault.get_json(&described(&found)).await?;
        if backup.version != VERSION {
            return Err(BackupError::Version(found, backup.version));
        }
        // They become names of files, and anyone with access to a store without keys can write any.
        let bad = backup
            .databases
            .iter()
            .find(|database| !is_name(&database.replica));
        if let Some(StoredDatabase { replica, .. }) = bad {
            return Err(BackupError::Name(replica.clone()));
        }
        Ok(backup)
    }

    /// Reads a backup whole, rebuilds its databases in a directory, compares them with the copied ones, and removes them.
    ///
    /// # Errors
    /// Fails if anything is missing or damaged.
    pub async fn verify(&self, backup: &Backup, work: &Path) -> Result<(), BackupError> {
        for database in &backup.databases {
            let copies = Copies::new(work, "verify");
            let path = copies.path(&database.replica);
            remove_database(&path)?;
            self.rebuild(backup, database, &path).await?;
        }
        Ok(())
    }

    /// Restores a backup: each replica's database to the file that `target` names. Either all are there in the end or none.
    ///
    /// # Errors
    /// Fails if a file is there already, or if anything is missing or damaged.
    pub async fn restore(
        &self,
        backup: &Backup,
        target: impl Fn(&str) -> PathBuf,
    ) -> Result<(), BackupError> {
        let targets = backup
            .databases
            .iter()
            .map(|database| (database, target(&database.replica)));
        let targets: Vec<_> = targets.collect();
        if let Some((_, there)) = targets.iter().find(|(_, path)| path.exists()) {
            return Err(BackupError::Exists(there.clone()));
        }
        let mut rebuilt = Vec::new();
        for (database, path) in targets {
            let new = Rebuilt(with_suffix(&path, ".restoring"));
            remove_database(&new.0)?;
            self.rebuild(backup, database, &new.0).await?;
            rebuilt.push((new, path));
        }
        for (new, path) in &rebuilt {
            std::fs::rename(&new.0, path).map_err(|error| file_error(path, error))?;
        }
        Ok(())
    }

    async fn rebuild(
        &self,
        backup: &Backup,
        database: &StoredDatabase,
        path: &Path,
    ) -> Result<(), BackupError> {
        self.vault.get_file(&database.file, path).await?;
        let (file, digest) = (path.to_owned(), database.digest.clone());
        let checked = tokio::task::spawn_blocking(move || check(&file, &digest)).await;
        let checked = checked.map_err(|error| file_error(path, std::io::Error::other(error)))?;
        checked.map_err(|reason| BackupError::Damaged {
            backup: backup.name.clone(),
            replica: database.replica.clone(),
            reason,
        })
    }

    /// Deletes all backups but the last ones, and the parts that none of those has. No backup may be made meanwhile.
    ///
    /// # Errors
    /// Fails if the store does, or if a backup that is kept cannot be read: then no part is deleted.
    pub async fn prune(&self, keep: usize) -> Result<(), BackupError> {
        let names = self.list().await?;
        let (old, kept) = names.split_at(names.len().saturating_sub(keep.max(1)));
        let mut used = HashSet::new();
        for name in kept {
            let backup = self.get(Some(name)).await?;
            let files = backup
                .databases
                .into_iter()
                .flat_map(|database| database.file.parts);
            used.extend(files.map(|part| part.name));
        }
        for name in old {
            self.vault.delete(&described(name)).await?;
        }
        for part in self.vault.list(PARTS).await? {
            if !used.contains(&part) {
                self.vault.delete(&part).await?;
            }
        }
        Ok(())
    }
}

async fn mark(sources: &[(&str, &dyn Source)], id: &str, open: bool) -> Result<(), BackupError> {
    let mut failed = Ok(());
    for (replica, source) in sources {
        if let Err(error) = source.mark(id, open).await {
            failed = Err(BackupError::Mark {
                replica: (*replica).to_owned(),
                error,
            });
            if open {
                break;
            }
        }
    }
    failed
}

async fn copy(
    sources: &[(&str, &dyn Source)],
    copies: &Copies,
) -> Result<Vec<Checkpoint>, BackupError> {
    let mut checkpoints = Vec::new();
    for (replica, source) in sources {
        let path = copies.path(replica);
        let copied = source.copy(&path).await;
        checkpoints.push(copied.map_err(|error| BackupError::Copy {
            replica: (*replica).to_owned(),
            error,
        })?);
    }
    Ok(checkpoints)
}

/// Checks a rebuilt database, in a thread that may block.
fn check(file: &Path, expected: &str) -> Result<(), String> {
    let read = || {
        let connection = Connection::open(file)?;
        let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        Ok::<_, rusqlite::Error>((sound, contents::digest(&connection)?))
    };
    match read() {
        Ok((sound, digest)) if sound == "ok" && digest == expected => Ok(()),
        Ok((sound, _)) if sound != "ok" => Err(sound),
        Ok(_) => Err("its contents differ from the copied database's".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn is_name(replica: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    !replica.is_empty() && replica.chars().all(allowed)
}

fn described(name: &str) -> String {
    format!("{BACKUPS}{name}")
}

/// Copies of databases, which are removed in the end.
struct Copies {
    directory: PathBuf,
}

impl Copies {
    fn new(work: &Path, id: &str) -> Self {
        // A directory that cannot be made fails the first copy.
        let directory = work.join(format!("backup-{id}"));
        let _ = std::fs::create_dir_all(&directory);
        Self { directory }
    }

    fn path(&self, replica: &str) -> PathBuf {
        self.directory.join(format!("{replica}.sqlite"))
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            warn!(%error, path = %self.directory.display(), "failed to remove a backup's copies");
        }
    }
}

/// A database that is removed unless it was renamed.
struct Rebuilt(PathBuf);

impl Drop for Rebuilt {
    fn drop(&mut self) {
        if let Err(error) = remove_database(&self.0) {
            warn!(%error, "failed to remove a file");
        }
    }
}

fn remove_database(path: &Path) -> Result<(), VaultError> {
    for path in [
        path.to_owned(),
        with_suffix(path, "-wal"),
        with_suffix(path, "-shm"),
    ] {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(file_error(&path, error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}
