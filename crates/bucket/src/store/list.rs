//! Listings: by prefix, with what lies behind a delimiter rolled up, a page at a time.
//!
//! A common prefix costs one look into the index, however many keys lie behind it.

use rusqlite::{Connection, Row, params};

use super::Store;
use super::multipart::{self, UploadRow};
use super::record::{self, Object};
use crate::error::StoreError;
use crate::names::{BucketName, ObjectKey, VersionId};

/// Entries of a page.
const PAGE: usize = 1000;

/// Which objects to list.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Keys that begin so.
    pub prefix: String,
    /// Keys that go on behind it with this are rolled up.
    pub delimiter: Option<String>,
    /// Keys, and common prefixes, behind this one.
    pub after: Option<String>,
    /// At most so many entries.
    pub limit: usize,
}

/// Which versions to list.
#[derive(Clone, Debug, Default)]
pub struct VersionQuery {
    /// As of objects; `after` is the key marker.
    pub of: ListQuery,
    /// Where within the marker's versions to go on.
    pub after_version: Option<VersionId>,
}

/// Which uploads to list.
#[derive(Clone, Debug, Default)]
pub struct UploadQuery {
    /// As of objects; `after` is the key marker.
    pub of: ListQuery,
    /// Where within the marker's uploads to go on.
    pub after_upload: Option<String>,
}

/// A page of a listing.
#[derive(Clone, Debug)]
pub struct Listing<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Common prefixes.
    pub prefixes: Vec<String>,
    /// The last key or common prefix of this page, where more follow.
    pub next: Option<String>,
}

/// An object, or a version, in a listing.
#[derive(Clone, Debug)]
pub struct ListedObject {
    /// Its key.
    pub key: ObjectKey,
    /// What is known of it.
    pub object: Object,
    /// Whether it is a delete marker.
    pub marker: bool,
    /// Whether it is its key's newest version.
    pub latest: bool,
}

impl Store {
    /// Lists objects.
    ///
    /// # Errors
    /// There is no such bucket.
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
            of.walk(sql, QUERY, id, start, |key, row| {
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

    /// Lists versions and delete markers, the newest of each key first. Where more follow, `next` goes with the version of the
    /// last item.
    ///
    /// # Errors
    /// There is no such bucket.
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
            of.walk(sql, QUERY, id, start, |key, row| {
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

    /// Lists uploads that are not complete, by key and id. Where more follow, `next` goes with the id of the last item.
    ///
    /// # Errors
    /// There is no such bucket.
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
            of.walk(sql, QUERY, bucket_id, start, |key, row| {
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
    /// The first key that can be in the page.
    fn start(&self) -> Vec<u8> {
        let prefix = self.prefix.as_bytes().to_vec();
        let Some(after) = &self.after else {
            return prefix;
        };
        let rolled = self.rolled(after.as_bytes());
        let start = if rolled == Some(after.len()) {
            behind(after.as_bytes())
        } else {
            let mut next = after.as_bytes().to_vec();
            next.push(0);
            next
        };
        start.max(prefix)
    }

    /// The length of the common prefix that a key is rolled up to.
    fn rolled(&self, key: &[u8]) -> Option<usize> {
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

    fn walk<T>(
        &self,
        sql: &Connection,
        query: &str,
        bucket: i64,
        mut start: Vec<u8>,
        mut read: impl FnMut(ObjectKey, &Row<'_>) -> Result<Option<T>, StoreError>,
    ) -> Result<Listing<T>, StoreError> {
        let limit = self.limit.min(PAGE);
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
                if let Some(length) = self.rolled(key) {
                    if full {
                        page.next = Some(last);
                        return Ok(page);
                    }
                    last = text(&key[..length])?;
                    page.prefixes.push(last.clone());
                    start = behind(&key[..length]);
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

/// The first bytes behind all that begin so. No text has the byte 255.
fn behind(prefix: &[u8]) -> Vec<u8> {
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
