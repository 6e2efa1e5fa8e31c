//! What implements the operations. The files beside this one each add some of them.

use std::sync::Arc;

use crate::authorizer::Authorizer;
use crate::store::Store;

/// Maximum size of a request's XML document, enough for 1,000 keys to delete or 10,000 parts.
pub(super) const XML: usize = 4 << 20;

/// Implements the operations.
#[derive(Debug)]
pub(super) struct S3Handler {
    pub(super) store: Store,
    pub(super) authorizer: Arc<dyn Authorizer>,
}
