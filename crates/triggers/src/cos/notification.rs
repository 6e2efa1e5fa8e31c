//! Change notifications from external storage: S3 records from MinIO, Ceph and others, and SeaweedFS's own format.
//!
//! Each server is an *event source*, identified by its token. Its buckets belong to one account, under the same or
//! mapped names, and triggers match them like virga's own.

use std::collections::BTreeMap;
use std::fmt;

use bucket::Change;
use events::NewEvent;
use model::{AccountId, BucketName, FunctionKey, RequestId};
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

use super::super::derived_id;
use super::{ObjectTriggers, s3, seaweed};

/// Maximum key length in bytes.
const KEY_MAX: usize = 1024;
/// Minimum token length, so that tokens cannot be guessed.
const TOKEN_MIN: usize = 16;
/// How far an event's id may lie in the past or future (ms). Logs are found and expire by this time.
const MAX_AGE: i64 = 86_400_000;
const MAX_AHEAD: i64 = 60_000;
/// Deduplication window of notifications without a time (ms).
const DEDUP_WINDOW: i64 = 3_600_000;

/// An external server that may send notifications.
#[derive(Clone)]
pub struct EventSource {
    /// Name given by the operator.
    pub name: String,
    /// Hash of the token. The token itself is not stored.
    token: [u8; 32],
    /// Account that owns its buckets.
    pub account: AccountId,
    /// Local bucket names by remote ones. Others keep their names.
    buckets: BTreeMap<String, BucketName>,
}

impl EventSource {
    /// Creates a source.
    ///
    /// # Errors
    /// The token is too weak; the error states the allowed form.
    pub fn new(
        name: String,
        token: &str,
        account: AccountId,
        buckets: BTreeMap<String, BucketName>,
    ) -> Result<Self, String> {
        let fine = token.len() >= TOKEN_MIN && token.bytes().all(|b| b.is_ascii_graphic());
        if !fine {
            return Err(format!(
                "a token has {TOKEN_MIN} or more visible ASCII characters; create one with openssl rand -hex 24"
            ));
        }
        Ok(Self {
            name,
            token: Sha256::digest(token).into(),
            account,
            buckets,
        })
    }

    /// Returns whether two sources have the same token.
    pub fn has_token_of(&self, other: &Self) -> bool {
        self.token.ct_eq(&other.token).into()
    }

    /// Returns the local name of a remote bucket. `None` if no local bucket can have it.
    fn bucket(&self, remote_name: &str) -> Option<BucketName> {
        let named = self.buckets.get(remote_name).cloned();
        named.or_else(|| BucketName::of(self.account, remote_name).ok())
    }
}

impl fmt::Debug for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSource")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// All configured event sources.
#[derive(Clone, Debug, Default)]
pub struct EventSources(pub Vec<EventSource>);

impl EventSources {
    /// Returns the source with this token. It always compares all of them, to take constant time.
    pub fn of_token(&self, token: &str) -> Option<&EventSource> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        self.0.iter().fold(None, |found, source| {
            let is_it: bool = source.token.ct_eq(&hash).into();
            if is_it { Some(source) } else { found }
        })
    }
}

/// Reason why a notification is rejected.
#[derive(Debug, Error)]
pub enum NotificationError {
    /// The body is not JSON.
    #[error("the notification is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The body is in no known form.
    #[error(
        "the notification is of no known form: Records as in S3's, or key, event_type and message as in SeaweedFS's, are expected"
    )]
    Form,
    /// A field is missing or wrong.
    #[error("{field} of the notification: {why}")]
    Field {
        /// The field.
        field: &'static str,
        /// The reason.
        why: String,
    },
}

/// A parsed notification.
#[derive(Debug, Default)]
pub struct Notification {
    reported: Vec<ReportedChange>,
    /// Number of entries that no trigger can match.
    pub ignored: usize,
}

/// A change reported by an external server.
#[derive(Debug)]
pub(super) struct ReportedChange {
    pub(super) bucket: String,
    /// The change; its bucket and account are set later.
    pub(super) change: Change,
    /// Identifies redeliveries of the same change. `None` if the server sends nothing that does.
    pub(super) dedup_key: Option<Vec<u8>>,
    /// Time of the change, if reported.
    pub(super) at_ms: Option<i64>,
}

impl Notification {
    /// Parses a notification of a source.
    ///
    /// # Errors
    /// The notification is malformed.
    pub fn read(source: &EventSource, body: &[u8], now_ms: i64) -> Result<Self, NotificationError> {
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
    pub fn events(
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
    use model::{FunctionName, Namespace};

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    pub(super) fn source(name: &str, token: &str) -> EventSource {
        let buckets = [("Photos.2024", "photos")].map(|(remote_name, here)| {
            (
                remote_name.to_owned(),
                BucketName::parse(here).expect("a name"),
            )
        });
        let account = AccountId(1_250_000_000);
        EventSource::new(name.into(), token, account, buckets.into()).expect("a token")
    }

    #[test]
    fn source_is_found_by_token_and_debug_hides_it() {
        let (one, other) = (source("one", TOKEN), source("other", "fedcba9876543210"));
        let sources = EventSources(vec![one, other]);
        let found = |token| sources.of_token(token).map(|source| source.name.as_str());
        assert_eq!(found(TOKEN), Some("one"));
        assert_eq!(found("fedcba9876543210"), Some("other"));
        assert_eq!((found(""), found("0123456789abcdeF")), (None, None));
        assert!(!format!("{sources:?}").contains("token"));
        for bad in [
            "",
            "0123456789abcde",
            "0123456789abcde\n",
            "0123456789 abcdef",
        ] {
            let made = EventSource::new("x".into(), bad, AccountId(1), BTreeMap::new());
            assert!(made.is_err(), "{bad:?}");
        }
    }

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
