//! Matches a change of an object with a trigger and builds its event.
//!
//! A change is matched against the catalog in memory, by account and bucket. The catalog ensures that at most one
//! trigger matches an event, so the first match is the only one.

use std::collections::BTreeMap;

use bucket::Change;
use catalog::Catalog;
use events::{EventOrigin, NewEvent};
use model::{
    AccountId, BucketName, FunctionKey, FunctionState, RecursionDepth, RequestId, TriggerKind,
};

use super::document;
use super::recipient::Recipient;

/// The object triggers in the catalog.
#[derive(Clone, Debug)]
pub struct ObjectTriggers {
    catalog: Catalog,
    region: String,
}

impl ObjectTriggers {
    /// Creates the matcher; the region is part of events.
    pub fn new(catalog: Catalog, region: String) -> Self {
        Self { catalog, region }
    }

    /// Returns the event of a change, if a trigger matches. `request` creates its id for the matching function.
    pub fn event(
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
            source: EventOrigin::Trigger(TriggerKind::Cos),
            depth: RecursionDepth(change.depth),
            trace: None,
            event,
        })
    }

    fn recipient(&self, change: &Change) -> Option<Recipient> {
        // No trigger can name a bucket with an invalid name.
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
