//! A store without persistence, for tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc;

use super::{Kv, KvEntry, KvError, KvEvent, KvFuture, Precondition, Revision, Watch};

/// An in-memory store.
#[derive(Debug, Default)]
pub struct MemoryKv {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<String, (Vec<u8>, Revision)>,
    last: Revision,
    watchers: Vec<mpsc::UnboundedSender<KvEvent>>,
}

impl State {
    fn check(&self, key: &str, on: Precondition) -> Result<(), KvError> {
        let have = self.entries.get(key).map(|(_, revision)| *revision);
        let holds = match on {
            Precondition::Any => true,
            Precondition::Absent => have.is_none(),
            Precondition::Revision(expected) => have == Some(expected),
        };
        if holds {
            Ok(())
        } else {
            Err(KvError::Conflict {
                key: key.to_owned(),
            })
        }
    }

    /// Assigns the next revision to a change and sends it to the watchers.
    fn publish(&mut self, key: &str, value: Option<Vec<u8>>) -> Revision {
        self.last += 1;
        let event = KvEvent {
            key: key.to_owned(),
            value,
            revision: self.last,
        };
        self.watchers
            .retain(|watcher| watcher.send(event.clone()).is_ok());
        self.last
    }
}

impl MemoryKv {
    /// Ends all watches.
    #[cfg(test)]
    pub(crate) fn end_watches(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.watchers.clear();
    }

    fn with<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut State) -> Result<T, KvError>,
    ) -> KvFuture<'_, T> {
        let result = run(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        Box::pin(std::future::ready(result))
    }
}

impl Kv for MemoryKv {
    fn get<'a>(&'a self, key: &'a str) -> KvFuture<'a, Option<KvEntry>> {
        self.with(|state| {
            let entry = state.entries.get(key).cloned();
            Ok(entry.map(|(value, revision)| KvEntry {
                key: key.to_owned(),
                value,
                revision,
            }))
        })
    }

    fn put<'a>(&'a self, key: &'a str, value: Vec<u8>, on: Precondition) -> KvFuture<'a, Revision> {
        self.with(|state| {
            state.check(key, on)?;
            let revision = state.publish(key, Some(value.clone()));
            state.entries.insert(key.to_owned(), (value, revision));
            Ok(revision)
        })
    }

    fn delete<'a>(&'a self, key: &'a str, on: Precondition) -> KvFuture<'a, Revision> {
        self.with(|state| {
            state.check(key, on)?;
            match state.entries.remove(key) {
                Some(_) => Ok(state.publish(key, None)),
                None => Ok(state.last),
            }
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> KvFuture<'a, Vec<KvEntry>> {
        self.with(|state| {
            let starting = state
                .entries
                .iter()
                .filter(|(key, _)| key.starts_with(prefix));
            let entry = |(key, (value, revision)): (&String, &(Vec<u8>, Revision))| KvEntry {
                key: key.clone(),
                value: value.clone(),
                revision: *revision,
            };
            Ok(starting.map(entry).collect())
        })
    }

    fn watch(&self) -> KvFuture<'_, Watch> {
        self.with(|state| {
            let (sender, events) = mpsc::unbounded_channel();
            state.watchers.push(sender);
            let entry = |(key, (value, revision)): (&String, &(Vec<u8>, Revision))| KvEntry {
                key: key.clone(),
                value: value.clone(),
                revision: *revision,
            };
            Ok(Watch {
                snapshot: state.entries.iter().map(entry).collect(),
                revision: state.last,
                events,
            })
        })
    }
}
