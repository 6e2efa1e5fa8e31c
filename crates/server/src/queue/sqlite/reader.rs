//! The thread that reads.

use std::sync::mpsc::{SyncSender, sync_channel};

use bytes::Bytes;
use dispatch::Time;
use dispatch::events::Order;
use model::{AccountId, FunctionKey, FunctionName, Namespace, Qualifier, RequestId};
use rusqlite::{Connection, OptionalExtension, params};

use super::QUEUED;
use crate::queue::{Failures, Kept, Next, QueueError};

/// Readings that may wait for the thread.
const WAITING: usize = 65_536;

/// Something to be read.
pub(super) type Reading = Box<dyn FnOnce(&Connection) + Send>;

pub(super) fn start(connection: Connection) -> Result<SyncSender<Reading>, QueueError> {
    let (readings, inbox) = sync_channel::<Reading>(WAITING);
    std::thread::Builder::new()
        .name("events-reader".into())
        .spawn(move || {
            while let Ok(reading) = inbox.recv() {
                reading(&connection);
            }
        })
        .map_err(|e| QueueError::Unavailable(format!("cannot start its thread: {e}")))?;
    Ok(readings)
}

pub(super) fn lanes(connection: &Connection) -> rusqlite::Result<Vec<FunctionKey>> {
    let mut find = connection.prepare_cached(
        "SELECT key FROM lane WHERE EXISTS (SELECT 1 FROM event WHERE lane = lane.id AND state = 0)",
    )?;
    let keys = find.query_map([], |row| row.get::<_, String>(0))?;
    let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
    Ok(keys.iter().filter_map(|key| function_of(key)).collect())
}

pub(super) fn next(
    connection: &Connection,
    lane: &str,
    after: Option<Order>,
    limit: usize,
) -> rusqlite::Result<Next> {
    let mut find = connection.prepare_cached(
        "SELECT due, seq FROM event INDEXED BY queued
         WHERE lane = (SELECT id FROM lane WHERE key = ?) AND state = 0 AND (due, seq) > (?, ?)
         ORDER BY due, seq LIMIT ?",
    )?;
    let (due, seq) = after.map_or((-1, -1), |after| (after.due.0 as i64, after.seq as i64));
    let rows = find.query_map(params![lane, due, seq, limit as i64 + 1], |row| {
        Ok(Order {
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
        "SELECT request, key, qualifier, routing, accepted, user_failures, system_failures, body
         FROM event JOIN lane ON lane.id = event.lane WHERE seq = ? AND state = ?",
    )?;
    find.query_row(params![seq as i64, QUEUED], |row| {
        let key: String = row.get(1)?;
        let function = function_of(&key).ok_or_else(|| wrong(1, &key))?;
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
            accepted: Time(row.get::<_, i64>(4)? as u64),
            failures: Failures {
                user: row.get(5)?,
                system: row.get(6)?,
            },
            event: Bytes::from(row.get::<_, Vec<u8>>(7)?),
        })
    })
}

/// When the event that has been due longest was due.
pub(super) fn longest_due(connection: &Connection) -> rusqlite::Result<Option<Time>> {
    let mut find = connection.prepare_cached(
        "SELECT MIN((SELECT due FROM event INDEXED BY queued WHERE lane = lane.id AND state = 0 ORDER BY due LIMIT 1))
         FROM lane",
    )?;
    let due: Option<Option<i64>> = find.query_row([], |row| row.get(0)).optional()?;
    Ok(due.flatten().map(|due| Time(due as u64)))
}

fn wrong(column: usize, text: &str) -> rusqlite::Error {
    let why = format!("{text:?} is not what was written there").into();
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, why)
}

fn function_of(key: &str) -> Option<FunctionKey> {
    let mut parts = key.strip_prefix("function/")?.split('/');
    let account = AccountId(parts.next()?.parse().ok()?);
    Some(FunctionKey {
        account,
        namespace: Namespace::parse(parts.next()?).ok()?,
        name: FunctionName::parse(parts.next()?).ok()?,
    })
}
