//! Asynchronous events: retry settings, status and cancellation.

use engine::runner::ControlOutcome;
use events::{EventPage, EventQuery, EventRow, EventState, QueueError};
use model::{AccountId, EventConfig, Field, Function, FunctionKey, RequestId, Timestamp};
use telemetry::{LogQuery, LogRow, OutcomeFilter, SortKey, SortOrder};

use crate::{Control, Error, Limit, Reason};

/// How far ahead of the clock the log is searched, ms: the clock may have been set back.
const DAY_MS: i64 = 86_400_000;

/// An invocation of a function.
#[derive(Debug)]
pub enum RequestStatus {
    /// An event that waits or runs, also between retries.
    Waiting(EventRow),
    /// An invocation that has ended.
    Ended(LogRow),
}

impl Control {
    /// Returns a function's settings for events.
    pub fn event_config(&self, function: &Function) -> EventConfig {
        let default = || EventConfig::default_for(&self.limits);
        function.events.unwrap_or_else(default)
    }

    /// Changes a function's settings for events. `None` keeps a setting. `max_age` is in seconds.
    ///
    /// # Errors
    /// The function does not exist, or a value is not allowed.
    pub async fn update_event_config(
        &self,
        key: &FunctionKey,
        retries: Option<i64>,
        max_age: Option<i64>,
    ) -> Result<(), Error> {
        self.change_in_any_state(key, |function| {
            let old = self.event_config(function);
            let config = EventConfig::parse(
                retries.unwrap_or(old.retries.into()),
                max_age.unwrap_or(old.ttl_s.into()),
                &self.limits,
            );
            function.events = Some(config?);
            function.modified = clock::now_ms();
            Ok(())
        })
        .await
    }

    /// Lists events.
    ///
    /// # Errors
    /// The queue fails.
    pub async fn list_events(&self, query: EventQuery) -> Result<EventPage, Error> {
        self.queue.find(query).await.map_err(Error::queue)
    }

    /// Finds an event of an account.
    ///
    /// # Errors
    /// The id is invalid, or the account has no such event.
    pub async fn event(&self, account: AccountId, id: &str) -> Result<EventRow, Error> {
        let found = self.queue.event(event_id(id)?).await;
        let found = found.map_err(Error::queue)?;
        let own = found.filter(|row| row.function.account == account);
        own.ok_or_else(|| unknown(id))
    }

    /// Ends an event of a function: it does not run again. A running attempt is killed, unless it may end gracefully.
    ///
    /// # Errors
    /// The function has no such event, or it has ended.
    pub async fn terminate_event(
        &self,
        function: &FunctionKey,
        id: &str,
        gracefully: bool,
    ) -> Result<(), Error> {
        let row = self.event(function.account, id).await?;
        if row.function != *function {
            return Err(unknown(id));
        }
        let taken = self.runner.terminate(&row, gracefully).await;
        match taken.map_err(Error::queue)? {
            ControlOutcome::Applied => Ok(()),
            ControlOutcome::TooLate => {
                let message = format!("the event has ended ({})", row.state.as_str());
                Err(Error::of(Field::Event, Reason::EventEnded, message))
            }
        }
    }

    /// Finds an invocation of a function. One that has ended is found if it started between `from` and `to`.
    ///
    /// # Errors
    /// The queue or the log store fails.
    pub async fn request_status(
        &self,
        key: &FunctionKey,
        request: RequestId,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Result<Option<RequestStatus>, Error> {
        // An event that waits or runs, also between retries, has no log entry of its completion yet.
        let row = self.queue.event(request).await.map_err(Error::queue)?;
        let row = row.filter(|row| row.function == *key);
        if let Some(row) = row.filter(|row| row.state == EventState::Waiting) {
            return Ok(Some(RequestStatus::Waiting(row)));
        }
        let query = LogQuery {
            account: key.account,
            namespace: key.namespace.clone(),
            functions: Some(vec![key.name.clone()]),
            version: None,
            request: Some(request),
            from: 0,
            to: clock::now_ms() + DAY_MS,
            outcomes: OutcomeFilter::All,
            order_by: SortKey::StartTime,
            order: SortOrder::Descending,
            offset: 0,
            limit: 1,
        };
        let log = self.log.clone();
        let found = tokio::task::spawn_blocking(move || log.search(&query)).await;
        let found = found.map_err(|e| Error::internal(&e))?;
        let rows = found.map_err(|e| Error::internal(&e))?.rows;
        let mut within = rows.into_iter().filter(|row| {
            from.is_none_or(|from| row.started >= from) && to.is_none_or(|to| row.started <= to)
        });
        Ok(within.next().map(RequestStatus::Ended))
    }
}

/// Parses the id of an event.
///
/// # Errors
/// It is invalid.
pub fn event_id(text: &str) -> Result<RequestId, Error> {
    RequestId::parse(text).map_err(|error| Error::invalid_as(Field::Event, error))
}

/// Returns the error for an event that the caller cannot know.
pub fn unknown(id: &str) -> Error {
    let shown: String = id.chars().take(60).collect();
    let message =
        format!("there is no event {shown:?}; completed events are stored for up to three days");
    Error::of(Field::Event, Reason::EventMissing, message)
}

impl Error {
    /// Describes an error of the event queue.
    pub fn queue(error: QueueError) -> Self {
        let reason = match error {
            QueueError::Unavailable(_) => Reason::Internal,
            QueueError::Full { .. }
            | QueueError::Quota { .. }
            | QueueError::Busy
            | QueueError::AccountBusy => Reason::LimitReached(Limit::QueuedEvents),
        };
        Self::new(reason, error.to_string())
    }
}
