//! S3 event notifications, as sent by MinIO, Ceph and others. Source: Amazon S3's page on the structure of event
//! messages.

use bucket::{Change, ChangeKind};
use serde::Deserialize;
use serde_json::Value;

use super::reported::{NotificationError, ReportedChange};

/// The used fields of a record.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct S3EventRecord {
    event_name: String,
    #[serde(default)]
    event_source: Option<String>,
    #[serde(default)]
    event_time: Option<String>,
    #[serde(default)]
    event_id: Option<String>,
    #[serde(default)]
    request_parameters: Option<Parameters>,
    #[serde(default)]
    response_elements: Option<Elements>,
    #[serde(default)]
    user_identity: Option<Identity>,
    s3: S3,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    #[serde(default, rename = "sourceIPAddress")]
    source_ip: Option<String>,
}

#[derive(Deserialize, Default)]
struct Elements {
    #[serde(default, rename = "x-amz-request-id")]
    request: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Identity {
    #[serde(default)]
    principal_id: Option<String>,
}

#[derive(Deserialize)]
struct S3 {
    bucket: Bucket,
    object: Object,
}

#[derive(Deserialize)]
struct Bucket {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    key: String,
    #[serde(default)]
    size: Option<Size>,
    #[serde(default, rename = "eTag", alias = "etag")]
    etag: Option<String>,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    version_id: Option<String>,
    #[serde(default)]
    sequencer: Option<String>,
}

/// Ceph sends it as a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Number(u64),
    Text(String),
}

/// Returns whether this is a test of the connection.
pub(super) fn is_test(document: &Value) -> bool {
    document.get("Event").and_then(Value::as_str) == Some("s3:TestEvent")
}

/// Parses the changes of a notification; `None` for events that triggers do not know.
pub(super) fn read(
    document: &Value,
    now_ms: i64,
) -> Result<Vec<Option<ReportedChange>>, NotificationError> {
    let wrong = |why: String| NotificationError::Field {
        field: "Records",
        why,
    };
    let records = document.get("Records").and_then(Value::as_array);
    let records = records.ok_or_else(|| wrong("a list is expected".into()))?;
    records
        .iter()
        .map(|record| {
            // Events about other things need not have the fields of an object.
            let name = record.get("eventName").and_then(Value::as_str);
            if name.is_some_and(|name| kind(name).is_none()) {
                return Ok(None);
            }
            let record = S3EventRecord::deserialize(record).map_err(|e| wrong(e.to_string()))?;
            Ok(reported(record, now_ms))
        })
        .collect()
}

fn reported(record: S3EventRecord, now_ms: i64) -> Option<ReportedChange> {
    let kind = kind(&record.event_name)?;
    let at_ms = record.event_time.as_deref().and_then(|text| {
        let time: jiff::Timestamp = text.parse().ok()?;
        Some(time.as_millisecond())
    });
    let object = record.s3.object;
    let request = record.response_elements.unwrap_or_default().request;
    let version = object.version_id.filter(|version| !version.is_empty());
    let identifiers = [
        object.sequencer.as_deref(),
        request.as_deref(),
        record.event_id.as_deref(),
        record.event_time.as_deref(),
        version.as_deref(),
    ];
    let marked = identifiers.iter().flatten().any(|part| !part.is_empty());
    let dedup_key = marked.then(|| {
        let about = [
            record.event_name.as_str(),
            &record.s3.bucket.name,
            &object.key,
        ];
        let all = about
            .into_iter()
            .chain(identifiers.map(Option::unwrap_or_default));
        all.collect::<Vec<_>>().join("\0").into_bytes()
    });
    // Ceph sends plain keys; all others form-encode them.
    let raw = record.event_source.as_deref() == Some("ceph:s3");
    let key = if raw {
        object.key
    } else {
        decoded(&object.key)?
    };
    let change = Change {
        kind,
        bucket: String::new(),
        app_id: 0,
        key,
        version,
        size: match object.size {
            None => 0,
            Some(Size::Number(size)) => size,
            Some(Size::Text(text)) => text.parse().unwrap_or(0),
        },
        etag: object.etag.unwrap_or_default(),
        content_type: object.content_type,
        at_ms: u64::try_from(at_ms.unwrap_or(now_ms)).unwrap_or(0),
        request: request.unwrap_or_default(),
        source_ip: record
            .request_parameters
            .unwrap_or_default()
            .source_ip
            .unwrap_or_default(),
        by: record.user_identity.unwrap_or_default().principal_id,
        depth: 0,
    };
    Some(ReportedChange {
        bucket: record.s3.bucket.name,
        change,
        dedup_key,
        at_ms,
    })
}

/// Maps an S3 event name to COS's. Tagging, retention and others have no counterpart.
fn kind(name: &str) -> Option<ChangeKind> {
    let kind = match name.strip_prefix("s3:").unwrap_or(name) {
        "ObjectCreated:Put" => ChangeKind::Put,
        "ObjectCreated:Post" => ChangeKind::Post,
        "ObjectCreated:Copy" => ChangeKind::Copy,
        "ObjectCreated:CompleteMultipartUpload" => ChangeKind::CompleteMultipartUpload,
        "ObjectRemoved:Delete" | "LifecycleExpiration:Delete" => ChangeKind::Delete,
        "ObjectRemoved:DeleteMarkerCreated" | "LifecycleExpiration:DeleteMarkerCreated" => {
            ChangeKind::DeleteMarkerCreated
        }
        "ObjectRestore:Post" => ChangeKind::RestorePost,
        "ObjectRestore:Completed" => ChangeKind::RestoreCompleted,
        _ => return None,
    };
    Some(kind)
}

/// Form-decodes a key. `None` if it is not UTF-8.
fn decoded(key: &str) -> Option<String> {
    // The key has no field name, so `&` and `=` belong to it.
    let escaped = key.replace('&', "%26").replace('=', "%3D");
    let (text, _) = form_urlencoded::parse(escaped.as_bytes()).next()?;
    (!text.contains('\u{fffd}') || key.contains("%EF%BF%BD")).then(|| text.into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(record: Value) -> ReportedChange {
        let read = read(&json!({"Records": [record]}), 1_000).expect("read");
        read.into_iter().next().flatten().expect("a change")
    }

    #[test]
    fn minio_record_is_parsed() {
        let reported = one(json!({
            "eventVersion": "2.0", "eventSource": "minio:s3", "awsRegion": "", "eventTime": "2026-11-18T10:40:00.123Z",
            "eventName": "s3:ObjectCreated:Put", "userIdentity": {"principalId": "minio"},
            "requestParameters": {"principalId": "minio", "region": "", "sourceIPAddress": "172.18.0.1"},
            "responseElements": {"x-amz-request-id": "159FB6B233B08AF0", "x-minio-deployment-id": "c"},
            "s3": {"s3SchemaVersion": "1.0", "configurationId": "Config",
                "bucket": {"name": "images", "ownerIdentity": {"principalId": "minio"}, "arn": "arn:aws:s3:::images"},
                "object": {"key": "in%2Fa+b%2B%C3%BC%26.jpg", "size": 629_648, "eTag": "b7ce", "contentType": "image/jpeg",
                    "userMetadata": {"content-type": "image/jpeg"}, "sequencer": "15612487A9DF732C"}},
            "source": {"host": "172.18.0.1", "port": "", "userAgent": "x"},
        }));
        let change = &reported.change;
        assert_eq!(
            (reported.bucket.as_str(), change.kind),
            ("images", ChangeKind::Put)
        );
        assert_eq!(change.key, "in/a b+ü&.jpg");
        assert_eq!((change.size, change.etag.as_str()), (629_648, "b7ce"));
        assert_eq!(change.content_type.as_deref(), Some("image/jpeg"));
        assert_eq!(change.request, "159FB6B233B08AF0");
        assert_eq!(
            (change.source_ip.as_str(), change.by.as_deref()),
            ("172.18.0.1", Some("minio"))
        );
        assert_eq!(
            (change.at_ms, reported.at_ms),
            (1_794_998_400_123, Some(1_794_998_400_123))
        );
        assert_eq!(change.version, None);
    }

    #[test]
    fn ceph_record_is_parsed() {
        let reported = one(json!({
            "eventVersion": "2.1", "eventSource": "ceph:s3", "awsRegion": "us-east-1", "eventTime": "2019-11-22T13:47:35.124724Z",
            "eventName": "ObjectCreated:Put", "userIdentity": {"principalId": "tester"},
            "requestParameters": {"sourceIPAddress": ""},
            "responseElements": {"x-amz-request-id": "503a4c37", "x-amz-id-2": "14d2"},
            "s3": {"s3SchemaVersion": "1.0", "configurationId": "mynotif1",
                "bucket": {"name": "mybucket1", "ownerIdentity": {"principalId": "tester"}, "arn": "a", "id": "i"},
                "object": {"key": "a+b%20c.jpg", "size": "1024", "eTag": "37b5", "versionId": "v1", "sequencer": "F7E6D75DC742D108",
                    "metadata": [], "tags": []}},
            "eventId": "", "opaqueData": "me@example.com",
        }));
        assert_eq!(reported.change.key, "a+b%20c.jpg");
        assert_eq!(
            (reported.change.size, reported.change.version.as_deref()),
            (1024, Some("v1"))
        );
    }

    #[test]
    fn object_keys_are_form_decoded() {
        for (written, read) in [
            ("red+flower.jpg", Some("red flower.jpg")),
            ("a/b%2Fc", Some("a/b/c")),
            ("a=b&c", Some("a=b&c")),
            ("%FF", None),
            ("%EF%BF%BD", Some("\u{fffd}")),
        ] {
            assert_eq!(decoded(written).as_deref(), read, "{written}");
        }
    }
}
