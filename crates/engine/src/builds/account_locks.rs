//! Locks that allow an account one build at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use model::AccountId;
use tokio::sync::OwnedMutexGuard;

/// The locks of all accounts.
#[derive(Debug, Default)]
pub(super) struct AccountLocks(Mutex<HashMap<AccountId, Weak<tokio::sync::Mutex<()>>>>);

/// A held lock, released on drop.
#[derive(Debug)]
pub(super) struct AccountLock {
    _own: OwnedMutexGuard<()>,
}

impl AccountLocks {
    /// Waits for the lock of an account.
    pub(super) async fn take(&self, account: AccountId) -> AccountLock {
        let own = {
            let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            accounts.retain(|_, known| known.strong_count() > 0);
            let known = accounts.get(&account).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let own = Arc::default();
                accounts.insert(account, Arc::downgrade(&own));
                own
            })
        };
        AccountLock {
            _own: own.lock_owned().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn account_lock_is_exclusive_per_account() {
        let account_locks = AccountLocks::default();
        let mut context = Context::from_waker(Waker::noop());
        let ask = |account| Box::pin(account_locks.take(AccountId(account)));
        let (mut first, mut second, mut other) = (ask(1), ask(1), ask(2));
        let Poll::Ready(lock) = first.as_mut().poll(&mut context) else {
            panic!("nobody is before it");
        };
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(other.as_mut().poll(&mut context).is_ready());
        drop(lock);
        assert!(second.as_mut().poll(&mut context).is_ready());
    }
}
