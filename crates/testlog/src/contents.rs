//! The contents of a database.

use rusqlite::Connection;
use rusqlite::types::Value;

/// The rows of each table.
pub type Contents = Vec<(String, Vec<Vec<Value>>)>;

/// Returns everything in a database, table by table, with the order of each table's rows fixed by its columns.
pub fn dump(connection: &Connection) -> Contents {
    let mut tables = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .unwrap();
    let tables: Vec<String> = tables
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let contents = |table: &str| {
        let count = connection
            .prepare(&format!("SELECT * FROM {table}"))
            .unwrap()
            .column_count();
        let order: Vec<_> = (1..=count).map(|column| column.to_string()).collect();
        let order = order.join(", ");
        let mut rows = connection
            .prepare(&format!("SELECT * FROM {table} ORDER BY {order}"))
            .unwrap();
        let rows = rows.query_map([], |row| (0..count).map(|column| row.get(column)).collect());
        rows.unwrap().map(Result::unwrap).collect()
    };
    tables
        .iter()
        .map(|table| (table.clone(), contents(table)))
        .collect()
}
