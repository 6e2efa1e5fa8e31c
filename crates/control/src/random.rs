//! Random numbers for new ids.

/// Returns a random number for an id.
pub fn random() -> u64 {
    let bytes = uuid::Uuid::now_v7().into_bytes();
    // The last eight bytes are random, except their first two bits.
    bytes[9..]
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}
