//! Asynchronous events: retry settings, status and cancellation.

mod retries;

use control::async_events::{RequestStatus, event_id, unknown};
use dispatch::Time;
use events::{EventQuery, EventRow, EventState};
use model::{Field, FunctionName, RequestId};
use scf::action::{
    GetAsyncEventStatus, GetFunctionEventInvokeConfig, GetRequestStatus, ListAsyncEvents,
    TerminateAsyncEvent, UpdateFunctionEventInvokeConfig,
};
use scf::types as t;
use scf::{Action, Error};
use telemetry::LogRow;

use super::functions::{find, key, qualified};
use super::logs::time;
use super::page::descending;
use super::{Caller, Gateway, Serve, error};

const LIMIT_DEFAULT: i64 = 20;
/// Source: SCF's bounds of a page.
const LIMIT_MAX: i64 = 100;
/// The status code of a running event. Source: SCF's list of function status codes.
const RUNNING: i64 = 202;

impl Serve for GetFunctionEventInvokeConfig {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::GetFunctionEventInvokeConfigRequest,
    ) -> Result<t::GetFunctionEventInvokeConfigResponse, Error> {
        let space = request.namespace.as_deref();
        let stored = find(gateway, caller, &request.function_name, space)?;
        qualified(&stored.value, request.qualifier.as_deref())?;
        let config = gateway.control.event_config(&stored.value);
        Ok(t::GetFunctionEventInvokeConfigResponse {
            async_trigger_config: t::AsyncTriggerConfig {
                retry_config: Some(retries::shown(&config, gateway.runner.retry_waits())),
                msg_ttl: Some(config.ttl_s.into()),
            },
        })
    }
}

impl Serve for UpdateFunctionEventInvokeConfig {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::UpdateFunctionEventInvokeConfigRequest,
    ) -> Result<t::Empty, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        let given = request.async_trigger_config;
        let retries = given.retry_config.unwrap_or_default();
        let wrong =
            |what: String| error::control(control::Error::invalid(Field::EventConfig, what));
        if given.msg_ttl.is_none() && retries.is_empty() {
            let what = "it is empty; set MsgTTL, or RetryConfig with a RetryNum";
            return Err(wrong(what.to_owned()));
        }
        let retry_num = retries::read(&retries, gateway.runner.retry_waits()).map_err(wrong)?;
        let updated = gateway
            .control
            .update_event_config(&key, retry_num, given.msg_ttl);
        updated.await.map_err(error::control)?;
        Ok(t::Empty {})
    }
}

impl Serve for ListAsyncEvents {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::ListAsyncEventsRequest,
    ) -> Result<t::ListAsyncEventsResponse, Error> {
        let space = request.namespace.as_deref();
        let stored = find(gateway, caller, &request.function_name, space)?;
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let states = request.status.unwrap_or_default();
        let states: Result<Vec<_>, _> = states.iter().map(|status| states_of(status)).collect();
        let accepted = interval("StartTimeInterval", request.start_time_interval.as_ref())?;
        let (offset, limit) = page(request.offset, request.limit)?;
        let query = EventQuery {
            account: caller.account,
            function: Some(stored.value.key.clone()),
            qualifier: given(request.qualifier),
            sources: request.invoke_type.unwrap_or_default(),
            states: states?.concat(),
            request: given(request.invoke_request_id)
                .map(|id| event_id(&id))
                .transpose()
                .map_err(error::control)?,
            accepted: accepted.unwrap_or((Time(0), Time(i64::MAX as u64))),
            ended: interval("EndTimeInterval", request.end_time_interval.as_ref())?,
            by_end: match request.orderby.as_deref() {
                None | Some("" | "StartTime") => false,
                Some("EndTime") => true,
                Some(other) => {
                    let message = format!("{other:?} is not allowed; StartTime and EndTime are");
                    return Err(error::wire_field("Orderby", message));
                }
            },
            descending: descending(request.order.as_deref())?,
            offset,
            limit,
        };
        let found = gateway.control.list_events(query).await;
        let found = found.map_err(error::control)?;
        Ok(t::ListAsyncEventsResponse {
            total_count: found.total as i64,
            event_list: found.rows.iter().map(show).collect(),
        })
    }
}

impl Serve for GetAsyncEventStatus {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::GetAsyncEventStatusRequest,
    ) -> Result<t::GetAsyncEventStatusResponse, Error> {
        let id = &request.invoke_request_id;
        let row = event(gateway, caller, id).await?;
        if !gateway.may(caller, Self::NAME, &row.function) {
            return Err(error::control(unknown(id)));
        }
        let status = match row.state {
            EventState::Waiting => RUNNING,
            _ => row.status.map_or(0, i64::from),
        };
        Ok(t::GetAsyncEventStatusResponse {
            result: t::AsyncEventStatus {
                status: status_of(row.state).into(),
                status_code: status,
                invoke_request_id: row.request.to_string(),
            },
        })
    }
}

impl Serve for GetRequestStatus {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::GetRequestStatusRequest,
    ) -> Result<t::GetRequestStatusResponse, Error> {
        let space = request.namespace.as_deref();
        let stored = find(gateway, caller, &request.function_name, space)?;
        let key = &stored.value.key;
        let id = RequestId::parse(&request.function_request_id).map_err(error::invalid)?;
        let to = time("EndTime", &request.end_time)?.map(|to| to + 999);
        let from = time("StartTime", &request.start_time)?;
        if let (Some(from), Some(to)) = (from, to)
            && from > to
        {
            let message = "the end must follow the start";
            return Err(error::wire_field("StartTime and EndTime", message));
        }
        let found = gateway.control.request_status(key, id, from, to).await;
        let found = found.map_err(error::control)?;
        let data: Vec<_> = found.into_iter().map(request_status).collect();
        Ok(t::GetRequestStatusResponse {
            total_count: data.len() as i64,
            data,
        })
    }
}

impl Serve for TerminateAsyncEvent {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::TerminateAsyncEventRequest,
    ) -> Result<t::Empty, Error> {
        let space = request.namespace.as_deref();
        let stored = find(gateway, caller, &request.function_name, space)?;
        let gracefully = request.grace_shutdown.unwrap_or(false);
        let (key, id) = (&stored.value.key, &request.invoke_request_id);
        let ended = gateway.control.terminate_event(key, id, gracefully).await;
        ended.map_err(error::control)?;
        Ok(t::Empty {})
    }
}

/// Finds an event of the caller's account by its id.
pub(super) async fn event(
    gateway: &Gateway,
    caller: Caller<'_>,
    id: &str,
) -> Result<EventRow, Error> {
    let found = gateway.control.event(caller.account, id).await;
    found.map_err(error::control)
}

fn page(offset: Option<i64>, limit: Option<i64>) -> Result<(u32, u32), Error> {
    let (offset, limit) = (offset.unwrap_or(0), limit.unwrap_or(LIMIT_DEFAULT));
    let Ok(offset) = u32::try_from(offset) else {
        let message = format!("{offset} is not allowed; 0 and more are");
        return Err(error::wire_field("Offset", message));
    };
    if !(1..=LIMIT_MAX).contains(&limit) {
        let message = format!("{limit} is not allowed; 1 to {LIMIT_MAX} are");
        return Err(error::wire_field("Limit", message));
    }
    Ok((offset, limit as u32))
}

/// Returns the API's name of a state.
pub(super) fn status_of(state: EventState) -> &'static str {
    match state {
        EventState::Waiting => "RUNNING",
        EventState::Finished => "FINISHED",
        EventState::Aborted => "ABORTED",
        EventState::Undelivered | EventState::Dead | EventState::Failed => "FAILED",
    }
}

fn states_of(status: &str) -> Result<Vec<EventState>, Error> {
    let states: Vec<_> = EventState::ALL
        .iter()
        .filter(|state| status_of(**state) == status)
        .copied()
        .collect();
    if states.is_empty() {
        let shown: String = status.chars().take(40).collect();
        let message =
            format!("{shown:?} is not allowed; RUNNING, FINISHED, ABORTED and FAILED are");
        return Err(error::wire_field("Status", message));
    }
    Ok(states)
}

fn interval(field: &str, given: Option<&t::TimeInterval>) -> Result<Option<(Time, Time)>, Error> {
    let Some(given) = given else {
        return Ok(None);
    };
    let from = time(field, &given.start)?.unwrap_or(0);
    let to = time(field, &given.end)?.map_or(i64::MAX / 1000, |to| to + 999);
    let time = |ms: i64| Time(u64::try_from(ms).unwrap_or(0) * 1000);
    Ok(Some((time(from), Time(time(to).0 + 999))))
}

fn show(row: &EventRow) -> t::AsyncEvent {
    t::AsyncEvent {
        invoke_request_id: row.request.to_string(),
        invoke_type: row.source.clone(),
        qualifier: row.qualifier.clone(),
        status: status_of(row.state).into(),
        start_time: clock::format_us(row.accepted.0),
        end_time: row
            .ended
            .map(|ended| clock::format_us(ended.0))
            .unwrap_or_default(),
    }
}

fn request_status(found: RequestStatus) -> t::RequestStatus {
    match found {
        RequestStatus::Waiting(row) => waiting(&row),
        RequestStatus::Ended(row) => ended(row),
    }
}

/// Shows an event that has not completed.
fn waiting(row: &EventRow) -> t::RequestStatus {
    t::RequestStatus {
        function_name: row.function.name.to_string(),
        request_id: row.request.to_string(),
        start_time: clock::format((row.accepted.0 / 1000) as i64),
        ret_code: 1,
        retry_num: (row.failures.user + row.failures.system).into(),
        ..t::RequestStatus::default()
    }
}

fn ended(row: LogRow) -> t::RequestStatus {
    t::RequestStatus {
        function_name: row.function,
        ret_msg: row.answer,
        request_id: row.request,
        start_time: clock::format(row.started),
        ret_code: if row.status == 200 { 0 } else { -1 },
        duration: row.duration_us as f64 / 1000.0,
        mem_usage: row.memory_peak as f64 / f64::from(1 << 20),
        retry_num: row.retry.into(),
    }
}

/// Parses a function name.
pub(super) fn name(text: &str) -> Result<FunctionName, Error> {
    FunctionName::parse(text).map_err(error::invalid)
}
