//! A log on NATS JetStream: one stream, whose messages are the records.
//!
//! A record is durable once JetStream acknowledges it, provided that the servers sync always (`jetstream { sync_interval: always }`) and
//! that the stream has three replicas. Reads of a stream are not linearizable: a leader that has lost its quorum still answers for some
//! seconds. So a read that shows less than the applied records proves nothing.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::context::{Context, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, StorageType, Stream};
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{Client, ConnectOptions};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use crate::log::{AppendError, Entry, Log, LogError, LogIdentity, Position};
use crate::record::Header;
use crate::time::Time;

/// How long an answer of a server is waited for. It is longer than an election mostly takes.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often a connection is checked. The client's own default of a minute would keep a dead connection for two.
const PING: Duration = Duration::from_secs(1);
/// The longest pause between two attempts to connect, so that a server that returns is used within two seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long JetStream recognizes a repeated record. Later duplicates are dropped when they are applied.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(2);
/// Records that are fetched ahead.
const FETCH: i64 = 100;

/// JetStream's error codes for a stream without a leader: a repetition may succeed.
const TRANSIENT: [ErrorCode; 2] = [
    ErrorCode::CLUSTER_NOT_AVAILABLE,
    ErrorCode::CLUSTER_NOT_LEADER,
];

/// The stream of a log.
#[derive(Clone, Debug)]
pub struct NatsConfig {
    /// Name of the stream.
    pub stream: String,
    /// Subject of its messages.
    pub subject: String,
    /// Servers that store each record: 3, or 1 for trying it out.
    pub replicas: usize,
    /// Maximum size of the stream (bytes). A full stream refuses records; none is dropped for it.
    pub max_bytes: u64,
}

/// A log on a stream of JetStream. Clones are the same log.
#[derive(Clone)]
pub struct NatsLog {
    context: Context,
    stream: Stream,
    subject: String,
}

impl fmt::Debug for NatsLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsLog")
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

/// Adds the settings on which a log relies to the options of a connection.
pub fn options(options: ConnectOptions) -> ConnectOptions {
    let pause = |attempt: usize| {
        let doubled = Duration::from_millis(50).saturating_mul(1 << attempt.min(10));
        doubled.min(LONGEST_PAUSE)
    };
    options
        .ping_interval(PING)
        .connection_timeout(TIMEOUT)
        .request_timeout(Some(TIMEOUT))
        .reconnect_delay_callback(pause)
}

impl NatsLog {
    /// Opens the log's stream, and makes it if it is not there.
    ///
    /// # Errors
    /// Fails if the servers cannot be reached, or refuse the stream.
    pub async fn open(client: Client, config: NatsConfig) -> Result<Self, LogError> {
        let mut context = jetstream::new(client);
        context.set_timeout(TIMEOUT);
        let stream = context
            .get_or_create_stream(Config {
                name: config.stream,
                subjects: vec![config.subject.clone()],
                num_replicas: config.replicas,
                max_bytes: i64::try_from(config.max_bytes).unwrap_or(i64::MAX),
                storage: StorageType::File,
                discard: DiscardPolicy::New,
                duplicate_window: DUPLICATE_WINDOW,
                deny_delete: true,
                ..Config::default()
            })
            .await
            .map_err(unavailable)?;
        Ok(Self {
            context,
            stream,
            subject: config.subject,
        })
    }

    async fn info(&self) -> Result<Info, LogError> {
        self.stream.get_info().await.map_err(unavailable)
    }
}

#[async_trait]
impl Log for NatsLog {
    async fn append(&self, record: Bytes) -> Result<Position, AppendError> {
        let mut message = PublishMessage::build().payload(record.clone());
        if let Ok(Header { writer, number, .. }) = Header::decode(&mut record.clone()) {
            message = message.message_id(format!("{writer:?}-{number}"));
        }
        let sent = self
            .context
            .send_publish(self.subject.clone(), message)
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
        let first = Position(self.info().await?.state.first_sequence);
        if first.0 > after.0 + 1 {
            return Err(LogError::Trimmed { after, first });
        }
        let config = pull::OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: after.0 + 1,
            },
            filter_subject: self.subject.clone(),
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

    async fn trim(&self, before: Position) -> Result<(), LogError> {
        let purge = self.stream.purge().sequence(before.0);
        purge.await.map_err(unavailable)?;
        Ok(())
    }

    async fn latest(&self) -> Result<Position, LogError> {
        Ok(Position(self.info().await?.state.last_sequence))
    }

    async fn identity(&self) -> Result<LogIdentity, LogError> {
        let info = self.info().await?;
        Ok(LogIdentity(format!(
            "{} of {}",
            info.config.name, info.created
        )))
    }
}

fn unavailable(error: impl fmt::Display) -> LogError {
    LogError::Unavailable(error.to_string())
}

/// An answer of the server that names an error is a refusal; no answer, or none of the stream's leader, is not.
fn refused_or_unknown(error: PublishError) -> AppendError {
    let reason = error.to_string();
    let answered = std::error::Error::source(&error)
        .and_then(|source| source.downcast_ref::<jetstream::Error>());
    match (error.kind(), answered) {
        (PublishErrorKind::MaxPayloadExceeded, _) => AppendError::Refused(reason),
        (PublishErrorKind::Other, Some(answered))
            if !TRANSIENT.contains(&answered.error_code()) =>
        {
            AppendError::Refused(reason)
        }
        _ => AppendError::Unknown(reason),
    }
}
