//! Lists of pieces in use. A list that no object references any more stays until its last reader has finished.

use std::sync::Arc;

use super::blobs::Blobs;

/// Keeps a list of pieces while a reader uses it.
#[derive(Debug)]
pub(super) struct PieceListPin {
    blobs: Arc<Blobs>,
    table: u64,
}

impl PieceListPin {
    /// Pins a list. Call it inside `Blobs::with_pins`.
    pub(super) fn new(blobs: Arc<Blobs>, table: u64) -> Self {
        blobs.pin_list(table);
        Self { blobs, table }
    }
}

impl Drop for PieceListPin {
    fn drop(&mut self) {
        self.blobs.unpin_list(self.table);
    }
}
