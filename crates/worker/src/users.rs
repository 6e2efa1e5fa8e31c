//! Allocates the user ids of instances.
//!
//! No two running instances share a user id. A released id goes to the end of the queue, and the position survives
//! restarts. So nothing that an instance (or a killed virga) left behind meets the next user of its id for as long as
//! possible.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tracing::warn;

use crate::Error;

/// Ids that are recorded as used at a time, so that few starts wait for the disk.
const BATCH: u32 = 64;

/// The user ids reserved for instances.
#[derive(Debug)]
pub(crate) struct Users {
    base: u32,
    count: u32,
    /// File with the next id after a restart.
    next_user_file: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Free ids, next one first.
    free: VecDeque<u32>,
    /// Ids that may be allocated before the file must be written.
    left_in_batch: u32,
}

impl Users {
    /// Continues where the last run stopped. Skips ids that still have processes of an earlier run.
    pub(crate) fn open(base: u32, count: u32, next_user_file: PathBuf) -> Self {
        let next = fs::read_to_string(&next_user_file).ok();
        let next = next.and_then(|text| text.trim().parse::<u32>().ok());
        let taken = uids_in_use(Path::new("/proc"), base, count);
        if !taken.is_empty() {
            warn!(users = ?taken, "skipping user ids that processes of an earlier run or of another virga run as");
        }
        Self {
            base,
            count,
            next_user_file,
            state: Mutex::new(State {
                free: in_order(base, count, next)
                    .filter(|user| !taken.contains(user))
                    .collect(),
                left_in_batch: 0,
            }),
        }
    }

    pub(crate) fn acquire(&self) -> Result<u32, Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.left_in_batch == 0 {
            // A run that is killed has allocated no id beyond this one.
            let next = state.free.get(BATCH as usize).or(state.free.back());
            if let Some(next) = next
                && let Err(error) = fs::write(&self.next_user_file, next.to_string())
            {
                warn!(%error, path = %self.next_user_file.display(), "failed to record which user ids were allocated");
            }
            state.left_in_batch = BATCH;
        }
        let user = state.free.pop_front().ok_or(Error::NoUser(self.count))?;
        state.left_in_batch -= 1;
        Ok(user)
    }

    /// Returns the index of a user id in the reserved range.
    pub(crate) fn number(&self, user: u32) -> u32 {
        user - self.base
    }

    pub(crate) fn release(&self, user: u32) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .free
            .push_back(user);
    }
}

/// Returns all ids of a range, beginning with `first` if it lies in the range.
fn in_order(base: u32, count: u32, first: Option<u32>) -> impl Iterator<Item = u32> {
    let first = first.and_then(|first| first.checked_sub(base));
    let first = first.filter(|first| *first < count).unwrap_or_default();
    (first..count)
        .chain(0..first)
        .map(move |number| base + number)
}

/// Returns the ids of a range that processes run as.
fn uids_in_use(proc: &Path, base: u32, count: u32) -> HashSet<u32> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let statuses = entries.filter_map(|entry| fs::read_to_string(entry.path().join("status")).ok());
    let users = statuses.flat_map(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        let numbers = line.unwrap_or_default().split_whitespace();
        numbers
            .filter_map(|user| user.parse().ok())
            .collect::<Vec<u32>>()
    });
    users
        .filter(|user| user.checked_sub(base).is_some_and(|number| number < count))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(users: &Users, count: usize) -> Vec<u32> {
        let all = (0..count).map(|_| users.acquire().expect("a user"));
        all.collect()
    }

    #[test]
    fn user_ids_are_unique_and_can_run_out() {
        let directory = tempfile::tempdir().expect("a directory");
        let users = Users::open(10, 2, directory.path().join("users"));
        assert_eq!(given(&users, 2), [10, 11]);
        assert!(matches!(users.acquire(), Err(Error::NoUser(2))));
        users.release(10);
        assert_eq!(users.acquire().ok(), Some(10));
    }

    #[test]
    fn restart_does_not_reuse_recent_user_ids() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = |base, count| Users::open(base, count, directory.path().join("users"));
        let mut before = HashSet::new();
        for _ in 0..3 {
            let now = given(&open(4_000_000_000, 1000), 100);
            assert!(now.iter().all(|user| before.insert(*user)), "{now:?}");
        }
        // After the end of the range, and in another range, allocation begins at the start.
        let users = open(4_000_000_000, 1000);
        assert_eq!(
            given(&users, 1000).iter().collect::<HashSet<_>>().len(),
            1000
        );
        assert_eq!(given(&open(4_100_000_000, 1000), 1), [4_100_000_000]);
    }

    #[test]
    fn user_ids_with_processes_are_skipped() {
        let proc = tempfile::tempdir().expect("a directory");
        for (number, uids) in [
            ("1", "0\t0\t0\t0"),
            ("2", "12\t12\t12\t12"),
            ("3", "0\t13\t0\t0"),
        ] {
            fs::create_dir(proc.path().join(number)).expect("made");
            let status = format!("Name:\tx\nUid:\t{uids}\n");
            fs::write(proc.path().join(number).join("status"), status).expect("written");
        }
        assert_eq!(uids_in_use(proc.path(), 10, 5), HashSet::from([12, 13]));
        assert_eq!(uids_in_use(proc.path(), 14, 5), HashSet::new());
    }
}
