//! Paginated listings by prefix and delimiter.
//!
//! A common prefix costs one index seek, however many keys it covers.

use rusqlite::{Connection, Row, params};

use super::Store;
use super::multipart::{self, UploadRow};
use super::record::{self, Object};
use crate::error::StoreError;
use crate::names::{BucketName, ObjectKey, VersionId};

/// Maximum entries per page.
const PAGE_MAX: usize = 1000;

/// Selects objects for a listing.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Only keys with this prefix.
    pub prefix: String,
    /// Keys that contain it after the prefix are grouped into a common prefix.
    pub delimiter: Option<String>,
    /// Only keys and common prefixes after this one.
    pub after: Option<String>,
    /// Maximum number of entries.
    pub limit: usize,
}

/// Selects versions for a listing.
#[derive(Clone, Debug, Default)]
pub struct VersionQuery {
    /// Selects the keys; `after` is the key marker.
    pub of: ListQuery,
    /// Version marker among the versions of the key marker.
    pub after_version: Option<VersionId>,
}

/// Selects uploads for a listing.
#[derive(Clone, Debug, Default)]
pub struct UploadQuery {
    /// Selects the keys; `after` is the key marker.
    pub of: ListQuery,
    /// Upload id marker among the uploads of the key marker.
    pub after_upload: Option<String>,
}

/// One page of a listing.
#[derive(Clone, Debug)]
pub struct Listing<T> {
    /// Entries.
    pub items: Vec<T>,
    /// Common prefixes.
    pub prefixes: Vec<String>,
    /// Last key or common prefix of this page, if more follow.
    pub next: Option<String>,
}

/// An entry of an object or version listing.
#[derive(Clone, Debug)]
pub struct ListedObject {
    /// Key.
    pub key: ObjectKey,
    /// Object record.
    pub object: Object,
    /// Whether this is a delete marker.
    pub marker: bool,
    /// Whether this is the latest version of its key.
    pub latest: bool,
}

impl Store {
    /// Lists objects.
    ///
    /// # Errors
    /// The bucket does not exist.
    pub async fn list(
        &self,
        bucket: &BucketName,
        of: ListQuery,
    ) -> Result<Listing<ListedObject>, StoreError> {
        const QUERY: &str =
            "SELECT key, record FROM object WHERE bucket = ? AND key >= ? ORDER BY key";
        let (id, _) = self.bucket_id(bucket)?;
        let read = move |sql: &Connection| {
            let start = of.start();
            of.collect_page(sql, QUERY, id, start, |key, row| {
                Ok(Some(ListedObject {
                    key,
                    object: record::decode(
                        row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?,
                    )?,
                    marker: false,
                    latest: true,
                }))
            })
        };
        self.inner.readers.read(read).await
    }

    /// Lists versions and delete markers, the latest of each key first. `next` is continued by the version of the last
    /// item.
    ///
    /// # Errors
    /// The bucket does not exist.
    pub async fn versions(
        &self,
        bucket: &BucketName,
        of: VersionQuery,
    ) -> Result<Listing<ListedObject>, StoreError> {
        const QUERY: &str = "
            SELECT key, record, 0 AS marker, 1 AS current, 0 AS seq FROM object WHERE bucket = ?1 AND key >= ?2
            UNION ALL SELECT key, record, marker, 0, seq FROM version WHERE bucket = ?1 AND key >= ?2
            ORDER BY key, current DESC, seq DESC";
        let (id, _) = self.bucket_id(bucket)?;
        let read = move |sql: &Connection| {
            let VersionQuery { of, after_version } = of;
            let marker = after_version.and(of.after.clone());
            let start = marker
                .clone()
                .map_or_else(|| of.start(), String::into_bytes);
            let mut skipping = after_version;
            let mut last = marker.clone();
            of.collect_page(sql, QUERY, id, start, |key, row| {
                let record = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
                let object: Object = record::decode(record)?;
                let latest = last.as_deref() != Some(key.as_str());
                last = Some(key.as_str().to_owned());
                if let Some(after) = skipping {
                    if marker.as_deref() == Some(key.as_str()) {
                        if object.version() == after {
                            skipping = None;
                        }
                        let older =
                            matches!(after, VersionId::Number(number) if object.seq < number);
                        if !older {
                            return Ok(None);
                        }
                    }
                    skipping = None;
                }
                Ok(Some(ListedObject {
                    key,
                    object,
                    marker: row.get(2)?,
                    latest,
                }))
            })
        };
        self.inner.readers.read(read).await
    }

    /// Lists incomplete uploads by key and id. `next` is continued by the id of the last item.
    ///
    /// # Errors
    /// The bucket does not exist.
    pub async fn uploads(
        &self,
        bucket: &BucketName,
        of: UploadQuery,
    ) -> Result<Listing<multipart::Upload>, StoreError> {
        const QUERY: &str =
            "SELECT key, record, id FROM upload WHERE bucket = ? AND key >= ? ORDER BY key, id";
        let (bucket_id, _) = self.bucket_id(bucket)?;
        let read = move |sql: &Connection| {
            let UploadQuery { of, after_upload } = of;
            let marker = after_upload.as_ref().and(of.after.clone());
            let start = marker
                .clone()
                .map_or_else(|| of.start(), String::into_bytes);
            of.collect_page(sql, QUERY, bucket_id, start, |key, row| {
                let id: String = row.get(2)?;
                let same = marker.as_deref() == Some(key.as_str());
                if same && after_upload.as_ref().is_some_and(|after| id <= *after) {
                    return Ok(None);
                }
                let record = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
                let row: UploadRow = record::decode(record)?;
                Ok(Some(row.shown(key, id)))
            })
        };
        self.inner.readers.read(read).await
    }
}

impl ListQuery {
    /// Returns the first key that can be in the page.
    fn start(&self) -> Vec<u8> {
        let prefix = self.prefix.as_bytes().to_vec();
        let Some(after) = &self.after else {
            return prefix;
        };
        let common_prefix_len = self.common_prefix_len(after.as_bytes());
        let start = if common_prefix_len == Some(after.len()) {
            after_prefix(after.as_bytes())
        } else {
            let mut next = after.as_bytes().to_vec();
            next.push(0);
            next
        };
        start.max(prefix)
    }

    /// Returns the length of a key's common prefix, if it has one.
    fn common_prefix_len(&self, key: &[u8]) -> Option<usize> {
        let delimiter = self
            .delimiter
            .as_ref()
            .filter(|delimiter| !delimiter.is_empty())?;
        let rest = key.strip_prefix(self.prefix.as_bytes())?;
        let at = rest
            .windows(delimiter.len())
            .position(|window| window == delimiter.as_bytes())?;
        Some(self.prefix.len() + at + delimiter.len())
    }

    fn collect_page<T>(
        &self,
        sql: &Connection,
        query: &str,
        bucket: i64,
        mut start: Vec<u8>,
        mut read: impl FnMut(ObjectKey, &Row<'_>) -> Result<Option<T>, StoreError>,
    ) -> Result<Listing<T>, StoreError> {
        let limit = self.limit.min(PAGE_MAX);
        let mut page = Listing {
            items: Vec::new(),
            prefixes: Vec::new(),
            next: None,
        };
        if limit == 0 {
            return Ok(page);
        }
        let mut last = String::new();
        let mut query = sql.prepare_cached(query)?;
        'seek: loop {
            let mut rows = query.query(params![bucket, start])?;
            while let Some(row) = rows.next()? {
                let key = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
                if !key.starts_with(self.prefix.as_bytes()) {
                    return Ok(page);
                }
                let full = page.items.len() + page.prefixes.len() == limit;
                if let Some(length) = self.common_prefix_len(key) {
                    if full {
                        page.next = Some(last);
                        return Ok(page);
                    }
                    last = text(&key[..length])?;
                    page.prefixes.push(last.clone());
                    start = after_prefix(&key[..length]);
                    continue 'seek;
                }
                let key = ObjectKey::parse(&text(key)?)?;
                let name = key.as_str().to_owned();
                if let Some(item) = read(key, row)? {
                    if full {
                        page.next = Some(last);
                        return Ok(page);
                    }
                    last = name;
                    page.items.push(item);
                }
            }
            return Ok(page);
        }
    }
}

/// Returns the smallest key after all keys with this prefix. UTF-8 never contains the byte 255.
fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut next = prefix.to_vec();
    if let Some(last) = next.last_mut() {
        *last = last.saturating_add(1);
    }
    next
}

fn text(bytes: &[u8]) -> Result<String, StoreError> {
    String::from_utf8(bytes.to_vec())
        .map_err(|_| StoreError::Unavailable("a key in the index is not text".into()))
}
