//! Whose build is next: one of an account at a time, and few in all.
//!
//! An account waits for its own turn before it waits for one of all, so that whoever asks for many stands in line once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use model::AccountId;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::Error;

/// How builds are bounded.
#[derive(Clone, Copy, Debug)]
pub struct BuildSettings {
    /// Memory of a build, the files that it writes included, bytes.
    pub memory_bytes: u64,
    /// Builds at a time.
    pub at_once: usize,
}

/// The turns of all accounts.
#[derive(Debug)]
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    accounts: Mutex<HashMap<AccountId, Weak<tokio::sync::Mutex<()>>>>,
}

/// The right to build, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _all: OwnedSemaphorePermit,
    _own: OwnedMutexGuard<()>,
}

impl Turns {
    pub(crate) fn new(at_once: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(at_once)),
            accounts: Mutex::default(),
        }
    }

    /// Waits for a turn of an account.
    pub(crate) async fn take(&self, account: AccountId) -> Result<Turn, Error> {
        let own = {
            let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
            accounts.retain(|_, known| known.strong_count() > 0);
            let known = accounts.get(&account).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let own = Arc::default();
                accounts.insert(account, Arc::downgrade(&own));
                own
            })
        };
        let own = own.lock_owned().await;
        let all = self.all.clone().acquire_owned().await;
        Ok(Turn {
            _all: all.map_err(|_| Error::Closed)?,
            _own: own,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn an_account_with_many_builds_keeps_nobody_waiting_behind_all_of_them() {
        let turns = Turns::new(1);
        let mut context = Context::from_waker(Waker::noop());
        let ask = |account| Box::pin(turns.take(AccountId(account)));
        let (mut first, mut second, mut third) = (ask(1), ask(1), ask(1));
        let mut other = ask(2);
        let Poll::Ready(turn) = first.as_mut().poll(&mut context) else {
            panic!("nobody is before it");
        };
        for waits in [&mut second, &mut third, &mut other] {
            assert!(waits.as_mut().poll(&mut context).is_pending());
        }
        drop(turn.expect("a turn"));
        assert!(
            second.as_mut().poll(&mut context).is_pending(),
            "the other account is next"
        );
        let Poll::Ready(turn) = other.as_mut().poll(&mut context) else {
            panic!("it comes second");
        };
        drop(turn.expect("a turn"));
        let held = second.as_mut().poll(&mut context);
        assert!(held.is_ready());
        assert!(
            third.as_mut().poll(&mut context).is_pending(),
            "one of an account at a time"
        );
    }
}
