//! Read queries of the runner.

use std::sync::mpsc::{SyncSender, sync_channel};

use bytes::Bytes;
use dispatch::Time;
use dispatch::events::QueuePosition;
use model::{FunctionKey, Qualifier, RecursionDepth, RequestId, TraceContext};
use rusqlite::{Connection, params};

use crate::{EventOrigin, Failures, NextEvents, QueueKey, QueuedEvent};

/// Maximum number of jobs that wait for a reader thread.
const MAX_PENDING_READS: usize = 65_536;

/// A query that runs on a reader thread.
pub(super) type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

/// Starts a reader thread. It ends when the sender is dropped.
pub(super) fn start(name: &str, connection: Connection) -> std::io::Result<SyncSender<ReadJob>> {
    let (jobs, inbox) = sync_channel::<ReadJob>(MAX_PENDING_READS);
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            while let Ok(job) = inbox.recv() {
                job(&connection);
            }
        })?;
    Ok(jobs)
}

pub(super) fn nonempty_queues(connection: &Connection) -> rusqlite::Result<Vec<QueueKey>> {
    let mut find = connection.prepare_cached(
        "SELECT key FROM queue WHERE EXISTS (SELECT 1 FROM event WHERE queue = queue.id AND state <= 1)",
    )?;
    let keys = find.query_map([], |row| row.get::<_, String>(0))?;
    let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
    Ok(keys.iter().filter_map(|key| QueueKey::read(key)).collect())
}

pub(super) fn next(
    connection: &Connection,
    queue_key: &str,
    after: Option<QueuePosition>,
    limit: usize,
) -> rusqlite::Result<NextEvents> {
    let mut find = connection.prepare_cached(
        "SELECT due, seq FROM event INDEXED BY queued
         WHERE queue = (SELECT id FROM queue WHERE key = ?) AND state <= 1 AND (due, seq) > (?, ?)
         ORDER BY due, seq LIMIT ?",
    )?;
    let (due, seq) = after.map_or((-1, -1), |after| (after.due.0 as i64, after.seq as i64));
    let rows = find.query_map(params![queue_key, due, seq, limit as i64 + 1], |row| {
        Ok(QueuePosition {
            due: Time(row.get::<_, i64>(0)? as u64),
            seq: row.get::<_, i64>(1)? as u64,
        })
    })?;
    let mut orders: Vec<_> = rows.collect::<Result<_, _>>()?;
    let whole = orders.len() <= limit;
    orders.truncate(limit);
    Ok(NextEvents { orders, whole })
}

pub(super) fn get(connection: &Connection, seq: u64) -> rusqlite::Result<QueuedEvent> {
    let mut find = connection.prepare_cached(
        "SELECT request, key, qualifier, routing, source, accepted, user_failures, system_failures, status, message, body, depth, trace, attempt
         FROM event JOIN queue ON queue.id = event.function WHERE seq = ? AND state <= 1",
    )?;
    find.query_row([seq as i64], |row| {
        let function = function_of(row.get(1)?)?;
        let qualifier: String = row.get(2)?;
        let qualifier = Qualifier::parse(&qualifier).map_err(|_| wrong(2, &qualifier))?;
        let routing: Option<String> = row.get(3)?;
        let routing = routing.map_or(Ok(Default::default()), |text| {
            serde_json::from_str(&text).map_err(|_| wrong(3, &text))
        })?;
        Ok(QueuedEvent {
            request: RequestId::from_bytes(row.get(0)?),
            attempt: row.get(13)?,
            function,
            qualifier,
            routing_key: routing,
            source: EventOrigin::parse(&row.get::<_, String>(4)?),
            depth: RecursionDepth(row.get(11)?),
            trace: row
                .get::<_, Option<String>>(12)?
                .and_then(|text| TraceContext::read(&text)),
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
    match QueueKey::read(&key) {
        Some(QueueKey::Function(function)) => Ok(function),
        _ => Err(wrong(1, &key)),
    }
}

pub(super) fn wrong(column: usize, text: &str) -> rusqlite::Error {
    let why = format!("unexpected stored value {text:?}").into();
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, why)
}
