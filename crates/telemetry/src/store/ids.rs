//! Bounds of request ids by time. A request id is a version 7 UUID, which starts with a 48-bit timestamp.

use model::Timestamp;

/// Returns the smallest request id of a millisecond.
pub(super) fn first_id(time: Timestamp) -> [u8; 16] {
    bound(time, 0)
}

/// Returns the largest request id of a millisecond.
pub(super) fn last_id(time: Timestamp) -> [u8; 16] {
    bound(time, 0xff)
}

pub(super) fn bound(time: Timestamp, rest: u8) -> [u8; 16] {
    let mut id = [rest; 16];
    id[..6].copy_from_slice(&time.clamp(0, (1 << 48) - 1).to_be_bytes()[2..]);
    id
}
