//! What the runner reads.

use std::sync::mpsc::{SyncSender, sync_channel};

use bytes::Bytes;
use dispatch::Time;
use dispatch::events::QueuePosition;
use model::{FunctionKey, Qualifier, RequestId};
use rusqlite::{Connection, params};

use crate::lineage::Depth;
use crate::queue::{Failures, Kept, LaneKey, Next, Source};

/// Readings that may wait for a thread.
const WAITING: usize = 65_536;

/// Something to be read.
pub(super) type Reading = Box<dyn FnOnce(&Connection) + Send>;

/// Starts a thread that reads.
pub(super) fn start(name: &str, connection: Connection) -> std::io::Result<SyncSender<Reading>> {
    let (readings, inbox) = sync_channel::<Reading>(WAITING);
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            while let Ok(reading) = inbox.recv() {
                reading(&connection);
            }
        })?;
    Ok(readings)
}

pub(super) fn lanes(connection: &Connection) -> rusqlite::Result<Vec<LaneKey>> {
    let mut find = connection.prepare_cached(
        "SELECT key FROM lane WHERE EXISTS (SELECT 1 FROM event WHERE lane = lane.id AND state <= 1)",
    )?;
    let keys = find.query_map([], |row| row.get::<_, String>(0))?;
    let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
    Ok(keys.iter().filter_map(|key| LaneKey::read(key)).collect())
}

pub(super) fn next(
    connection: &Connection,
    lane: &str,
    after: Option<QueuePosition>,
    limit: usize,
) -> rusqlite::Result<Next> {
    let mut find = connection.prepare_cached(
        "SELECT due, seq FROM event INDEXED BY queued
         WHERE lane = (SELECT id FROM lane WHERE key = ?) AND state <= 1 AND (due, seq) > (?, ?)
         ORDER BY due, seq LIMIT ?",
    )?;
    let (due, seq) = after.map_or((-1, -1), |after| (after.due.0 as i64, after.seq as i64));
    let rows = find.query_map(params![lane, due, seq, limit as i64 + 1], |row| {
        Ok(QueuePosition {
            due: Time(row.get::<_, i64>(0)? as u64),
            seq: row.get::<_, i64>(1)? as u64,
        })
    })?;
    let mut orders: Vec<_> = rows.collect::<Result<_, _>>()?;
    let whole = orders.len() <= limit;
    orders.truncate(limit);
    Ok(Next { orders, whole })
}

pub(super) fn get(connection: &Connection, seq: u64) -> rusqlite::Result<Kept> {
    let mut find = connection.prepare_cached(
        "SELECT request, key, qualifier, routing, source, accepted, user_failures, system_failures, status, message, body, depth
         FROM event JOIN lane ON lane.id = event.function WHERE seq = ? AND state <= 1",
    )?;
    find.query_row([seq as i64], |row| {
        let function = function_of(row.get(1)?)?;
        let qualifier: String = row.get(2)?;
        let qualifier = Qualifier::parse(&qualifier).map_err(|_| wrong(2, &qualifier))?;
        let routing: Option<String> = row.get(3)?;
        let routing = routing.map_or(Ok(Default::default()), |text| {
            serde_json::from_str(&text).map_err(|_| wrong(3, &text))
        })?;
        Ok(Kept {
            request: RequestId::from_bytes(row.get(0)?),
            function,
            qualifier,
            routing_key: routing,
            source: Source::parse(&row.get::<_, String>(4)?),
            depth: Depth(row.get(11)?),
            accepted: Time(row.get::<_, i64>(5)? as u64),
            failures: Failures {
                user: row.get(6)?,
                system: row.get(7)?,
            },
            status: row.get(8)?,
            message: row.get(9)?,
            event: Bytes::from(row.get::<_, Vec<u8>>(10)?),
        })
    })
}

pub(super) fn function_of(key: String) -> rusqlite::Result<FunctionKey> {
    match LaneKey::read(&key) {
        Some(LaneKey::Function(function)) => Ok(function),
        _ => Err(wrong(1, &key)),
    }
}

pub(super) fn wrong(column: usize, text: &str) -> rusqlite::Error {
    let why = format!("{text:?} is not what was written there").into();
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, why)
}
