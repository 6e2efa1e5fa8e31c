//! Webhook events of SeaweedFS's filer: `key`, `event_type` and a `message` with the old and new entry. The filer
//! reports all files and directories; those below `/buckets/` are S3 objects. Source: SeaweedFS's
//! `weed/notification/webhook`, and the events of version 4.48.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bucket::{Change, ChangeKind};
use serde::Deserialize;
use serde_json::Value;

use super::reported::{NotificationError, ReportedChange};

/// Directory of all buckets.
const BUCKETS: &str = "/buckets/";
/// Suffix of the directory of an object's versions.
const VERSIONS: &str = ".versions/";
/// Directory of the parts of uploads.
const UPLOADS: &str = ".uploads/";

#[derive(Deserialize)]
struct WebhookEvent {
    key: String,
    event_type: String,
    message: WebhookMessage,
}

#[derive(Deserialize)]
struct WebhookMessage {
    #[serde(default)]
    old_entry: Option<FilerEntry>,
    #[serde(default)]
    new_entry: Option<FilerEntry>,
    #[serde(default)]
    new_parent_path: Option<String>,
}

#[derive(Deserialize)]
struct FilerEntry {
    #[serde(default)]
    name: String,
    #[serde(default)]
    is_directory: bool,
    #[serde(default)]
    attributes: Attributes,
    #[serde(default)]
    chunks: Vec<Chunk>,
    #[serde(default)]
    content: Value,
    /// Base64 values.
    #[serde(default)]
    extended: BTreeMap<String, String>,
}

/// Location of a part of a file, as numbers or as text.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    fid: Value,
    #[serde(default)]
    file_id: Value,
}

impl Chunk {
    fn place(&self) -> &Value {
        if self.fid.is_null() {
            &self.file_id
        } else {
            &self.fid
        }
    }
}

#[derive(Deserialize, Default)]
struct Attributes {
    #[serde(default)]
    file_size: u64,
    #[serde(default)]
    mtime: i64,
    #[serde(default)]
    mime: Option<String>,
}

impl FilerEntry {
    fn extended_text(&self, name: &str) -> Option<String> {
        let bytes = BASE64_STANDARD.decode(self.extended.get(name)?).ok()?;
        String::from_utf8(bytes).ok()
    }

    /// Returns whether both have the same content. A change of tags alone is no new object.
    fn has_same_content_as(&self, other: &Self) -> bool {
        self.attributes.mtime == other.attributes.mtime
            && self.attributes.file_size == other.attributes.file_size
            && self
                .chunks
                .iter()
                .map(Chunk::place)
                .eq(other.chunks.iter().map(Chunk::place))
            && self.content == other.content
    }
}

/// Parses the changes of an event; `None` for entries that are no objects.
pub(super) fn read(
    document: &Value,
    body: &[u8],
    now_ms: i64,
) -> Result<Vec<Option<ReportedChange>>, NotificationError> {
    let posted = WebhookEvent::deserialize(document).map_err(|e| NotificationError::Field {
        field: "key, event_type or message",
        why: e.to_string(),
    })?;
    let WebhookMessage {
        old_entry,
        new_entry,
        new_parent_path,
    } = posted.message;
    let reported = match (posted.event_type.as_str(), old_entry, new_entry) {
        ("create", _, Some(new)) => vec![created(&posted.key, &new, body, now_ms)],
        ("update", Some(old), Some(new)) if new.has_same_content_as(&old) => vec![None],
        ("update", _, Some(new)) => vec![created(&posted.key, &new, body, now_ms)],
        ("delete", Some(old), _) => vec![removed(&posted.key, &old, body, now_ms)],
        ("rename", Some(old), Some(new)) => {
            let place = new_parent_path.unwrap_or_default();
            let moved = format!("{}/{}", place.trim_end_matches('/'), new.name);
            vec![
                created(&moved, &new, body, now_ms),
                removed(&posted.key, &old, body, now_ms),
            ]
        }
        _ => vec![None],
    };
    Ok(reported)
}

fn created(path: &str, entry: &FilerEntry, body: &[u8], now_ms: i64) -> Option<ReportedChange> {
    let kind = if entry
        .extended_text("Seaweed-X-Amz-Delete-Marker")
        .as_deref()
        == Some("true")
    {
        ChangeKind::DeleteMarkerCreated
    } else if entry.extended.contains_key("X-Seaweedfs-Upload-Id") {
        ChangeKind::CompleteMultipartUpload
    } else {
        ChangeKind::Put
    };
    let at = entry.attributes.mtime.checked_mul(1000);
    reported(path, entry, kind, at.filter(|at| *at > 0), body, now_ms)
}

fn removed(path: &str, entry: &FilerEntry, body: &[u8], now_ms: i64) -> Option<ReportedChange> {
    // The event has no time.
    reported(path, entry, ChangeKind::Delete, None, body, now_ms)
}

fn reported(
    path: &str,
    entry: &FilerEntry,
    kind: ChangeKind,
    at_ms: Option<i64>,
    body: &[u8],
    now_ms: i64,
) -> Option<ReportedChange> {
    let (bucket, key) = path.strip_prefix(BUCKETS)?.split_once('/')?;
    if entry.is_directory || bucket.starts_with('.') || key.starts_with(UPLOADS) {
        return None;
    }
    let version = entry.extended_text("Seaweed-X-Amz-Version-Id");
    // A version is a file in a directory beside the object's name.
    let key = match (&version, key.rsplit_once(VERSIONS)) {
        (Some(_), Some((object, _))) => object,
        _ => key,
    };
    let change = Change {
        kind,
        bucket: String::new(),
        app_id: 0,
        key: key.to_owned(),
        version,
        size: entry.attributes.file_size,
        etag: entry
            .extended_text("Seaweed-X-Amz-ETag")
            .unwrap_or_default(),
        content_type: entry.attributes.mime.clone(),
        at_ms: u64::try_from(at_ms.unwrap_or(now_ms)).unwrap_or(0),
        request: String::new(),
        source_ip: String::new(),
        by: None,
        depth: 0,
    };
    // The event names chunks that no other file has. Only two changes of an empty file within one second can look
    // alike.
    let dedup_key = [kind.as_str().as_bytes(), b"\0", body].concat();
    Some(ReportedChange {
        bucket: bucket.to_owned(),
        change,
        dedup_key: Some(dedup_key),
        at_ms,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(size: u64, chunk: &str) -> Value {
        json!({"name": "a", "chunks": [{"file_id": chunk}], "attributes": {"file_size": size, "mtime": 1_795_649_918,
            "mime": "image/jpeg"}, "extended": {"Seaweed-X-Amz-ETag": "YWJj"}})
    }

    fn read_one(kind: &str, key: &str, message: Value) -> Vec<(ChangeKind, String, String)> {
        let body = json!({"event_type": kind, "key": key, "message": message});
        let read = read(&body, body.to_string().as_bytes(), 7_000).expect("read");
        let reported = read.into_iter().flatten();
        reported
            .map(|reported| (reported.change.kind, reported.bucket, reported.change.key))
            .collect()
    }

    fn found(kind: ChangeKind, key: &str) -> (ChangeKind, String, String) {
        (kind, "photos".into(), key.into())
    }

    #[test]
    fn seaweed_files_below_buckets_are_objects() {
        const KEY: &str = "/buckets/photos/in/a b+ü.jpg";
        let (old, new) = (entry(10, "1,01"), entry(11, "2,02"));
        let put = found(ChangeKind::Put, "in/a b+ü.jpg");
        let gone = found(ChangeKind::Delete, "in/a b+ü.jpg");
        assert_eq!(
            read_one("create", KEY, json!({"new_entry": new})),
            std::slice::from_ref(&put)
        );
        let update = json!({"old_entry": old, "new_entry": new});
        assert_eq!(read_one("update", KEY, update), [put]);
        assert_eq!(
            read_one("delete", KEY, json!({"old_entry": old})),
            std::slice::from_ref(&gone)
        );
        let rename =
            json!({"old_entry": old, "new_entry": old, "new_parent_path": "/buckets/photos/out"});
        let moved = found(ChangeKind::Put, "out/a");
        assert_eq!(read_one("rename", KEY, rename), [moved, gone]);
        // A change of tags alone.
        let mut old = old;
        old["chunks"][0]["fid"] = json!({"volume_id": 1, "file_key": 1});
        let mut tagged = old.clone();
        tagged["chunks"][0]["file_id"].take();
        tagged["extended"]["X-Amz-Tagging-a"] = "Yg==".into();
        assert_eq!(
            read_one(
                "update",
                KEY,
                json!({"old_entry": old, "new_entry": tagged})
            ),
            []
        );
    }

    #[test]
    fn seaweed_non_objects_are_ignored() {
        let file = json!({"new_entry": entry(1, "1,01")});
        let directory =
            json!({"new_entry": {"name": "in", "is_directory": true, "attributes": {"mtime": 1}}});
        for (key, message) in [
            ("/buckets", &directory),
            ("/buckets/photos", &directory),
            ("/buckets/photos/in", &directory),
            ("/etc/x", &file),
            ("/buckets/.system/owners/a", &file),
            ("/buckets/photos/.uploads/4b47/0001.part", &file),
        ] {
            assert_eq!(read_one("create", key, message.clone()), [], "{key}");
        }
    }

    #[test]
    fn seaweed_uploads_and_versions_are_recognized() {
        let with = |more: &[(&str, &str)]| {
            let mut entry = entry(1, "1,01");
            for (name, value) in more {
                entry["extended"][*name] = BASE64_STANDARD.encode(value).into();
            }
            json!({"new_entry": entry, "old_entry": entry})
        };
        let upload = with(&[("X-Seaweedfs-Upload-Id", "4b47")]);
        assert_eq!(
            read_one("create", "/buckets/photos/m/p", upload),
            [found(ChangeKind::CompleteMultipartUpload, "m/p")]
        );
        const VERSION: &str = "/buckets/photos/d/v.versions/v_67";
        let version = [("Seaweed-X-Amz-Version-Id", "67")];
        assert_eq!(
            read_one("create", VERSION, with(&version)),
            [found(ChangeKind::Put, "d/v")]
        );
        assert_eq!(
            read_one("delete", VERSION, with(&version)),
            [found(ChangeKind::Delete, "d/v")]
        );
        let marker = [version[0], ("Seaweed-X-Amz-Delete-Marker", "true")];
        assert_eq!(
            read_one("create", VERSION, with(&marker)),
            [found(ChangeKind::DeleteMarkerCreated, "d/v")]
        );
        // A key that merely resembles a version.
        let plain = json!({"new_entry": entry(1, "1,01")});
        assert_eq!(
            read_one("create", "/buckets/photos/a.versions/b", plain),
            [found(ChangeKind::Put, "a.versions/b")]
        );
    }
}
