//! The page of a list that a request asks for, and its order.

use scf::Error;

use super::error;

/// Source: SCF's limits of a list.
const LIMIT_DEFAULT: i64 = 20;
const LIMIT_MAX: i64 = 100;

/// Parses the offset and the length of a page.
pub(super) fn page(offset: Option<i64>, limit: Option<i64>) -> Result<(usize, usize), Error> {
    page_of(offset, limit, LIMIT_MAX)
}

/// Parses the offset and the length of a page of up to `most` items.
pub(super) fn page_of(
    offset: Option<i64>,
    limit: Option<i64>,
    most: i64,
) -> Result<(usize, usize), Error> {
    let offset = offset.unwrap_or(0);
    let begin = usize::try_from(offset).map_err(|_| {
        error::wire_field("Offset", format!("{offset} is not allowed; 0 and more are"))
    })?;
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    match usize::try_from(limit) {
        Ok(length) if limit <= most => Ok((begin, length)),
        _ => {
            let message = format!("{limit} is not allowed; 0 to {most} are");
            Err(error::wire_field("Limit", message))
        }
    }
}

/// Parses whether the order is descending.
pub(super) fn descending(order: Option<&str>) -> Result<bool, Error> {
    match order.map(str::to_ascii_uppercase).as_deref() {
        None | Some("" | "DESC") => Ok(true),
        Some("ASC") => Ok(false),
        Some(other) => Err(error::wire_field(
            "Order",
            format!("{other:?} is not allowed; ASC and DESC are"),
        )),
    }
}
