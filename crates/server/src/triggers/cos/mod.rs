//! Triggers of buckets: which function waits for a change of an object, and what it gets.
//!
//! A change is matched with the catalog as it is then: a look-up in memory by account and bucket. An event of an object is for
//! one trigger alone, which the catalog sees to, so the first that waits for it is the only one.

mod document;
mod notification;
mod relay;
mod s3;
mod seaweed;

use std::collections::BTreeMap;

use bucket::Change;
use catalog::Catalog;
use model::{AccountId, BucketName, FunctionKey, FunctionState, Qualifier, RequestId};

pub(crate) use self::notification::{EventSource, EventSources, Notification};
pub(crate) use self::relay::Relay;
use crate::call_chains::RecursionDepth;
use crate::queue::{EventOrigin, NewEvent};

/// Whom a change is told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Recipient {
    function: FunctionKey,
    qualifier: Qualifier,
}

/// The triggers of all buckets.
#[derive(Clone, Debug)]
pub(crate) struct ObjectTriggers {
    catalog: Catalog,
    region: String,
}

impl ObjectTriggers {
    pub(crate) fn new(catalog: Catalog, region: String) -> Self {
        Self { catalog, region }
    }

    /// The event of a change, if a trigger waits for it. `request` makes its id when it is known whose event it is.
    pub(crate) fn event(
        &self,
        change: &Change,
        request: impl FnOnce(&FunctionKey) -> RequestId,
    ) -> Option<NewEvent> {
        let to = self.recipient(change)?;
        let request = request(&to.function);
        let event = document::write(change, &to, request, &self.region);
        Some(NewEvent {
            request,
            function: to.function,
            qualifier: to.qualifier,
            routing_key: BTreeMap::new(),
            source: EventOrigin::Cos,
            depth: RecursionDepth(change.depth),
            event,
        })
    }

    fn recipient(&self, change: &Change) -> Option<Recipient> {
        // What has another name no trigger can have named.
        let bucket = BucketName::parse(&change.bucket).ok()?;
        let account = AccountId(change.app_id);
        let functions = self.catalog.functions_of_bucket(account, &bucket);
        let alive = functions
            .iter()
            .filter(|function| function.value.state != FunctionState::Deleting);
        let mut waiting = alive.flat_map(|function| {
            let triggers = function.value.bucket_triggers();
            triggers.map(move |(trigger, events)| (&function.value.key, trigger, events))
        });
        let (function, trigger, _) = waiting.find(|(_, trigger, events)| {
            trigger.enabled
                && events.bucket == bucket
                && events.matches(change.kind.as_str(), &change.key)
        })?;
        Some(Recipient {
            function: function.clone(),
            qualifier: trigger.qualifier.clone(),
        })
    }
}
