//! The operator's actions on queued events, dead letters and usage.

use std::collections::BTreeMap;

use ::events::usage::{UsageQuery, UsageTotals};
use ::events::{EventQuery, EventRow, EventState, QueueKey};
use ::operator::{
    EventCount, EventInfo, EventPage, ListEvents, ListUsage, PurgeEvents, ReplayEvents, Selection,
    ShowEvent, Usage, UsageList, UsageRequest,
};
use engine::runner::ControlOutcome;
use model::{FunctionKey, Version};
use scf::Error;

use super::super::error::{self, Rejected};
use super::super::invoke::namespace;
use super::super::logs::time;
use super::super::{Caller, Gateway, Serve, events};

const LIMIT_DEFAULT: u32 = 100;
const LIMIT_MAX: u32 = 10_000;
/// Batch size of bulk operations on events.
const BATCH: u32 = 1000;
const DAYS_DEFAULT: i64 = 30;
const HOUR_MS: i64 = 3_600_000;

impl Serve for ListEvents {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: Selection,
    ) -> Result<EventPage, Error> {
        let kept = [
            EventState::Waiting,
            EventState::Undelivered,
            EventState::Dead,
        ];
        let limit = request.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
        let query = EventQuery {
            offset: request.offset.unwrap_or(0),
            limit,
            ..selected(caller, &request, &kept)?
        };
        let found = gateway.queue.find(query).await.map_err(error::queue)?;
        Ok(EventPage {
            total_count: found.total,
            events: found
                .rows
                .into_iter()
                .map(|row| show(gateway, row))
                .collect(),
        })
    }
}

impl Serve for ShowEvent {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: Selection,
    ) -> Result<EventInfo, Error> {
        let id = request.request_id.as_deref().unwrap_or_default();
        let row = events::event(gateway, caller, id).await?;
        Ok(show(gateway, row))
    }
}

impl Serve for ReplayEvents {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: Selection,
    ) -> Result<EventCount, Error> {
        for_each(gateway, caller, &request, EventAction::Replay).await
    }
}

impl Serve for PurgeEvents {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: Selection,
    ) -> Result<EventCount, Error> {
        for_each(gateway, caller, &request, EventAction::Purge).await
    }
}

impl Serve for ListUsage {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: UsageRequest,
    ) -> Result<UsageList, Error> {
        let name = request.function_name.as_deref();
        let function = function(caller, name, request.namespace.as_deref())?;
        let to = time("EndTime", &request.end_time)?.unwrap_or_else(clock::now_ms);
        let usual = to - DAYS_DEFAULT * 24 * HOUR_MS;
        let from = time("StartTime", &request.start_time)?.unwrap_or(usual);
        let query = UsageQuery {
            account: caller.account,
            function,
            from: from.div_euclid(HOUR_MS),
            to: to.div_euclid(HOUR_MS),
        };
        // Include everything that completed before the request.
        gateway.queue.flush().await.map_err(error::queue)?;
        let entries = gateway.queue.usage(query).await.map_err(error::queue)?;
        let mut sums: BTreeMap<(i64, FunctionKey, Version), UsageTotals> = BTreeMap::new();
        for (account, totals) in entries {
            let hour = if request.by_hour { account.hour } else { 0 };
            let sum = sums
                .entry((hour, account.function, account.version))
                .or_default();
            sum.add(totals);
        }
        let show =
            |((hour, function, version), totals): ((i64, FunctionKey, Version), UsageTotals)| {
                let shown = clock::format(hour * HOUR_MS);
                Usage {
                    function_name: function.name.to_string(),
                    namespace: function.namespace.to_string(),
                    version: version.to_string(),
                    hour: if request.by_hour {
                        shown
                    } else {
                        String::new()
                    },
                    invocations: totals.invocations,
                    errors: totals.errors,
                    throttles: totals.throttles,
                    billed_ms: totals.billed_ms,
                    gb_seconds: totals.gb_seconds(),
                    out_bytes: totals.out_bytes,
                }
            };
        Ok(UsageList {
            usage: sums.into_iter().map(show).collect(),
        })
    }
}

/// A bulk operation on events.
#[derive(Clone, Copy)]
enum EventAction {
    Replay,
    Purge,
}

impl EventAction {
    /// Returns the states of events to which the operation applies.
    const fn states(self) -> &'static [EventState] {
        match self {
            Self::Replay => &[EventState::Undelivered, EventState::Dead],
            Self::Purge => &[
                EventState::Waiting,
                EventState::Undelivered,
                EventState::Dead,
            ],
        }
    }

    async fn run(self, gateway: &Gateway, row: &EventRow) -> Result<ControlOutcome, Error> {
        let runner = &gateway.runner;
        let taken = match (self, row.state) {
            (Self::Replay, _) => runner.replay(row).await,
            (Self::Purge, EventState::Waiting) => runner.terminate(row, false).await,
            (Self::Purge, _) => runner.discard(row).await,
        };
        taken.map_err(error::queue)
    }
}

/// Applies an operation to all selected events. Returns their number.
async fn for_each(
    gateway: &Gateway,
    caller: Caller<'_>,
    selection: &Selection,
    action: EventAction,
) -> Result<EventCount, Error> {
    if let Some(id) = &selection.request_id {
        let row = events::event(gateway, caller, id).await?;
        let state = row.state;
        return match action.run(gateway, &row).await? {
            ControlOutcome::Applied => Ok(EventCount { count: 1 }),
            ControlOutcome::TooLate => {
                let message = format!("RequestId: the event is {}", state.as_str());
                Err(error::rejected(Rejected::EventEnded, message))
            }
        };
    }
    if selection.function_name.is_none() && !selection.all {
        let message = "RequestId: it is missing; a RequestId, a FunctionName, or All is needed";
        return Err(error::rejected(Rejected::Missing, message));
    }
    let usual = [EventState::Undelivered, EventState::Dead];
    let mut query = selected(caller, selection, &usual)?;
    if let Some(state) = query
        .states
        .iter()
        .find(|state| !action.states().contains(state))
    {
        let allowed: Vec<_> = action.states().iter().map(|state| state.as_str()).collect();
        let message = format!(
            "{:?} is not allowed here; {} are, since only the results of events in other states are stored",
            state.as_str(),
            allowed.join(", ")
        );
        return Err(error::wire_field("State", message));
    }
    query.limit = BATCH;
    // A replayed event counts as new, so this bound keeps one that fails again from being replayed twice.
    query.accepted.1 = gateway.queue.clock().now();
    let mut count = 0;
    loop {
        let found = gateway
            .queue
            .find(query.clone())
            .await
            .map_err(error::queue)?;
        if found.rows.is_empty() {
            return Ok(EventCount { count });
        }
        for row in found.rows {
            match action.run(gateway, &row).await? {
                ControlOutcome::Applied => count += 1,
                // Skip an event whose state has changed.
                ControlOutcome::TooLate => query.offset += 1,
            }
        }
    }
}

fn selected(
    caller: Caller<'_>,
    selection: &Selection,
    usual: &[EventState],
) -> Result<EventQuery, Error> {
    let states = match selection.state.as_deref() {
        None | Some("") => usual.to_vec(),
        Some(given) => {
            let state = EventState::ALL.iter().find(|state| state.as_str() == given);
            let state = state.ok_or_else(|| {
                let known: Vec<_> = EventState::ALL.iter().map(|state| state.as_str()).collect();
                let shown: String = given.chars().take(40).collect();
                let message = format!("{shown:?} is not allowed; {} are", known.join(", "));
                error::wire_field("State", message)
            })?;
            vec![*state]
        }
    };
    let name = selection.function_name.as_deref();
    Ok(EventQuery {
        function: function(caller, name, selection.namespace.as_deref())?,
        ..EventQuery::all(caller.account, states, LIMIT_DEFAULT)
    })
}

fn function(
    caller: Caller<'_>,
    name: Option<&str>,
    space: Option<&str>,
) -> Result<Option<FunctionKey>, Error> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    Ok(Some(FunctionKey {
        account: caller.account,
        namespace: namespace(space)?,
        name: events::name(name)?,
    }))
}

fn show(gateway: &Gateway, row: EventRow) -> EventInfo {
    let running = row.state == EventState::Waiting && gateway.runner.runs(&row);
    let failed_permanently = matches!(
        row.state,
        EventState::Undelivered | EventState::Dead | EventState::Failed
    );
    let queued = matches!(row.state, EventState::Waiting | EventState::Undelivered);
    EventInfo {
        state: if running {
            "running"
        } else {
            row.state.as_str()
        }
        .to_owned(),
        request_id: row.request.to_string(),
        function_name: row.function.name.to_string(),
        namespace: row.function.namespace.to_string(),
        qualifier: row.qualifier,
        source: row.source,
        accepted_time: clock::format_us(row.accepted.0),
        due_time: if queued {
            clock::format_us(row.due.0)
        } else {
            String::new()
        },
        end_time: row
            .ended
            .map(|ended| clock::format_us(ended.0))
            .unwrap_or_default(),
        failures: row.failures.user + row.failures.system + u32::from(failed_permanently),
        status_code: row.status.unwrap_or_default(),
        message: row.message.unwrap_or_default(),
        bytes: row.bytes,
        target: match &row.queue_key {
            QueueKey::DeadLetters(_, target) => format!("{} {}", target.kind(), target.name()),
            QueueKey::Function(_) => String::new(),
        },
        event: row.event,
    }
}
