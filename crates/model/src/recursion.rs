//! The depth of call chains.

/// Recursion depth: the number of functions between a request and the outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecursionDepth(pub u32);

impl RecursionDepth {
    /// Returns the depth of requests made by an invocation of this depth.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}
