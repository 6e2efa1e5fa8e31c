//! Request ids that are derived from what an event is about.

use model::RequestId;
use sha2::{Digest, Sha256};

/// Returns a request id derived from an event's parts, by which the queue deduplicates it. The id sorts by its time in
/// milliseconds.
pub(crate) fn derived_id<'a>(parts: impl IntoIterator<Item = &'a [u8]>, millis: u64) -> RequestId {
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
