//! `GetFunctionLogs`.

use model::{FunctionKey, FunctionName, Namespace, RequestId, Timestamp};
use scf::action::GetFunctionLogs;
use scf::types::{FunctionLog, GetFunctionLogsRequest, GetFunctionLogsResponse, LogSearchContext};
use scf::{Action, Error};
use telemetry::{LogQuery, LogRow, OutcomeFilter, SortKey, SortOrder};

use super::error::{self, Rejected};
use super::invoke::namespace;
use super::page::descending;
use super::{Caller, Gateway, Serve};

/// Source: SCF's limits of a search.
const DAY_MS: i64 = 86_400_000;
const SPAN_MAX_MS: i64 = DAY_MS;
const END_MAX: i64 = 10_000;
const LIMIT_DEFAULT: i64 = 20;

impl Serve for GetFunctionLogs {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: GetFunctionLogsRequest,
    ) -> Result<GetFunctionLogsResponse, Error> {
        let mut query = query(caller, &request)?;
        let log = gateway.log.clone();
        if query.functions.is_none() && caller.principal.has_policy() {
            query.functions = Some(readable(gateway, caller, &query.namespace).await?);
        }
        let found = tokio::task::spawn_blocking(move || log.search(&query)).await;
        let found = found
            .map_err(|e| error::internal(&e))?
            .map_err(error::logs)?;
        Ok(GetFunctionLogsResponse {
            total_count: found.total as i64,
            data: found.rows.into_iter().map(show).collect(),
            search_context: LogSearchContext::default(),
        })
    }
}

/// Returns the functions of a namespace whose logs the caller may read, including deleted ones.
async fn readable(
    gateway: &Gateway,
    caller: Caller<'_>,
    namespace: &Namespace,
) -> Result<Vec<FunctionName>, Error> {
    let (log, account, space) = (gateway.log.clone(), caller.account, namespace.clone());
    let logged = tokio::task::spawn_blocking(move || log.functions(account, &space)).await;
    let mut logged = logged
        .map_err(|e| error::internal(&e))?
        .map_err(error::logs)?;
    logged.retain(|name| {
        let key = FunctionKey {
            account: caller.account,
            namespace: namespace.clone(),
            name: name.clone(),
        };
        gateway.may(caller, GetFunctionLogs::NAME, &key)
    });
    Ok(logged)
}

fn query(caller: Caller<'_>, request: &GetFunctionLogsRequest) -> Result<LogQuery, Error> {
    let (from, to) = span(request)?;
    let (offset, limit) = (
        request.offset.unwrap_or(0),
        request.limit.unwrap_or(LIMIT_DEFAULT),
    );
    if offset < 0 || limit < 0 || offset.saturating_add(limit) > END_MAX {
        let message = format!(
            "Offset: {offset} with Limit {limit} is not allowed; their sum may be up to {END_MAX}"
        );
        return Err(error::rejected(Rejected::LogOffset, message));
    }
    let name = |text: &str| FunctionName::parse(text).map_err(error::invalid);
    let id = |text: &str| RequestId::parse(text).map_err(error::invalid);
    let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    let version = given(&request.qualifier).map(|text| {
        if text == "$DEFAULT" {
            "$LATEST".into()
        } else {
            text
        }
    });
    Ok(LogQuery {
        account: caller.account,
        namespace: namespace(request.namespace.as_deref())?,
        functions: given(&request.function_name)
            .map(|text| name(&text).map(|name| vec![name]))
            .transpose()?,
        version,
        request: given(&request.function_request_id)
            .as_deref()
            .map(id)
            .transpose()?,
        from,
        to,
        outcomes: outcomes(request)?,
        order_by: order_by(request.order_by.as_deref())?,
        order: if descending(request.order.as_deref())? {
            SortOrder::Descending
        } else {
            SortOrder::Ascending
        },
        offset: offset as u32,
        limit: limit as u32,
    })
}

/// Parses a time, if present.
pub(super) fn time(field: &str, given: &Option<String>) -> Result<Option<Timestamp>, Error> {
    let Some(text) = given.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    clock::parse(text).map(Some).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        let message =
            format!("{field}: {shown:?} is not allowed; YYYY-MM-DD HH:MM:SS (Beijing time) is");
        error::rejected(Rejected::Time, message)
    })
}

/// Parses the time span of a query, up to one day. Defaults to the last 24 hours.
fn span(request: &GetFunctionLogsRequest) -> Result<(Timestamp, Timestamp), Error> {
    let (from, to) = (
        time("StartTime", &request.start_time)?,
        time("EndTime", &request.end_time)?,
    );
    let to = match (from, to) {
        // The end includes the whole second.
        (_, Some(to)) => to + 999,
        (Some(from), None) => (from + SPAN_MAX_MS).min(clock::now_ms()),
        (None, None) => clock::now_ms(),
    };
    let from = from.unwrap_or(to - SPAN_MAX_MS);
    if from > to || to - from > SPAN_MAX_MS + 999 {
        let message = "the end must follow the start within one day";
        return Err(error::wire_field("StartTime and EndTime", message));
    }
    Ok((from, to))
}

fn outcomes(request: &GetFunctionLogsRequest) -> Result<OutcomeFilter, Error> {
    let code = request
        .filter
        .as_ref()
        .and_then(|filter| filter.ret_code.as_deref());
    Ok(match code {
        None | Some("") => OutcomeFilter::All,
        Some("is0") => OutcomeFilter::Succeeded,
        Some("not0") => OutcomeFilter::Failed,
        Some("TimeLimitExceeded") => OutcomeFilter::TimedOut,
        Some("ResourceLimitExceeded") => OutcomeFilter::OutOfResources,
        Some("UserCodeException") => OutcomeFilter::Exceptions,
        Some(other) => {
            let shown: String = other.chars().take(40).collect();
            let message = format!(
                "Filter.RetCode: {shown:?} is not allowed; is0, not0, TimeLimitExceeded, ResourceLimitExceeded and \
                 UserCodeException are"
            );
            return Err(error::rejected(Rejected::Result, message));
        }
    })
}

fn order_by(given: Option<&str>) -> Result<SortKey, Error> {
    Ok(match given {
        None | Some("" | "start_time") => SortKey::StartTime,
        Some("duration") => SortKey::Duration,
        Some("mem_usage") => SortKey::MemUsage,
        Some("function_name") => SortKey::FunctionName,
        Some(other) => {
            let message = format!(
                "{other:?} is not allowed; start_time, duration, mem_usage and function_name are"
            );
            return Err(error::wire_field("OrderBy", message));
        }
    })
}

fn show(row: LogRow) -> FunctionLog {
    let failed = row.status != 200;
    FunctionLog {
        function_name: row.function,
        ret_msg: row.answer,
        request_id: row.request,
        start_time: clock::format(row.started),
        // 0 is success; any number except 0, 2 and 3 is a failure.
        ret_code: if failed { row.status.into() } else { 0 },
        invoke_finished: 1,
        duration: row.duration_us as f64 / 1000.0,
        bill_duration: row.billed_ms as i64,
        mem_usage: row.memory_peak as i64,
        log: row.log,
        level: if failed { "ERROR" } else { "INFO" }.into(),
        source: "scf".into(),
        retry_num: row.retry.into(),
    }
}
