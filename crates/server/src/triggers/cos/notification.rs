//! Changes in storage elsewhere, as its servers tell of them: MinIO, Ceph and others by the records of S3, SeaweedFS by a form of
//! its own.
//!
//! Each server is a *source*, which its token names. The buckets of a source are those of one account, under the names that they
//! have there or others, and triggers wait for their changes as for those of virga's own.

use std::collections::BTreeMap;
use std::fmt;

use bucket::Change;
use model::{AccountId, BucketName, FunctionKey, RequestId};
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

use super::super::derived_id;
use super::{ObjectTriggers, s3, seaweed};
use crate::clock;
use crate::queue::NewEvent;

/// The longest key that there is, bytes.
const KEY_MAX: usize = 1024;
/// The least length of a token, so that none is found by trying.
const TOKEN_MIN: usize = 16;
/// How far from now the time in an event's id may lie, milliseconds back and ahead: logs are found, and forgotten, by it.
const MAX_AGE: i64 = 86_400_000;
const MAX_AHEAD: i64 = 60_000;
/// How long what has no time of its own is known when it is told again, milliseconds.
const DEDUP_WINDOW: i64 = 3_600_000;

/// A server elsewhere that may tell of changes.
#[derive(Clone)]
pub(crate) struct EventSource {
    /// What the operator calls it.
    pub(crate) name: String,
    /// Its token's hash: what is secret is not kept.
    token: [u8; 32],
    /// Whose buckets it tells of.
    pub(crate) account: AccountId,
    /// Names of its buckets here, by those that they have there; all others keep theirs.
    buckets: BTreeMap<String, BucketName>,
}

impl EventSource {
    /// Checks a token.
    ///
    /// # Errors
    /// What is allowed.
    pub(crate) fn new(
        name: String,
        token: &str,
        account: AccountId,
        buckets: BTreeMap<String, BucketName>,
    ) -> Result<Self, String> {
        let fine = token.len() >= TOKEN_MIN && token.bytes().all(|b| b.is_ascii_graphic());
        if !fine {
            return Err(format!(
                "{TOKEN_MIN} or more visible ASCII characters are a token, as openssl rand -hex 24 makes one"
            ));
        }
        Ok(Self {
            name,
            token: Sha256::digest(token).into(),
            account,
            buckets,
        })
    }

    /// Whether two sources could not be told apart.
    pub(crate) fn has_token_of(&self, other: &Self) -> bool {
        self.token.ct_eq(&other.token).into()
    }

    /// What a bucket of this name there is called here. None where it has a name that no bucket here can have.
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

/// All servers elsewhere that may tell of changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventSources(pub(crate) Vec<EventSource>);

impl EventSources {
    /// The source that a token is of. Each is compared with, whichever it is.
    pub(crate) fn of_token(&self, token: &str) -> Option<&EventSource> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        self.0.iter().fold(None, |found, source| {
            let is_it: bool = source.token.ct_eq(&hash).into();
            if is_it { Some(source) } else { found }
        })
    }
}

/// Why a notification says nothing.
#[derive(Debug, Error)]
pub(crate) enum NotificationError {
    #[error("the notification is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error(
        "the notification is of no known form: Records as in S3's, or key, event_type and message as in SeaweedFS's, are expected"
    )]
    Form,
    #[error("{field} of the notification: {why}")]
    Field { field: &'static str, why: String },
}

/// What a server tells, in the words of changes here.
#[derive(Debug, Default)]
pub(crate) struct Notification {
    reported: Vec<ReportedChange>,
    /// How many things it tells that no trigger can wait for.
    pub(crate) ignored: usize,
}

/// A change, as a server there tells of it.
#[derive(Debug)]
pub(super) struct ReportedChange {
    pub(super) bucket: String,
    /// The change; its bucket and account are not known yet.
    pub(super) change: Change,
    /// What it has in common with the same one told again, and with no other. None where there is no telling.
    pub(super) dedup_key: Option<Vec<u8>>,
    /// When it was, if that is told.
    pub(super) at_ms: Option<i64>,
}

impl Notification {
    /// Reads what a source tells at a time.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(
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

    /// Its events, in their order, for triggers that wait for them; and how many changes none waits for.
    pub(crate) fn events(
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
    /// The id of its event, which is the same when it is told again.
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

/// A change with its bucket's name here and its account. None where no trigger can wait for it.
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
        // Its time is the event's, but where that cannot be.
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
        let mut bare = body("a");
        let object = &mut bare["Records"][0];
        object["s3"]["object"]["sequencer"].take();
        object["eventTime"].take();
        assert_ne!(
            id_at(&bare, "one", "fn", NOW),
            id_at(&bare, "one", "fn", NOW)
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
