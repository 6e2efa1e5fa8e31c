//! Consistent copies of a machine's database, each with the position that it has applied.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, backup::Backup};

use crate::log::Position;

/// Pages that are copied at a time.
const PAGES: std::ffi::c_int = 1024;

/// Copies the database in a file to another file, and returns the position of the copy. Writers go on meanwhile.
///
/// # Errors
/// Fails if a file cannot be read or written.
pub fn take(database: &Path, copy: &Path) -> rusqlite::Result<Position> {
    let source = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    // One read transaction: the copy is of one moment, and is not begun anew by each commit.
    source.execute_batch("BEGIN")?;
    let position = source.query_row("SELECT position FROM replica", [], |row| {
        row.get::<_, i64>(0)
    })?;
    let mut target = Connection::open(copy)?;
    Backup::new(&source, &mut target)?.run_to_completion(PAGES, std::time::Duration::ZERO, None)?;
    target.close().map_err(|(_, error)| error)?;
    Ok(Position(position as u64))
}
