//! A change that an external server reports, and the errors of its notifications.

use bucket::Change;
use thiserror::Error;

/// Reason why a notification is rejected.
#[derive(Debug, Error)]
pub(super) enum NotificationError {
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
