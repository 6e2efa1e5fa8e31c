//! Which directory each function was last deployed from, as this user's computer remembers it.
//!
//! `virga deploy` overwrites a function by its name, and a directory's name is easily another one's. So an existing
//! function that this directory did not deploy is asked about.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::client::Client;

const FILE: &str = "virga/deployments.json";

/// The file's content. Fields of later versions are ignored.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    /// The source by function.
    #[serde(default)]
    sources: BTreeMap<String, PathBuf>,
}

/// What this user deployed, and from where.
#[derive(Debug)]
pub(super) struct Deployments {
    /// `None` where the user has no home.
    path: Option<PathBuf>,
    stored: Stored,
}

impl Deployments {
    /// Reads the record. One that cannot be read knows of no function.
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

    /// Whether a function was last deployed from this source.
    pub(super) fn is_from(&self, client: &Client, name: &str, source: &Path) -> bool {
        let known = self.stored.sources.get(&key(client, name));
        known.is_some_and(|known| known == source)
    }

    /// Notes where a function was deployed from.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub(super) fn note(mut self, client: &Client, name: &str, source: &Path) -> io::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        // Sources that are gone will deploy nothing any more.
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
