//! Opening the streams, and the logs in them.

use std::fmt;

use async_nats::Client;
use async_nats::jetstream::context::{
    Context, CreateStreamErrorKind, GetStreamErrorKind, UpdateStreamError,
};
use async_nats::jetstream::stream::{Config, Stream};
use async_nats::jetstream::{self, ErrorCode};
use thiserror::Error;

use crate::log::LogError;
use crate::nats::connection::TIMEOUT;
use crate::nats::layout::{Layout, Place, STATES, reconcile};
use crate::nats::log::NatsLog;

/// The answers of servers that have not found each other yet, or lack a leader.
const TRANSIENT: [ErrorCode; 7] = [
    ErrorCode::CLUSTER_INCOMPLETE,
    ErrorCode::CLUSTER_NO_PEERS,
    ErrorCode::CLUSTER_NOT_ACTIVE,
    ErrorCode::CLUSTER_NOT_ASSIGNED,
    ErrorCode::CLUSTER_NOT_AVAILABLE,
    ErrorCode::CLUSTER_NOT_LEADER,
    ErrorCode::STREAM_OFFLINE,
];

/// The streams of an installation. Clones are the same ones.
#[derive(Clone)]
pub struct NatsStreams {
    context: Context,
    layout: Layout,
    streams: Vec<Stream>,
}

impl fmt::Debug for NatsStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsStreams")
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

/// Why streams cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StreamError {
    /// The servers do not answer, or have no leader; trying again helps.
    #[error("the stream {stream} cannot be reached: {reason}")]
    Unavailable {
        /// The stream.
        stream: String,
        /// Why.
        reason: String,
    },
    /// The servers refuse it, or it is not as it must be.
    #[error("the stream {stream} cannot be used: {reason}")]
    Unsuitable {
        /// The stream.
        stream: String,
        /// Why, and what to do.
        reason: String,
    },
}

impl NatsStreams {
    /// Opens all streams. Makes those that are not there, and enlarges those that are smaller or have fewer replicas.
    ///
    /// # Errors
    /// Fails if the servers cannot be reached, refuse a stream, or have one that is not virga's.
    pub async fn open(client: Client, layout: Layout) -> Result<Self, StreamError> {
        let mut context = jetstream::new(client);
        context.set_timeout(TIMEOUT);
        let mut streams = Vec::new();
        for wanted in layout.streams() {
            streams.push(open(&context, &wanted).await?);
        }
        Ok(Self {
            context,
            layout,
            streams,
        })
    }

    /// Opens the log `cluster`.
    ///
    /// # Errors
    /// Fails if the servers cannot be reached.
    pub async fn cluster(&self) -> Result<NatsLog, LogError> {
        self.log(self.layout.cluster()).await
    }

    /// Opens the log of a shard, below [`SHARDS`](crate::nats::SHARDS).
    ///
    /// # Errors
    /// Fails if the servers cannot be reached.
    pub async fn shard(&self, shard: u16) -> Result<NatsLog, LogError> {
        self.log(self.layout.shard(shard)).await
    }

    async fn log(&self, place: Place) -> Result<NatsLog, LogError> {
        let (stream, states) = (&self.streams[place.stream], &self.streams[STATES]);
        NatsLog::open(self.context.clone(), stream.clone(), states.clone(), place).await
    }
}

async fn open(context: &Context, wanted: &Config) -> Result<Stream, StreamError> {
    let found = match context.get_stream(&wanted.name).await {
        Ok(found) => found,
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(answer)
                if answer.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                return create(context, wanted).await;
            }
            GetStreamErrorKind::JetStream(answer) => return Err(answered(wanted, &answer)),
            _ => return Err(unavailable(wanted, error)),
        },
    };
    let changed = reconcile(&found.cached_info().config, wanted).map_err(|reason| {
        StreamError::Unsuitable {
            stream: wanted.name.clone(),
            reason,
        }
    })?;
    if let Some(changed) = changed {
        let updated = context.update_stream(&changed).await;
        updated.map_err(|error| refused(wanted, error))?;
    }
    Ok(found)
}

/// Makes a stream. Another node may make it at the same time, with the same configuration.
async fn create(context: &Context, wanted: &Config) -> Result<Stream, StreamError> {
    match context.create_stream(wanted).await {
        Ok(_) => {}
        Err(error) => match error.kind() {
            CreateStreamErrorKind::JetStream(answer)
                if answer.error_code() == ErrorCode::STREAM_NAME_EXIST => {}
            CreateStreamErrorKind::JetStream(answer) => return Err(answered(wanted, &answer)),
            _ => return Err(unavailable(wanted, error)),
        },
    }
    let stream = context.get_stream(&wanted.name).await;
    stream.map_err(|error| unavailable(wanted, error))
}

fn refused(wanted: &Config, error: UpdateStreamError) -> StreamError {
    match error.kind() {
        CreateStreamErrorKind::JetStream(answer) => answered(wanted, &answer),
        _ => unavailable(wanted, error),
    }
}

fn answered(wanted: &Config, answer: &jetstream::Error) -> StreamError {
    if TRANSIENT.contains(&answer.error_code()) {
        return unavailable(wanted, answer);
    }
    StreamError::Unsuitable {
        stream: wanted.name.clone(),
        reason: answer.to_string(),
    }
}

fn unavailable(wanted: &Config, error: impl fmt::Display) -> StreamError {
    StreamError::Unavailable {
        stream: wanted.name.clone(),
        reason: error.to_string(),
    }
}
