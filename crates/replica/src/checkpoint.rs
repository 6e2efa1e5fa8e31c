//! Positions at which all replicas look at their databases: to compare them, and to copy one.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags, backup::Backup};
use thiserror::Error;
use tokio::sync::{oneshot, watch};
use tracing::error;

use crate::contents;
use crate::log::{LogIdentity, Position};
use crate::submission::SubmitError;
use crate::time::Time;

/// Pages that are copied at a time.
const PAGES: std::ffi::c_int = 1024;
/// Checkpoints that are remembered.
const REMEMBERED: usize = 8;

/// A database as it was at a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The position.
    pub position: Position,
    /// The position before it. A log can be trimmed up to it when the database is stored.
    pub through: Position,
    /// The digest of the database's contents.
    pub digest: String,
    /// The [version](crate::Machine::VERSION) of its tables.
    pub tables: u32,
    /// The log; none for an embedded database.
    pub log: Option<LogIdentity>,
}

/// Why there is no checkpoint.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CheckpointError {
    /// The replica does not come to it.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The database cannot be copied.
    #[error("failed to copy the database: {0}")]
    Failed(String),
}

/// A database as it is at one moment; later writes do not show.
#[derive(Debug)]
pub(crate) struct View(Connection);

impl View {
    /// Opens a view of the database in a file, and returns it with the position that it has.
    pub(crate) fn open(database: &Path) -> rusqlite::Result<(Self, Position)> {
        let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        // One read transaction: all reads are of one moment, and a copy is not begun anew by each commit.
        connection.execute_batch("BEGIN")?;
        let position = connection.query_row("SELECT position FROM replica", [], |row| {
            row.get::<_, i64>(0)
        })?;
        Ok((Self(connection), Position(position as u64)))
    }

    pub(crate) fn copy(&self, copy: &Path) -> rusqlite::Result<()> {
        let mut target = Connection::open(copy)?;
        Backup::new(&self.0, &mut target)?.run_to_completion(
            PAGES,
            std::time::Duration::ZERO,
            None,
        )?;
        target.close().map_err(|(_, error)| error)
    }

    pub(crate) fn digest(&self) -> rusqlite::Result<String> {
        contents::digest(&self.0)
    }
}

/// What a replica's handles share with what applies its records.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoints {
    pub(crate) requests: Requests,
    /// The last checkpoint at which another replica had the same contents.
    pub(crate) confirmed: watch::Sender<Position>,
    /// Bytes of the records since the last snapshot.
    pub(crate) since_snapshot: Arc<AtomicU64>,
    /// Until when a backup is open (microseconds since the Unix epoch).
    pub(crate) backup_until: Arc<AtomicU64>,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self {
            requests: Requests::default(),
            confirmed: watch::Sender::new(Position::default()),
            since_snapshot: Arc::default(),
            backup_until: Arc::default(),
        }
    }
}

impl Checkpoints {
    /// Takes over until when a backup is open.
    pub(crate) fn backup(&self, until: rusqlite::Result<Time>) {
        match until {
            Ok(until) => self.backup_until.store(until.0, Ordering::Relaxed),
            Err(error) => error!(%error, "failed to read whether a backup is open"),
        }
    }
}

/// Checkpoints that this process has asked for, until it comes to them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests(Arc<Mutex<HashMap<String, Request>>>);

/// Who waits for a checkpoint.
#[derive(Debug)]
pub(crate) struct Request {
    /// Where the copy is to be.
    pub(crate) copy: PathBuf,
    pub(crate) answer: oneshot::Sender<Result<Checkpoint, String>>,
}

impl Requests {
    pub(crate) fn insert(&self, id: String, request: Request) {
        self.lock().insert(id, request);
    }

    pub(crate) fn remove(&self, id: &str) -> Option<Request> {
        self.lock().remove(id)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Request>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work on a database at a checkpoint, which may take long.
#[derive(Debug)]
pub(crate) struct Job {
    view: View,
    checkpoint: Checkpoint,
    request: Option<Request>,
}

impl Job {
    /// Begins it, at the checkpoint.
    pub(crate) fn begin(
        database: Option<&Path>,
        checkpoint: Checkpoint,
        request: Option<Request>,
    ) -> Option<Self> {
        let opened = match database {
            Some(database) => View::open(database).map_err(|error| error.to_string()),
            None => Err("the database is not in a file".to_owned()),
        };
        let view = opened.and_then(|(view, position)| {
            let right = position == checkpoint.position;
            right.then_some(view).ok_or_else(|| {
                format!(
                    "the database is at {} instead of {}",
                    position.0, checkpoint.position.0
                )
            })
        });
        match view {
            Ok(view) => Some(Self {
                view,
                checkpoint,
                request,
            }),
            Err(reason) => {
                refuse(request, reason);
                None
            }
        }
    }

    /// Does it, and returns the checkpoint with its digest.
    pub(crate) fn run(self) -> Result<Checkpoint, String> {
        let Self {
            view,
            mut checkpoint,
            request,
        } = self;
        let copied = request.as_ref().map(|request| view.copy(&request.copy));
        let digest = copied.transpose().and_then(|_| view.digest());
        match digest {
            Ok(digest) => {
                checkpoint.digest = digest;
                if let Some(request) = request {
                    let _ = request.answer.send(Ok(checkpoint.clone()));
                }
                Ok(checkpoint)
            }
            Err(error) => {
                refuse(request, error.to_string());
                Err(error.to_string())
            }
        }
    }
}

fn refuse(request: Option<Request>, reason: String) {
    if let Some(request) = request {
        let _ = request.answer.send(Err(reason));
    }
}

/// The digests of the replicas at the last checkpoints.
#[derive(Debug, Default)]
pub(crate) struct Checks(BTreeMap<Position, Check>);

#[derive(Debug, Default)]
struct Check {
    own: Option<String>,
    /// Digests by the writers of other replicas.
    others: BTreeMap<String, String>,
}

/// How a replica's digest stands to those of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its own is not known, or no other.
    Unknown,
    /// At least one other is equal, and none differs.
    Confirmed,
    /// Others differ, and more are equal.
    Majority,
    /// As many differ as are equal. Another replica's digest may decide.
    Tie,
    /// More others agree on another digest.
    Minority,
}

impl Checks {
    /// Notes this replica's digest.
    pub(crate) fn own(&mut self, at: Position, digest: String) -> Verdict {
        self.entry(at).own = Some(digest);
        self.verdict(at)
    }

    /// Notes another replica's digest.
    pub(crate) fn other(&mut self, at: Position, by: String, digest: String) -> Verdict {
        self.entry(at).others.insert(by, digest);
        self.verdict(at)
    }

    pub(crate) fn verdict(&self, at: Position) -> Verdict {
        let Some(Check {
            own: Some(own),
            others,
        }) = self.0.get(&at)
        else {
            return Verdict::Unknown;
        };
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for digest in others.values() {
            *votes.entry(digest).or_default() += 1;
        }
        let equal = votes.remove(own.as_str()).unwrap_or_default() + 1;
        match votes.values().max() {
            None if equal == 1 => Verdict::Unknown,
            None => Verdict::Confirmed,
            Some(differ) => match equal.cmp(differ) {
                std::cmp::Ordering::Greater => Verdict::Majority,
                std::cmp::Ordering::Equal => Verdict::Tie,
                std::cmp::Ordering::Less => Verdict::Minority,
            },
        }
    }

    /// Returns how many other replicas' digests are known.
    pub(crate) fn others(&self, at: Position) -> usize {
        self.0.get(&at).map_or(0, |check| check.others.len())
    }

    fn entry(&mut self, at: Position) -> &mut Check {
        if !self.0.contains_key(&at) && self.0.len() >= REMEMBERED {
            self.0.pop_first();
        }
        self.0.entry(at).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_goes_on_and_a_tie_is_undecided() {
        let (at, digest) = (Position(5), |text: &str| text.to_owned());
        let mut checks = Checks::default();
        assert_eq!(checks.other(at, digest("a"), digest("x")), Verdict::Unknown);
        assert_eq!(checks.own(at, digest("x")), Verdict::Confirmed);
        assert_eq!(
            checks.other(at, digest("b"), digest("y")),
            Verdict::Majority
        );
        assert_eq!(checks.other(at, digest("c"), digest("y")), Verdict::Tie);
        assert_eq!(
            checks.other(at, digest("d"), digest("y")),
            Verdict::Minority
        );
        assert_eq!(
            checks.other(at, digest("d"), digest("y")),
            Verdict::Minority,
            "again"
        );

        let mut alone = Checks::default();
        assert_eq!(alone.own(at, digest("x")), Verdict::Unknown);
        assert_eq!(alone.other(at, digest("a"), digest("y")), Verdict::Tie);
        for later in 6..20 {
            alone.own(Position(later), digest("x"));
        }
        assert_eq!(alone.verdict(at), Verdict::Unknown, "forgotten");
    }
}
