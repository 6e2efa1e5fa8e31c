//! What runs functions beside calls of the API: each kind in a file of its own, which hands its events to
//! [`crate::invoke::Ingest`] and follows the catalog.

mod cos;
mod timer;

use model::RequestId;
use sha2::{Digest, Sha256};

pub(crate) use cos::{EventSource, EventSources, Notification, ObjectTriggers, Relay};
pub(crate) use timer::{Settings as TimerSettings, Timers};

/// The one id of the event that these parts name, so that the queue knows it again. It sorts by its time, milliseconds, among
/// all others.
fn derived_id<'a>(parts: impl IntoIterator<Item = &'a [u8]>, millis: u64) -> RequestId {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update([0]);
    }
    let mut random = [0; 10];
    random.copy_from_slice(&hash.finalize()[..10]);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    RequestId::from_bytes(id.into_bytes())
}
