//! A notification of an external storage: S3 records from MinIO, Ceph and others, or SeaweedFS's own format.

use events::NewEvent;
use model::{FunctionKey, RequestId};
use serde_json::Value;

use super::super::cos::ObjectTriggers;
use super::super::ids::derived_id;
use super::reported::{NotificationError, ReportedChange};
use super::source::EventSource;
use super::{s3, seaweed};

/// Maximum key length in bytes.
const KEY_MAX: usize = 1024;
/// How far an event's id may lie in the past or future (ms). Logs are found and expire by this time.
const MAX_AGE: i64 = 86_400_000;
const MAX_AHEAD: i64 = 60_000;
/// Deduplication window of notifications without a time (ms).
const DEDUP_WINDOW: i64 = 3_600_000;

/// A parsed notification.
#[derive(Debug, Default)]
pub(super) struct Notification {
    reported: Vec<ReportedChange>,
    /// Number of entries that no trigger can match.
    pub(super) ignored: usize,
}

impl Notification {
    /// Parses a notification of a source.
    ///
    /// # Errors
    /// The notification is malformed.
    pub(super) fn read(
        source: &EventSource,
        body: &[u8],
        now_ms: i64,
    ) -> Result<Self, NotificationError> {
        let document: Value = serde_json::from_slice(body)?;
        let reported = if document.get("Records").is_some() {
            s3::read(&document, now_ms)?
        } else if document.get("event_type").is_some() {
            seaweed::read(&document, body, now_ms)?
        } else if s3::is_test(&document) {
            Vec::new()
        } else {
            return Err(NotificationError::Form);
        };
        let mut notification = Self::default();
        for reported in reported {
            match reported.and_then(|reported| with_local_bucket(source, reported)) {
                Some(reported) => notification.reported.push(reported),
                None => notification.ignored += 1,
            }
        }
        Ok(notification)
    }

    /// Returns the events for matching triggers, in order, and the number of changes without one.
    pub(super) fn events(
        &self,
        source: &EventSource,
        triggers: &ObjectTriggers,
        now_ms: i64,
    ) -> (Vec<NewEvent>, usize) {
        let events: Vec<_> = self
            .reported
            .iter()
            .filter_map(|reported| {
                triggers.event(&reported.change, |function| {
                    reported.id(source, function, now_ms)
                })
            })
            .collect();
        let unwanted = self.reported.len() - events.len();
        (events, unwanted)
    }
}

impl ReportedChange {
    /// Returns the event's request id, which is the same for redeliveries.
    fn id(&self, source: &EventSource, function: &FunctionKey, now_ms: i64) -> RequestId {
        let Some(dedup_key) = &self.dedup_key else {
            return clock::new_request_id();
        };
        let near = |at: &i64| (now_ms - MAX_AGE..now_ms + MAX_AHEAD).contains(at);
        let at = self
            .at_ms
            .filter(near)
            .unwrap_or(now_ms - now_ms % DEDUP_WINDOW);
        let account = function.account.to_string();
        let parts = [
            source.name.as_bytes(),
            account.as_bytes(),
            function.namespace.as_str().as_bytes(),
            function.name.as_str().as_bytes(),
            dedup_key,
        ];
        derived_id(parts, u64::try_from(at).unwrap_or(0))
    }
}

/// Sets the local bucket name and account of a change. `None` if no trigger can match it.
fn with_local_bucket(source: &EventSource, mut reported: ReportedChange) -> Option<ReportedChange> {
    let fits = (1..=KEY_MAX).contains(&reported.change.key.len());
    let bucket = source.bucket(&reported.bucket).filter(|_| fits)?;
    reported.change.bucket = bucket.to_string();
    reported.change.app_id = source.account.0;
    Some(reported)
}

#[cfg(test)]
mod tests {
    use bucket::ChangeKind;
    use model::{AccountId, FunctionName, Namespace};

    use super::super::source::tests::{TOKEN, source};
    use super::*;

    fn read(body: &Value) -> Notification {
        let source = source("one", TOKEN);
        Notification::read(&source, body.to_string().as_bytes(), NOW).expect("read")
    }

    const NOW: i64 = 1_795_000_000_000;

    fn record(name: &str, bucket: &str, key: &str) -> Value {
        serde_json::json!({"eventSource": "minio:s3", "eventName": name, "eventTime": "2026-11-18T10:40:00.5Z",
            "s3": {"bucket": {"name": bucket}, "object": {"key": key, "sequencer": "1", "size": 1}}})
    }

    #[test]
    fn bucket_names_are_mapped_per_source() {
        let put = |bucket: &str, key: &str| serde_json::json!({"Records": [record("s3:ObjectCreated:Put", bucket, key)]});
        for (remote_name, here) in [
            ("photos", Some("photos")),
            ("Photos.2024", Some("photos")),
            ("papers-1250000000", Some("papers")),
            ("Papers", None),
        ] {
            let notification = read(&put(remote_name, "a"));
            let first = notification.reported.first();
            let found =
                first.map(|reported| (reported.change.bucket.as_str(), reported.change.app_id));
            assert_eq!(
                found,
                here.map(|name| (name, 1_250_000_000)),
                "{remote_name}"
            );
            assert_eq!(notification.ignored, usize::from(here.is_none()));
        }
        let long = "a".repeat(KEY_MAX + 1);
        assert_eq!(read(&put("photos", &long)).ignored, 1);
    }

    #[test]
    fn redelivered_notification_has_the_same_request_id() {
        let id_at = |body: &Value, source_name: &str, function: &str, now| {
            let key = FunctionKey {
                account: AccountId(1_250_000_000),
                namespace: Namespace::default(),
                name: FunctionName::parse(function).expect("a name"),
            };
            read(body).reported[0].id(&source(source_name, TOKEN), &key, now)
        };
        let body =
            |key: &str| serde_json::json!({"Records": [record("ObjectCreated:Put", "b", key)]});
        let one = id_at(&body("a"), "one", "fn", NOW);
        assert_eq!(one, id_at(&body("a"), "one", "fn", NOW + 5_000_000));
        for other in [
            id_at(&body("b"), "one", "fn", NOW),
            id_at(&body("a"), "two", "fn", NOW),
            id_at(&body("a"), "one", "other", NOW),
        ] {
            assert_ne!(one, other);
        }
        // The id holds the event's time, unless that is out of range.
        let millis = |id: RequestId| {
            id.as_bytes()[..6]
                .iter()
                .fold(0, |n, b| n << 8 | i64::from(*b))
        };
        assert_eq!(millis(one), 1_794_998_400_500);
        let late = NOW + 2 * MAX_AGE;
        assert_eq!(
            millis(id_at(&body("a"), "one", "fn", late)),
            late - late % DEDUP_WINDOW
        );
        let mut unnamed = body("a");
        let object = &mut unnamed["Records"][0];
        object["s3"]["object"]["sequencer"].take();
        object["eventTime"].take();
        assert_ne!(
            id_at(&unnamed, "one", "fn", NOW),
            id_at(&unnamed, "one", "fn", NOW)
        );
    }

    #[test]
    fn unreadable_notifications_name_the_problem() {
        let source = source("one", TOKEN);
        for (body, part) in [
            ("", "not JSON"),
            ("[]", "no known form"),
            ("{}", "no known form"),
            (r#"{"Records": {}}"#, "Records"),
            (r#"{"Records": [{}]}"#, "Records"),
            (r#"{"Records": [{"eventName": "ObjectCreated:Put"}]}"#, "s3"),
            (r#"{"event_type": "create"}"#, "key"),
        ] {
            let unread = Notification::read(&source, body.as_bytes(), NOW).expect_err("refused");
            assert!(unread.to_string().contains(part), "{body}: {unread}");
        }
        let test = br#"{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}"#;
        for body in [&test[..], br#"{"Records": []}"#] {
            let read = Notification::read(&source, body, NOW).expect("read");
            assert_eq!((read.reported.len(), read.ignored), (0, 0));
        }
    }

    #[test]
    fn s3_event_names_map_to_cos() {
        use ChangeKind as Kind;
        let rows = [
            ("s3:ObjectCreated:Put", Some(Kind::Put)),
            ("ObjectCreated:Post", Some(Kind::Post)),
            ("s3:ObjectCreated:Copy", Some(Kind::Copy)),
            (
                "s3:ObjectCreated:CompleteMultipartUpload",
                Some(Kind::CompleteMultipartUpload),
            ),
            ("s3:ObjectRemoved:Delete", Some(Kind::Delete)),
            (
                "ObjectRemoved:DeleteMarkerCreated",
                Some(Kind::DeleteMarkerCreated),
            ),
            ("s3:LifecycleExpiration:Delete", Some(Kind::Delete)),
            ("s3:ObjectRestore:Post", Some(Kind::RestorePost)),
            ("s3:ObjectRestore:Completed", Some(Kind::RestoreCompleted)),
            ("s3:ObjectCreated:PutTagging", None),
            ("s3:ObjectRemoved:NoOP", None),
            ("s3:ObjectAccessed:Get", None),
        ];
        for (name, expected) in rows {
            let notification = read(&serde_json::json!({"Records": [record(name, "b", "a")]}));
            let kind = notification
                .reported
                .first()
                .map(|reported| reported.change.kind);
            assert_eq!(kind, expected, "{name}");
        }
    }
}
