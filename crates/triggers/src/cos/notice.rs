//! The stored form of an event in the outbox of the object store.

use std::collections::BTreeMap;

use bucket::{Change, ChangeObserver, Notice};
use events::{EventOrigin, NewEvent};
use model::{FunctionKey, Qualifier, RecursionDepth, RequestId, TriggerKind};
use serde::{Deserialize, Serialize};

use super::matcher::ObjectTriggers;

/// Version of new stored recipients.
const VERSION: u32 = 1;

/// The receiver of a notice, as stored with it.
#[derive(Serialize, Deserialize)]
struct StoredRecipient {
    v: u32,
    function: FunctionKey,
    qualifier: Qualifier,
    depth: u32,
}

impl ChangeObserver for ObjectTriggers {
    fn notices_of(&self, change: &Change) -> Vec<Notice> {
        let request = |_: &FunctionKey| clock::new_request_id();
        let event = self.event(change, request);
        event.into_iter().map(notice).collect()
    }
}

/// Writes an event as a notice.
fn notice(event: NewEvent) -> Notice {
    let address = StoredRecipient {
        v: VERSION,
        function: event.function,
        qualifier: event.qualifier,
        depth: event.depth.0,
    };
    Notice {
        id: event.request.to_string(),
        // Serialization cannot fail.
        to: serde_json::to_string(&address).unwrap_or_default(),
        body: event.event,
    }
}

/// Reads the event of a notice.
pub(super) fn event(notice: Notice) -> Result<NewEvent, String> {
    let address: StoredRecipient = serde_json::from_str(&notice.to).map_err(|e| e.to_string())?;
    if address.v > VERSION {
        return Err(format!(
            "a newer virga wrote it (format {}, this one reads up to {VERSION})",
            address.v
        ));
    }
    Ok(NewEvent {
        request: RequestId::parse(&notice.id).map_err(|e| e.to_string())?,
        function: address.function,
        qualifier: address.qualifier,
        routing_key: BTreeMap::new(),
        source: EventOrigin::Trigger(TriggerKind::Cos),
        depth: RecursionDepth(address.depth),
        trace: None,
        event: notice.body,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use model::{AccountId, FunctionName, Namespace};

    use super::*;

    #[test]
    fn stored_notice_round_trips() {
        let sent = NewEvent {
            request: RequestId::from_bytes([7; 16]),
            function: FunctionKey {
                account: AccountId(7),
                namespace: Namespace::default(),
                name: FunctionName::parse("fn").expect("a name"),
            },
            qualifier: Qualifier::Version(3),
            routing_key: BTreeMap::new(),
            source: EventOrigin::Trigger(TriggerKind::Cos),
            depth: RecursionDepth(5),
            trace: None,
            event: Bytes::from_static(b"{}"),
        };
        let written = notice(sent.clone());
        let read = event(written.clone()).expect("read");
        assert_eq!(
            (read.request, read.function, read.qualifier, read.depth),
            (sent.request, sent.function, sent.qualifier, sent.depth)
        );
        assert_eq!(
            (read.source, read.event),
            (EventOrigin::Trigger(TriggerKind::Cos), sent.event)
        );
        let newer = Notice {
            to: written.to.replace("\"v\":1", "\"v\":2"),
            ..written.clone()
        };
        assert!(event(newer).expect_err("refused").contains("newer virga"));
        let nameless = Notice {
            id: "x".into(),
            ..written.clone()
        };
        let lost = Notice {
            to: "{".into(),
            ..written
        };
        assert!(event(nameless).is_err() && event(lost).is_err());
    }
}
