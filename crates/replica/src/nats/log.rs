//! A log: a subject of a stream, and a small message in another stream that says who the log is and how far it was trimmed.

use std::fmt;

use async_nats::jetstream;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::context::{Context, PublishError, PublishErrorKind};
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::{Info, LastRawMessageErrorKind, Stream};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::log::{AppendError, Entry, Log, LogError, LogIdentity, Position, Usage};
use crate::nats::layout::Place;
use crate::record::{Header, WriterId};
use crate::time::Time;

/// Records that are fetched ahead.
const FETCH: i64 = 100;
/// Attempts to change the state while others change it, too.
const ATTEMPTS: usize = 20;

/// JetStream's error codes for a stream without a leader: a repetition may succeed.
const TRANSIENT: [ErrorCode; 2] = [
    ErrorCode::CLUSTER_NOT_AVAILABLE,
    ErrorCode::CLUSTER_NOT_LEADER,
];
/// JetStream's error codes for a limit of the account or the disk.
const NO_SPACE: [ErrorCode; 3] = [
    ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
    ErrorCode::INSUFFICIENT_RESOURCES,
    ErrorCode::STORAGE_RESOURCES_EXCEEDED,
];

/// A log on JetStream. Clones are the same log.
#[derive(Clone)]
pub struct NatsLog {
    context: Context,
    stream: Stream,
    states: Stream,
    place: Place,
}

impl fmt::Debug for NatsLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsLog")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// The state of a log.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    /// Drawn when the log was made.
    id: String,
    /// The last position that was dropped.
    trimmed: u64,
}

impl NatsLog {
    /// Opens a log, and gives it an id if it has none.
    pub(crate) async fn open(
        context: Context,
        stream: Stream,
        states: Stream,
        place: Place,
    ) -> Result<Self, LogError> {
        let log = Self {
            context,
            stream,
            states,
            place,
        };
        if log.state().await?.is_none() {
            let id = WriterId::random().map_err(unavailable)?;
            let state = State {
                id: format!("{id:?}"),
                trimmed: 0,
            };
            // A later writer finds the id of the first.
            log.change_state(&state, 0).await?;
        }
        Ok(log)
    }

    async fn info(&self) -> Result<Info, LogError> {
        self.stream.get_info().await.map_err(unavailable)
    }

    /// Reads the state as a server has it, and its sequence.
    async fn state(&self) -> Result<Option<(State, u64)>, LogError> {
        let Some(message) = last(&self.states, &self.place.state).await? else {
            return Ok(None);
        };
        let state = serde_json::from_slice(&message.payload).map_err(|error| {
            LogError::Unreadable(format!(
                "the state of the log {} cannot be read: {error}",
                self.place.records
            ))
        })?;
        Ok(Some((state, message.sequence)))
    }

    /// Writes the state if it is still the one with a sequence, and returns whether it was.
    async fn change_state(&self, state: &State, sequence: u64) -> Result<bool, LogError> {
        let message = PublishMessage::build()
            .payload(serde_json::to_vec(state).map_err(unavailable)?.into())
            .expected_last_subject_sequence(sequence);
        let sent = self
            .context
            .send_publish(self.place.state.clone(), message)
            .await;
        match sent.map_err(unavailable)?.await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(false),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Changes the state, and returns the new one. A server may answer a read from before, so only the write proves what stands.
    async fn update_state(&self, change: impl Fn(&mut State)) -> Result<State, LogError> {
        for _ in 0..ATTEMPTS {
            let (mut state, sequence) = self.state().await?.ok_or_else(|| {
                LogError::Unreadable(format!(
                    "the log {} has lost its state: its streams were made anew, or their messages were deleted. Restore a backup",
                    self.place.records
                ))
            })?;
            change(&mut state);
            if self.change_state(&state, sequence).await? {
                return Ok(state);
            }
        }
        Err(unavailable("its state is changed by many at once"))
    }
}

#[async_trait]
impl Log for NatsLog {
    async fn append(&self, record: Bytes) -> Result<Position, AppendError> {
        let mut message = PublishMessage::build().payload(record.clone());
        if let Ok(Header { writer, number, .. }) = Header::decode(&mut record.clone()) {
            message = message.message_id(format!("{}-{writer:?}-{number}", self.place.records));
        }
        let sent = self
            .context
            .send_publish(self.place.records.clone(), message)
            .await;
        match sent.map_err(refused_or_unknown)?.await {
            Ok(stored) => Ok(Position(stored.sequence)),
            Err(error) => Err(refused_or_unknown(error)),
        }
    }

    async fn follow(
        &self,
        after: Position,
    ) -> Result<BoxStream<'static, Result<Entry, LogError>>, LogError> {
        let config = pull::OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: after.0 + 1,
            },
            filter_subject: self.place.records.clone(),
            max_batch: FETCH,
            ..pull::OrderedConfig::default()
        };
        let consumer = self
            .stream
            .create_consumer(config)
            .await
            .map_err(unavailable)?;
        let messages = consumer.messages().await.map_err(unavailable)?;
        let entries = messages.map(|message| {
            let message = message.map_err(unavailable)?;
            let info = message.info().map_err(unavailable)?;
            Ok(Entry {
                position: Position(info.stream_sequence),
                stored: Time((info.published.unix_timestamp_nanos() / 1000) as u64),
                record: message.message.payload,
            })
        });
        Ok(entries.boxed())
    }

    async fn trim(&self, through: Position) -> Result<(), LogError> {
        // Said before it is done, so that a reader which misses a record finds out.
        self.update_state(|state| state.trimmed = state.trimmed.max(through.0))
            .await?;
        let purge = self.stream.purge().filter(self.place.records.clone());
        purge.sequence(through.0 + 1).await.map_err(unavailable)?;
        Ok(())
    }

    async fn trimmed(&self) -> Result<Position, LogError> {
        let state = self.update_state(|_| {}).await?;
        Ok(Position(state.trimmed))
    }

    async fn latest(&self) -> Result<Position, LogError> {
        match last(&self.stream, &self.place.records).await? {
            Some(message) => Ok(Position(message.sequence)),
            None => {
                let state = self.state().await?;
                Ok(Position(state.map_or(0, |(state, _)| state.trimmed)))
            }
        }
    }

    async fn usage(&self) -> Result<Usage, LogError> {
        let Info { config, state, .. } = self.info().await?;
        Ok(Usage {
            bytes: state.bytes,
            limit: u64::try_from(config.max_bytes).unwrap_or(u64::MAX),
        })
    }

    async fn identity(&self) -> Result<LogIdentity, LogError> {
        let created = self.info().await?.created;
        let state = self.state().await?;
        let id = state.map_or_else(|| "without id".to_owned(), |(state, _)| state.id);
        Ok(LogIdentity(format!(
            "{} of {created}, {id}",
            self.place.records
        )))
    }
}

/// Returns the last message of a subject, as a server has it.
async fn last(stream: &Stream, subject: &str) -> Result<Option<StreamMessage>, LogError> {
    match stream.get_last_raw_message_by_subject(subject).await {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(unavailable(error)),
    }
}

fn unavailable(error: impl fmt::Display) -> LogError {
    LogError::Unavailable(error.to_string())
}

/// An answer of the server that names an error is a refusal; no answer, or none of the stream's leader, is not.
fn refused_or_unknown(error: PublishError) -> AppendError {
    let answered = std::error::Error::source(&error)
        .and_then(|source| source.downcast_ref::<jetstream::Error>());
    let Some(answered) = answered else {
        let reason = error.to_string();
        return match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => AppendError::Refused(reason),
            _ => AppendError::Unknown(reason),
        };
    };
    let (code, reason) = (answered.error_code(), answered.to_string());
    if TRANSIENT.contains(&code) {
        AppendError::Unknown(reason)
    } else if NO_SPACE.contains(&code) || reason.contains("maximum bytes") {
        AppendError::Full(reason)
    } else {
        AppendError::Refused(reason)
    }
}
