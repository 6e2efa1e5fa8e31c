//! The file of external storages that may post change notifications. It contains tokens, so it is a separate file, and neither
//! a command line nor an environment shows them.

use std::collections::BTreeMap;
use std::path::Path;

use model::{AccountId, BucketName};
use serde::Deserialize;
use triggers::{EventSource, EventSources};

use super::raw::RawConfig;

/// A table of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceTable {
    token: String,
    /// The account that owns the buckets; defaults to the first account.
    app_id: Option<u64>,
    /// Local bucket names by external ones.
    #[serde(default)]
    buckets: BTreeMap<String, String>,
}

/// Returns the external storages of the file. `first` is the first account.
pub(super) fn event_sources(raw: &mut RawConfig, path: &Path, first: AccountId) -> EventSources {
    if !raw.is_set("event_sources") {
        return EventSources::default();
    }
    read(path, first).unwrap_or_else(|why| {
        let allowed = format!("a TOML file with a table for each source is ({why})");
        raw.refuse_value("event_sources", &allowed);
        EventSources::default()
    })
}

/// Reads the file. Error messages never contain a token.
fn read(path: &Path, first: AccountId) -> Result<EventSources, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("it cannot be read: {e}"))?;
    let tables: BTreeMap<String, SourceTable> =
        toml::from_str(&text).map_err(|e| format!("it is not as expected: {}", e.message()))?;
    let mut sources: Vec<EventSource> = Vec::new();
    for (name, table) in tables {
        let of = |what: &str| format!("{name}: {what}");
        let owner = table.app_id.map_or(first, AccountId);
        let mut buckets = BTreeMap::new();
        for (there, here) in table.buckets {
            let here = BucketName::of(owner, &here).map_err(|e| of(&e.to_string()))?;
            buckets.insert(there, here);
        }
        let source = EventSource::new(name.clone(), &table.token, owner, buckets)
            .map_err(|allowed| of(&format!("token: {allowed}")))?;
        if let Some(other) = sources.iter().find(|other| other.has_token_of(&source)) {
            return Err(of(&format!(
                "its token is that of {}; use one per source",
                other.name
            )));
        }
        sources.push(source);
    }
    Ok(EventSources(sources))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(text: &str) -> Result<EventSources, String> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("sources.toml");
        std::fs::write(&path, text).expect("written");
        read(&path, AccountId(7))
    }

    #[test]
    fn each_table_is_a_source() {
        let text = "[minio]\ntoken = '0123456789abcdef'\napp_id = 8\n[minio.buckets]\n'Photos.2024' = 'photos'\n\
            [ceph]\ntoken = 'fedcba9876543210'\n";
        let sources = configured(text).expect("sources");
        let name = |token| sources.of_token(token).map(|source| source.name.clone());
        assert_eq!(name("0123456789abcdef").as_deref(), Some("minio"));
        assert_eq!(name("fedcba9876543210").as_deref(), Some("ceph"));
        assert!(configured("").expect("none").0.is_empty());
    }

    #[test]
    fn error_messages_never_contain_a_token() {
        const TOKEN: &str = "0123456789abcdef";
        let rows = [
            (format!("[a]\ntoken = '{TOKEN}"), "not as expected"),
            (format!("[a]\ntoken = '{TOKEN}'\ncolour = 1"), "colour"),
            ("[a]\n".to_owned(), "token"),
            (
                "[a]\ntoken = 'short'".to_owned(),
                "a: token: a token has 16 or more",
            ),
            (
                format!("[a]\ntoken = '{TOKEN}'\n[a.buckets]\nx = 'X'"),
                "a: bucket name",
            ),
            (
                format!("[a]\ntoken = '{TOKEN}'\n[b]\ntoken = '{TOKEN}'"),
                "b: its token is that of a; use",
            ),
        ];
        for (text, part) in rows {
            let why = configured(&text).expect_err("refused");
            assert!(why.contains(part) && !why.contains(TOKEN), "{text}: {why}");
        }
        let missing = read(Path::new("/nowhere/sources.toml"), AccountId(7));
        assert!(missing.expect_err("refused").contains("cannot be read"));
    }
}
