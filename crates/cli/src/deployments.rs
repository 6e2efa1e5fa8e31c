//! A local record of the directory that each function was last deployed from.
//!
//! `virga deploy` overwrites a function by name, and directories easily have the same name. So it asks before it overwrites a
//! function that another directory deployed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::client::Client;

const FILE: &str = "virga/deployments.json";

/// The content of the file. Unknown fields of later versions are ignored.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    /// Sources by function.
    #[serde(default)]
    sources: BTreeMap<String, PathBuf>,
}

/// The functions that this user deployed, with their sources.
#[derive(Debug)]
pub(super) struct Deployments {
    /// `None` if the user has no home directory.
    path: Option<PathBuf>,
    stored: Stored,
}

impl Deployments {
    /// Loads the record. An unreadable one is treated as empty.
    pub(super) fn load() -> Self {
        let variable = |name| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        };
        let home = || variable("HOME").map(|home| home.join(".local/state"));
        let path = variable("XDG_STATE_HOME").or_else(home);
        Self::at(path.map(|directory| directory.join(FILE)))
    }

    fn at(path: Option<PathBuf>) -> Self {
        let text = path.as_ref().and_then(|path| fs::read(path).ok());
        let stored = text.and_then(|text| serde_json::from_slice(&text).ok());
        Self {
            path,
            stored: stored.unwrap_or_default(),
        }
    }

    /// Returns whether a function was last deployed from this source.
    pub(super) fn is_from(&self, client: &Client, name: &str, source: &Path) -> bool {
        let known = self.stored.sources.get(&key(client, name));
        known.is_some_and(|known| known == source)
    }

    /// Records the source of a function.
    ///
    /// # Errors
    /// Returns an error if the record cannot be written.
    pub(super) fn note(mut self, client: &Client, name: &str, source: &Path) -> io::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        // Drop sources that no longer exist.
        self.stored.sources.retain(|_, source| source.exists());
        let key = key(client, name);
        if self
            .stored
            .sources
            .insert(key, source.to_owned())
            .as_deref()
            == Some(source)
        {
            return Ok(());
        }
        let directory = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&serde_json::to_vec_pretty(&self.stored)?)?;
        file.persist(path)?;
        Ok(())
    }
}

fn key(client: &Client, name: &str) -> String {
    format!("{} {} {name}", client.endpoint(), client.namespace)
}
