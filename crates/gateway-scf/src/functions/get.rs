//! A function's record.

use std::sync::Arc;

use catalog::Stored;
use model::{Function, FunctionKey};
use scf::Error;

use super::super::{Gateway, error};

/// Finds a function.
pub(in super::super) fn get(
    gateway: &Gateway,
    key: &FunctionKey,
) -> Result<Arc<Stored<Function>>, Error> {
    gateway.control.function(key).map_err(error::control)
}
