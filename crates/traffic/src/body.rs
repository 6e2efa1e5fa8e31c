//! Request bodies: small ones in memory, larger ones spooled to disk until the caller is verified.
//!
//! A body beyond [`IN_MEMORY_MAX`] is written to an unnamed file and hashed meanwhile, on the blocking thread pool. Few
//! bodies are spooled at a time; accounts get fair shares of the slots. Bodies of unverified callers share one rate.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::connection::{Connection, Overloaded, Reservation};
use super::ledger::Medium;
use super::spooler::SpoolWriter;

/// Largest body kept in memory, in bytes.
pub const IN_MEMORY_MAX: usize = 64 << 10;
/// Largest body covered by the base cost of a connection, in bytes.
pub const UNCOUNTED_MAX: usize = 8 << 10;
/// Bytes hashed and written at a time.
const CHUNK: usize = 128 << 10;
/// Longest time for a whole body, however steadily it arrives.
const TIMEOUT: Duration = Duration::from_secs(600);

/// A body that has been received completely.
#[derive(Debug)]
pub enum ReceivedBody {
    /// A body in memory.
    Small(Bytes),
    /// A body on disk.
    Large(SpooledBody),
}

impl ReceivedBody {
    /// Returns the length in bytes.
    pub fn length(&self) -> usize {
        match self {
            Self::Small(body) => body.len(),
            Self::Large(spooled) => spooled.length,
        }
    }
}

/// A body on disk.
#[derive(Debug)]
pub struct SpooledBody {
    file: Arc<File>,
    /// Its length in bytes.
    pub length: usize,
    /// SHA-256 of the body.
    pub digest: [u8; 32],
    /// The reservation of disk space.
    _held: Reservation,
}

/// The reason why a body was not received completely.
#[derive(Debug, Error)]
pub enum BodyError {
    /// The body is longer than this many bytes.
    #[error("the request's body is over the limit of {0} bytes")]
    TooLong(usize),
    /// The connection ended before the body did.
    #[error("the request's body ended early or took too long")]
    Incomplete,
    /// The caller's share of memory or disk is used up.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// The body cannot be written to disk.
    #[error("failed to spool the request's body to disk: {0}")]
    Disk(#[from] io::Error),
}

/// A reader for a body that is being received.
pub struct BodyReader<B> {
    body: B,
    limit: usize,
    /// `None` where nothing is accounted, as in a test.
    connection: Option<Arc<Connection>>,
    first: Bytes,
    more: BytesMut,
    ended: bool,
}

/// Omits the bytes.
impl<B> fmt::Debug for BodyReader<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyReader")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl<B> BodyReader<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// Creates a reader of up to `limit` bytes.
    pub fn new(body: B, limit: usize, connection: Option<Arc<Connection>>) -> Self {
        Self {
            body,
            limit,
            connection,
            first: Bytes::new(),
            more: BytesMut::new(),
            ended: false,
        }
    }

    /// Buffers the bytes that have arrived already. Returns whether they are all of a small body.
    ///
    /// # Errors
    /// The body broke off, or is too long.
    pub async fn buffer_small(&mut self) -> Result<bool, BodyError> {
        while !self.ended && self.length() <= IN_MEMORY_MAX {
            let frame = std::future::poll_fn(|cx| {
                let frame = std::pin::Pin::new(&mut self.body).poll_frame(cx);
                std::task::Poll::Ready(frame)
            });
            match frame.await {
                std::task::Poll::Ready(frame) => drop(self.take(frame)?),
                std::task::Poll::Pending => return Ok(false),
            }
        }
        Ok(self.ended && self.length() <= IN_MEMORY_MAX)
    }

    fn length(&self) -> usize {
        self.first.len() + self.more.len()
    }

    /// Buffers a frame and returns its length.
    fn take(&mut self, frame: Option<Result<Frame<Bytes>, B::Error>>) -> Result<usize, BodyError> {
        let Some(frame) = frame else {
            self.ended = true;
            return Ok(0);
        };
        let Ok(data) = frame.map_err(|_| BodyError::Incomplete)?.into_data() else {
            return Ok(0);
        };
        let length = data.len();
        if self.length() + length > self.limit {
            return Err(BodyError::TooLong(self.limit));
        }
        if self.first.is_empty() && self.more.is_empty() {
            self.first = data;
        } else {
            if self.more.is_empty() {
                self.more
                    .extend_from_slice(&std::mem::take(&mut self.first));
            }
            self.more.extend_from_slice(&data);
        }
        // Saves a poll that would only report the end.
        self.ended = self.body.is_end_stream();
        Ok(length)
    }

    /// Takes the buffered bytes.
    pub fn take_buffered(&mut self) -> Bytes {
        if self.more.is_empty() {
            std::mem::take(&mut self.first)
        } else {
            std::mem::take(&mut self.more).freeze()
        }
    }

    /// Receives the whole body.
    ///
    /// # Errors
    /// [`BodyError`].
    pub async fn whole(self) -> Result<ReceivedBody, BodyError> {
        match tokio::time::timeout(TIMEOUT, self.receive()).await {
            Ok(received) => received,
            Err(_) => Err(BodyError::Incomplete),
        }
    }

    async fn receive(mut self) -> Result<ReceivedBody, BodyError> {
        let mut held: Option<Reservation> = None;
        let mut counted = UNCOUNTED_MAX;
        while !self.ended {
            let frame = self.body.frame().await;
            self.take(frame)?;
            let length = self.length();
            if length > IN_MEMORY_MAX && self.connection.is_some() {
                drop(held);
                return self.spool().await.map(ReceivedBody::Large);
            }
            if let (Some(connection), true) = (&self.connection, length > counted) {
                let more = (length - counted) as u64;
                match &mut held {
                    Some(held) => held.grow(more)?,
                    None => held = Some(connection.reserve(more)?),
                }
                counted = length;
            }
        }
        Ok(ReceivedBody::Small(self.take_buffered()))
    }

    async fn spool(mut self) -> Result<SpooledBody, BodyError> {
        let connection = self.connection.clone().ok_or(BodyError::Incomplete)?;
        let spooler = connection.spooler();
        // Only this connection's own verification speeds it up: others at the same address may be other callers.
        let account = connection.account();
        let _chunk = connection.reserve(2 * CHUNK as u64)?;
        let mut held = connection.reserve_in(Medium::Disk, self.length() as u64)?;
        let mut length = 0;
        let mut writing = SpoolWriter {
            file: None,
            hash: Sha256::new(),
        };
        let limit = self.limit;
        loop {
            let chunk = self.take_buffered();
            length += chunk.len();
            self.limit = limit - length;
            if account.is_none() {
                spooler.throttle.pass(chunk.len() as u64).await;
            }
            writing = spooler.write(writing, chunk, account).await?;
            if self.ended {
                break;
            }
            while !self.ended && self.length() < CHUNK {
                let frame = self.body.frame().await;
                let more = self.take(frame).map_err(|error| match error {
                    BodyError::TooLong(_) => BodyError::TooLong(limit),
                    other => other,
                })?;
                held.grow(more as u64)?;
            }
        }
        Ok(SpooledBody {
            file: Arc::new(writing.file.ok_or(BodyError::Incomplete)?),
            length,
            digest: writing.hash.finalize().into(),
            _held: held,
        })
    }
}

impl SpooledBody {
    /// Reads the body into memory.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn load(&self) -> io::Result<Bytes> {
        let (file, length) = (self.file.clone(), self.length);
        let read = move || {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(bytes.into())
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(io::Error::other)?
    }
}
