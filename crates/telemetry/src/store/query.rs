//! Searches in the log store.

use std::collections::HashSet;

use model::{
    AccountId, FailureKind, FunctionName, Namespace, RequestId, Timestamp, outcome_number,
};
use rusqlite::{Connection, params, params_from_iter};

use super::error::LogStoreError;
use super::ids::{first_id, last_id};

/// A filter by outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeFilter {
    /// Every invocation.
    All,
    /// Invocations without an error.
    Succeeded,
    /// Invocations with an error.
    Failed,
    /// Invocations that exceeded their timeout.
    TimedOut,
    /// Invocations that exceeded their memory or got no instance.
    OutOfResources,
    /// Invocations whose code failed.
    Exceptions,
}

/// The key to sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// Time of the request.
    StartTime,
    /// Duration of the run.
    Duration,
    /// Peak memory.
    MemUsage,
    /// Name of the function.
    FunctionName,
}

/// The sort direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortOrder {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// A search in the log store.
#[derive(Clone, Debug)]
pub struct LogQuery {
    /// The account whose log is searched.
    pub account: AccountId,
    /// The namespace of the functions.
    pub namespace: Namespace,
    /// Restricts the search to these functions.
    pub functions: Option<Vec<FunctionName>>,
    /// Invocations of this version only.
    pub version: Option<String>,
    /// The invocation with this request id only.
    pub request: Option<RequestId>,
    /// First time, inclusive.
    pub from: Timestamp,
    /// Last time, inclusive.
    pub to: Timestamp,
    /// Invocations with these outcomes only.
    pub outcomes: OutcomeFilter,
    /// The key by which rows are sorted.
    pub order_by: SortKey,
    /// The direction in which rows are sorted.
    pub order: SortOrder,
    /// Number of rows to skip.
    pub offset: u32,
    /// Maximum number of rows.
    pub limit: u32,
}

/// A row of a search result.
#[derive(Clone, Debug)]
pub struct LogRow {
    /// Name of the function.
    pub function: String,
    /// The request id.
    pub request: String,
    /// Time at which the request came in.
    pub started: Timestamp,
    /// The stored number of the outcome: 200, or that of a [`FailureKind`].
    pub status: u16,
    /// Duration of the run (µs).
    pub duration_us: u64,
    /// Billed duration (ms).
    pub billed_ms: u64,
    /// Peak memory (bytes).
    pub memory_peak: u64,
    /// The response, or the error document.
    pub answer: String,
    /// The output.
    pub log: String,
    /// Number of earlier attempts.
    pub retry: u32,
}

/// A page of rows and the total number of matches.
#[derive(Clone, Debug, Default)]
pub struct LogPage {
    /// Number of rows that match.
    pub total: u64,
    /// The rows of this page.
    pub rows: Vec<LogRow>,
}

impl OutcomeFilter {
    /// Returns the condition on a row's stored number.
    fn condition(self) -> String {
        use FailureKind::*;
        let success = outcome_number(None);
        let kinds: &[FailureKind] = match self {
            Self::All => return "1".to_owned(),
            Self::Succeeded => return format!("status = {success}"),
            Self::Failed => return format!("status <> {success}"),
            Self::TimedOut => &[TimedOut, InitTimedOut],
            Self::OutOfResources => &[
                StartRateExceeded,
                ConcurrencyExceeded,
                OutOfMemory,
                NodeMemoryExceeded,
            ],
            Self::Exceptions => &[HandlerError, CodeNotLoaded],
        };
        let numbers: Vec<_> = kinds.iter().map(|kind| kind.number().to_string()).collect();
        format!("status IN ({})", numbers.join(", "))
    }
}

/// Searches rows.
pub(super) fn search(reader: &Connection, query: &LogQuery) -> Result<LogPage, LogStoreError> {
    let functions = functions(reader, query)?;
    if functions.is_empty() {
        return Ok(LogPage::default());
    }
    let marks = vec!["?"; functions.len()].join(",");
    let outcomes = query.outcomes.condition();
    let (from, to) = match query.request {
        Some(request) => (*request.as_bytes(), *request.as_bytes()),
        None => (first_id(query.from), last_id(query.to)),
    };
    let condition = format!(
        "FROM invocation JOIN function ON function.id = invocation.function
         WHERE invocation.function IN ({marks}) AND request BETWEEN ? AND ? AND {outcomes}
         AND (? IS NULL OR version = ? COLLATE NOCASE)"
    );
    let mut values: Vec<rusqlite::types::Value> = functions.into_iter().map(Into::into).collect();
    values.extend([from.to_vec().into(), to.to_vec().into()]);
    values.extend([query.version.clone().into(), query.version.clone().into()]);
    let total = reader.query_row(
        &format!("SELECT COUNT(*) {condition}"),
        params_from_iter(&values),
        |row| row.get::<_, i64>(0),
    )?;
    let column = match query.order_by {
        SortKey::StartTime => "request",
        SortKey::Duration => "duration_us",
        SortKey::MemUsage => "memory_peak",
        SortKey::FunctionName => "name",
    };
    let direction = match query.order {
        SortOrder::Ascending => "ASC",
        SortOrder::Descending => "DESC",
    };
    let select = format!(
        "SELECT name, request, started, status, duration_us, billed_ms, memory_peak, answer, log, retry {condition}
         ORDER BY {column} {direction}, request {direction}, retry {direction} LIMIT {} OFFSET {}",
        query.limit, query.offset
    );
    let mut statement = reader.prepare(&select)?;
    let rows = statement
        .query_map(params_from_iter(&values), read_row)?
        .collect::<Result<_, _>>()?;
    Ok(LogPage {
        total: total as u64,
        rows,
    })
}

/// Returns the ids of the functions that a query covers.
fn functions(connection: &Connection, query: &LogQuery) -> Result<Vec<i64>, rusqlite::Error> {
    let wanted: Option<HashSet<&str>> = query
        .functions
        .as_ref()
        .map(|names| names.iter().map(FunctionName::as_str).collect());
    let named = named(connection, query.account, &query.namespace)?.into_iter();
    Ok(named
        .filter(|(_, name)| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted.contains(name.as_str()))
        })
        .map(|(id, _)| id)
        .collect())
}

/// Returns the ids and names of the functions of a namespace.
pub(super) fn named(
    connection: &Connection,
    account: AccountId,
    namespace: &Namespace,
) -> Result<Vec<(i64, String)>, rusqlite::Error> {
    let mut find = connection
        .prepare_cached("SELECT id, name FROM function WHERE account = ? AND namespace = ?")?;
    let key = params![account.0 as i64, namespace.as_str()];
    find.query_map(key, |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn read_row(row: &rusqlite::Row<'_>) -> Result<LogRow, rusqlite::Error> {
    Ok(LogRow {
        function: row.get(0)?,
        request: RequestId::from_bytes(row.get(1)?).to_string(),
        started: row.get(2)?,
        status: row.get(3)?,
        duration_us: row.get::<_, i64>(4)? as u64,
        billed_ms: row.get::<_, i64>(5)? as u64,
        memory_peak: row.get::<_, i64>(6)? as u64,
        answer: row.get(7)?,
        log: row.get(8)?,
        retry: row.get(9)?,
    })
}
