//! Queries of the API and of the command line.

use dispatch::Time;
use model::{RequestId, Version};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::reader::{function_of, wrong};
use crate::usage::{UsageKey, UsageQuery, UsageTotals};
use crate::{EventPage, EventQuery, EventRow, EventState, Failures, QueueKey};

const COLUMNS: &str =
    "seq, due, l.key, request, f.key, qualifier, source, state, accepted, ended, user_failures,
    system_failures, status, message, LENGTH(body)";
const TABLES: &str =
    "event JOIN queue f ON f.id = event.function JOIN queue l ON l.id = event.queue";

pub(super) fn find(connection: &Connection, query: &EventQuery) -> rusqlite::Result<EventPage> {
    let mut conditions = vec!["accepted BETWEEN ? AND ?".to_owned()];
    let time = |time: Time| Value::from(i64::try_from(time.0).unwrap_or(i64::MAX));
    let mut values = vec![time(query.accepted.0), time(query.accepted.1)];
    let mut hold = |condition: String, value: Vec<Value>| {
        conditions.push(condition);
        values.extend(value);
    };
    match &query.function {
        Some(function) => {
            let key = QueueKey::Function(function.clone()).write();
            let id: Option<i64> = connection
                .query_row("SELECT id FROM queue WHERE key = ?", [key], |row| {
                    row.get(0)
                })
                .optional()?;
            hold("function = ?".into(), vec![id.unwrap_or(-1).into()]);
        }
        None => {
            let prefix = format!("function/{}/", query.account);
            hold("instr(f.key, ?) = 1".into(), vec![prefix.into()]);
        }
    }
    if let Some(qualifier) = &query.qualifier {
        hold(
            "qualifier = ? COLLATE NOCASE".into(),
            vec![qualifier.clone().into()],
        );
    }
    if let Some(request) = query.request {
        hold(
            "request = ?".into(),
            vec![request.as_bytes().to_vec().into()],
        );
    }
    let marks = |count: usize| vec!["?"; count].join(",");
    if !query.sources.is_empty() {
        let sources = query.sources.iter().cloned().map(Value::from).collect();
        hold(
            format!("source IN ({})", marks(query.sources.len())),
            sources,
        );
    }
    if !query.states.is_empty() {
        let states = query.states.iter().map(|state| state.number().into());
        hold(
            format!("state IN ({})", marks(query.states.len())),
            states.collect(),
        );
    }
    if let Some((from, to)) = query.ended {
        hold("ended BETWEEN ? AND ?".into(), vec![time(from), time(to)]);
    }
    let condition = conditions.join(" AND ");
    let total: i64 = connection.query_row(
        &format!("SELECT COUNT(*) FROM {TABLES} WHERE {condition}"),
        params_from_iter(&values),
        |row| row.get(0),
    )?;
    let column = if query.by_end { "ended" } else { "accepted" };
    let direction = if query.descending { "DESC" } else { "ASC" };
    let mut select = connection.prepare(&format!(
        "SELECT {COLUMNS} FROM {TABLES} WHERE {condition} ORDER BY {column} {direction}, seq {direction} LIMIT {} OFFSET {}",
        query.limit, query.offset
    ))?;
    let rows = select.query_map(params_from_iter(&values), read_row)?;
    Ok(EventPage {
        total: total as u64,
        rows: rows.collect::<Result<_, _>>()?,
    })
}

pub(super) fn event(connection: &Connection, request: RequestId) -> rusqlite::Result<EventRow> {
    let select = format!("SELECT {COLUMNS}, body FROM {TABLES} WHERE request = ?");
    let mut find = connection.prepare_cached(&select)?;
    find.query_row([request.as_bytes()], |row| {
        let body: Option<Vec<u8>> = row.get(15)?;
        let event = body.map(|body| String::from_utf8_lossy(&body).into_owned());
        Ok(EventRow {
            event,
            ..read_row(row)?
        })
    })
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<EventRow> {
    let time = |column: usize| -> rusqlite::Result<Option<Time>> {
        Ok(row
            .get::<_, Option<i64>>(column)?
            .map(|time| Time(time as u64)))
    };
    let queue_key: String = row.get(2)?;
    let state: i64 = row.get(7)?;
    Ok(EventRow {
        seq: row.get::<_, i64>(0)? as u64,
        due: time(1)?.unwrap_or_default(),
        queue_key: QueueKey::read(&queue_key).ok_or_else(|| wrong(2, &queue_key))?,
        request: RequestId::from_bytes(row.get(3)?),
        function: function_of(row.get(4)?)?,
        qualifier: row.get(5)?,
        source: row.get(6)?,
        state: EventState::of(state).ok_or_else(|| wrong(7, &state.to_string()))?,
        accepted: time(8)?.unwrap_or_default(),
        ended: time(9)?,
        failures: Failures {
            user: row.get(10)?,
            system: row.get(11)?,
        },
        status: row.get(12)?,
        message: row.get(13)?,
        bytes: row.get::<_, Option<i64>>(14)?.unwrap_or(0) as u64,
        event: None,
    })
}

/// Returns the due time of the event that has been due the longest.
pub(super) fn longest_due(connection: &Connection) -> rusqlite::Result<Option<Time>> {
    let mut find = connection.prepare_cached(
        "SELECT MIN((SELECT due FROM event INDEXED BY queued WHERE queue = queue.id AND state <= 1 ORDER BY due LIMIT 1))
         FROM queue",
    )?;
    let due: Option<i64> = find.query_row([], |row| row.get(0))?;
    Ok(due.map(|due| Time(due as u64)))
}

/// Returns the highest account id that has, or had, a queue.
pub(super) fn highest_account(connection: &Connection) -> rusqlite::Result<u64> {
    let highest: i64 = connection.query_row(
        "SELECT COALESCE(MAX(CAST(substr(key, instr(key, '/') + 1) AS INTEGER)), 0) FROM queue",
        [],
        |row| row.get(0),
    )?;
    Ok(highest as u64)
}

pub(super) fn usage(
    connection: &Connection,
    query: &UsageQuery,
) -> rusqlite::Result<Vec<(UsageKey, UsageTotals)>> {
    let prefix = match &query.function {
        Some(function) => QueueKey::Function(function.clone()).write(),
        None => format!("function/{}/", query.account),
    };
    let mut find = connection.prepare_cached(
        "SELECT key, version, hour, invocations, errors, throttles, billed_ms, mb_ms, out_bytes
         FROM usage JOIN queue ON queue.id = usage.function
         WHERE (key = ?1 OR (?2 AND instr(key, ?1) = 1)) AND hour BETWEEN ?3 AND ?4 ORDER BY hour, key, version",
    )?;
    let whole = query.function.is_none();
    let rows = find.query_map(params![prefix, whole, query.from, query.to], |row| {
        let number = |column: usize| row.get::<_, i64>(column).map(|n| n as u64);
        let version: String = row.get(1)?;
        let account = UsageKey {
            function: function_of(row.get(0)?)?,
            version: Version::parse(&version).map_err(|_| wrong(1, &version))?,
            hour: row.get(2)?,
        };
        let totals = UsageTotals {
            invocations: number(3)?,
            errors: number(4)?,
            throttles: number(5)?,
            billed_ms: number(6)?,
            mb_ms: number(7)?,
            out_bytes: number(8)?,
        };
        Ok((account, totals))
    })?;
    rows.collect()
}
