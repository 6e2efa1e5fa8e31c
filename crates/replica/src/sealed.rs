//! A log whose records are encrypted.
//!
//! The log's servers see the writers' numbers, the times and the sizes. A record is authenticated with the log's name, its writer and its
//! number, so it cannot be moved to another log or another place of a writer's sequence. A record that is not encrypted is refused, since
//! anyone who can write to the servers could have put it there.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use seal::Seals;

use crate::log::{AppendError, Entry, Log, LogError, LogIdentity, Position, Usage};
use crate::record;

/// An encrypting layer over another log. Clones are the same log.
#[derive(Clone, Debug)]
pub struct SealedLog<L> {
    inner: L,
    seals: Arc<Seals>,
    name: String,
}

impl<L> SealedLog<L> {
    /// Encrypts the records of a log. The name distinguishes it from others under the same keys.
    pub fn new(inner: L, seals: Arc<Seals>, name: &str) -> Self {
        Self {
            inner,
            seals,
            name: name.to_owned(),
        }
    }
}

#[async_trait]
impl<L: Log> Log for SealedLog<L> {
    async fn append(&self, record: Bytes) -> Result<Position, AppendError> {
        let sealed = record::seal(&self.seals, &self.name, &record);
        let sealed = sealed.map_err(|error| AppendError::Refused(error.to_string()))?;
        self.inner.append(sealed).await
    }

    async fn follow(
        &self,
        after: Position,
    ) -> Result<BoxStream<'static, Result<Entry, LogError>>, LogError> {
        let entries = self.inner.follow(after).await?;
        let (seals, name) = (self.seals.clone(), self.name.clone());
        let opened = entries.map(move |entry| {
            let mut entry = entry?;
            entry.record = record::unseal(&seals, &name, &entry.record).map_err(|error| {
                let position = entry.position.0;
                LogError::Unreadable(format!(
                    "record {position} of the log {name} cannot be used: {error}"
                ))
            })?;
            Ok(entry)
        });
        Ok(opened.boxed())
    }

    async fn trim(&self, through: Position) -> Result<(), LogError> {
        self.inner.trim(through).await
    }

    async fn trimmed(&self) -> Result<Position, LogError> {
        self.inner.trimmed().await
    }

    async fn usage(&self) -> Result<Usage, LogError> {
        self.inner.usage().await
    }

    async fn latest(&self) -> Result<Position, LogError> {
        self.inner.latest().await
    }

    async fn identity(&self) -> Result<LogIdentity, LogError> {
        self.inner.identity().await
    }
}
