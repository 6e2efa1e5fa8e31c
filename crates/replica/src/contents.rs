//! The digest of a database's contents, which is equal on all replicas at the same position.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use sha2::{Digest, Sha256};

/// Returns the digest of all tables, in hexadecimal.
///
/// It is of the contents, not of the file's bytes, in which replicas differ: the name of every table, and its rows in the order of
/// their keys.
///
/// # Errors
/// Fails if the database does.
pub fn digest(connection: &Connection) -> rusqlite::Result<String> {
    let mut hash = Sha256::new();
    let mut tables = connection.prepare(
        "SELECT name, wr FROM pragma_table_list
         WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    )?;
    let tables = tables.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for table in tables {
        let (name, without_rowid): (String, bool) = table?;
        add_bytes(&mut hash, b'T', name.as_bytes());
        add_rows(&mut hash, connection, &name, without_rowid)?;
    }
    Ok(hex::encode(hash.finalize()))
}

fn add_rows(
    hash: &mut Sha256,
    connection: &Connection,
    table: &str,
    without_rowid: bool,
) -> rusqlite::Result<()> {
    let order = if without_rowid {
        primary_key(connection, table)?
    } else {
        "rowid".to_owned()
    };
    let query = format!("SELECT * FROM {} ORDER BY {order}", quoted(table));
    let mut rows = connection.prepare(&query)?;
    let columns = rows.column_count();
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        hash.update(b"R");
        for column in 0..columns {
            add_value(hash, row, column)?;
        }
    }
    Ok(())
}

fn primary_key(connection: &Connection, table: &str) -> rusqlite::Result<String> {
    let mut columns =
        connection.prepare("SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk")?;
    let columns = columns.query_map([table], |row| row.get::<_, String>(0))?;
    let columns = columns.map(|name| name.map(|name| quoted(&name)));
    Ok(columns.collect::<rusqlite::Result<Vec<_>>>()?.join(", "))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn add_value(hash: &mut Sha256, row: &Row<'_>, column: usize) -> rusqlite::Result<()> {
    match row.get_ref(column)? {
        ValueRef::Null => hash.update(b"N"),
        ValueRef::Integer(value) => add_number(hash, b'I', value.to_le_bytes()),
        ValueRef::Real(value) => add_number(hash, b'F', value.to_bits().to_le_bytes()),
        ValueRef::Text(text) => add_bytes(hash, b'S', text),
        ValueRef::Blob(bytes) => add_bytes(hash, b'B', bytes),
    }
    Ok(())
}

fn add_number(hash: &mut Sha256, kind: u8, bytes: [u8; 8]) {
    hash.update([kind]);
    hash.update(bytes);
}

fn add_bytes(hash: &mut Sha256, kind: u8, bytes: &[u8]) {
    add_number(hash, kind, (bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: &str = "CREATE TABLE a (id INTEGER PRIMARY KEY, x); CREATE TABLE \"odd \"\"name\" (k TEXT, n, PRIMARY KEY (n, k)) WITHOUT ROWID;
         CREATE INDEX i ON a (x);";

    fn database(statements: &str) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLES).unwrap();
        connection.execute_batch(statements).unwrap();
        connection
    }

    #[test]
    fn equal_contents_have_equal_digests_however_they_came_about() {
        let one = database(
            "INSERT INTO a VALUES (1, 'x'), (2, x'00'); INSERT INTO \"odd \"\"name\" VALUES ('k', 1), ('a', 2);",
        );
        let other = database(
            "INSERT INTO a VALUES (9, 1), (2, x'00'), (1, 'y'); INSERT INTO \"odd \"\"name\" VALUES ('a', 2), ('k', 1);
             DELETE FROM a WHERE id = 9; UPDATE a SET x = 'x' WHERE id = 1; VACUUM;",
        );
        assert_eq!(digest(&one).unwrap(), digest(&other).unwrap());
    }

    #[test]
    fn every_difference_changes_the_digest() {
        let mut digests = Vec::new();
        for statements in [
            "",
            "INSERT INTO a VALUES (1, NULL)",
            "INSERT INTO a VALUES (1, '1')",
            "INSERT INTO a VALUES (1, 1)",
            "INSERT INTO a VALUES (1, 1.0)",
            "INSERT INTO a VALUES (1, x'31')",
            "INSERT INTO a VALUES (2, 1)",
            "INSERT INTO \"odd \"\"name\" VALUES ('ab', '')",
            "INSERT INTO \"odd \"\"name\" VALUES ('a', 'b')",
            "CREATE TABLE b (x)",
        ] {
            digests.push(digest(&database(statements)).unwrap());
        }
        let all = digests.len();
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), all);
    }
}
