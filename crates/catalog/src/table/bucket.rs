//! Triggers of buckets: an event of an object is for one function alone, so a change of them looks at all of the bucket's.

use std::sync::Arc;

use model::{AccountId, BucketName, Function, TriggerName};

use super::{Catalog, Error, Stored};

/// The trigger that has a change's events already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its function, with the namespace.
    pub function: model::FunctionKey,
    /// Its name.
    pub trigger: TriggerName,
}

impl Catalog {
    /// The functions that have triggers of a bucket.
    pub fn functions_of_bucket(
        &self,
        account: AccountId,
        bucket: &BucketName,
    ) -> Vec<Arc<Stored<Function>>> {
        self.read(|view| {
            let keys = view.buckets.get(&(account, bucket.clone()));
            let keys = keys.into_iter().flatten();
            keys.filter_map(|key| view.function(key).cloned()).collect()
        })
    }

    /// Replaces a function that is still as it was read, unless an event of an object would be for two triggers then.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is not, or the store's.
    pub async fn update_bucket_triggers(
        &self,
        old: &Stored<Function>,
        new: &Function,
    ) -> Result<Result<(), Taken>, Error> {
        let _counting = self.inner.counting.lock().await;
        if let Some(taken) = self.taken(new) {
            return Ok(Err(taken));
        }
        self.update_function(old, new).await.map(Ok)
    }

    /// The first trigger, of this function or another, that waits for what another of this function's does.
    fn taken(&self, new: &Function) -> Option<Taken> {
        let own: Vec<_> = new.bucket_triggers().collect();
        for (at, (trigger, events)) in own.iter().enumerate() {
            let twice = own[at + 1..]
                .iter()
                .any(|(_, other)| events.overlaps(other));
            if twice {
                return Some(Taken {
                    function: new.key.clone(),
                    trigger: trigger.name.clone(),
                });
            }
            for stored in self.functions_of_bucket(new.key.account, &events.bucket) {
                let function = &stored.value;
                let mut others = function.bucket_triggers();
                let taken = others.find(|(_, other)| events.overlaps(other));
                if let Some((trigger, _)) = taken.filter(|_| function.key != new.key) {
                    return Some(Taken {
                        function: function.key.clone(),
                        trigger: trigger.name.clone(),
                    });
                }
            }
        }
        None
    }
}
