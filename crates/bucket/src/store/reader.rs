//! A pool of read-only connections to the index.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::schema;
use crate::error::StoreError;

/// Maximum concurrent readers. Further ones wait.
const READERS: usize = 16;

#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            path,
            idle: Mutex::new(Vec::new()),
            permits: Arc::new(Semaphore::new(READERS)),
        })
    }

    /// Runs queries on one snapshot of the index.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let unavailable = |_| StoreError::Unavailable("it is being closed".into());
        let permit = self
            .permits
            .clone()
            .acquire_owned()
            .await
            .map_err(unavailable)?;
        let this = self.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let connection = this.idle().pop();
            let connection = match connection {
                Some(connection) => connection,
                None => schema::reader(&this.path)?,
            };
            let transaction = connection.unchecked_transaction()?;
            let result = read(&transaction);
            transaction.finish()?;
            this.idle().push(connection);
            result
        });
        reading
            .await
            .map_err(|e| StoreError::Unavailable(format!("read the index: {e}")))?
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
