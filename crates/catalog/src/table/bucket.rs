//! Bucket triggers. At most one function receives an object event, so a change is checked against all triggers of the bucket.

use std::sync::Arc;

use model::{AccountId, BucketName, Function, TriggerName};

use crate::error::Error;
use crate::stored::Stored;
use crate::table::Catalog;

/// An existing trigger that overlaps a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriggerConflict {
    /// Function of the existing trigger.
    pub function: model::FunctionKey,
    /// Name of the existing trigger.
    pub trigger: TriggerName,
}

impl Catalog {
    /// Returns the functions with triggers on a bucket.
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

    /// Replaces a function (compare-and-swap), unless two triggers would then match the same object event.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the function was changed since `old` was read, or an error of the store.
    pub async fn update_bucket_triggers(
        &self,
        old: &Stored<Function>,
        new: &Function,
    ) -> Result<Result<(), TriggerConflict>, Error> {
        let _admission = self.inner.admission.lock().await;
        if let Some(conflict) = self.trigger_conflict(new) {
            return Ok(Err(conflict));
        }
        self.update_function(old, new).await.map(Ok)
    }

    /// Finds the first trigger, of this or another function, that overlaps a trigger of `new`.
    fn trigger_conflict(&self, new: &Function) -> Option<TriggerConflict> {
        let own: Vec<_> = new.bucket_triggers().collect();
        for (at, (trigger, events)) in own.iter().enumerate() {
            let twice = own[at + 1..]
                .iter()
                .any(|(_, other)| events.overlaps(other));
            if twice {
                return Some(TriggerConflict {
                    function: new.key.clone(),
                    trigger: trigger.name.clone(),
                });
            }
            for stored in self.functions_of_bucket(new.key.account, &events.bucket) {
                let function = &stored.value;
                let mut others = function.bucket_triggers();
                let overlapping = others.find(|(_, other)| events.overlaps(other));
                if let Some((trigger, _)) = overlapping.filter(|_| function.key != new.key) {
                    return Some(TriggerConflict {
                        function: function.key.clone(),
                        trigger: trigger.name.clone(),
                    });
                }
            }
        }
        None
    }
}
