//! Messages between the replicas of one log, beside commands.

use serde::{Deserialize, Serialize};

/// A record that changes no table of the machine.
///
/// Each is harmless if it comes twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// The log begins with a database that was made without it, which is its first snapshot.
    Founded,
    /// Every replica takes the digest of its database as it is here, and compares it with those of others.
    Checkpoint {
        /// Drawn by the process that asked for it.
        id: String,
    },
    /// The digest of a replica's database at a checkpoint.
    Check {
        /// The checkpoint's position.
        at: u64,
        /// The digest.
        digest: String,
        /// The version of the database's tables. Only equal ones are compared.
        tables: u32,
        /// The replica's writer.
        by: String,
    },
    /// The database at a checkpoint is stored, and can be loaded.
    Snapshot {
        /// The checkpoint's position.
        at: u64,
        /// The position of the record before it, up to which the log can be trimmed.
        through: u64,
        /// The digest of the database.
        digest: String,
        /// The version of the snapshot's form.
        version: u32,
    },
    /// A backup begins or ends. While one is open, what moves between logs stays where it is, too, so that no backup lacks it.
    Backup {
        /// Drawn by the process that makes it.
        id: String,
        /// Whether it begins.
        open: bool,
    },
}

impl Control {
    pub(crate) fn encode(&self) -> Vec<u8> {
        // A string of numbers and texts always has a stored form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }
}
