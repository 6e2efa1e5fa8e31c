//! The road from a bucket's change to the queue of events.
//!
//! A change and the notice of its event are one commit of the bucket server's. The relay moves notices, in their order, into the
//! queue, and has them forgotten once they are on stable storage there. A notice goes under the id that its event was given with
//! the change; what a crash leaves unsaid is handed over again, and the queue knows it. So neither is without the other, and none
//! is there twice. While the queue takes no more, notices stay where they are.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use bucket::store::Outbox;
use bucket::{Change, Listeners, Notice, StoreError};
use model::{FunctionKey, Qualifier, RequestId};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::ObjectTriggers;
use crate::clock;
use crate::invoke::{Ingest, IngestError};
use crate::lineage::Depth;
use crate::queue::{NewEvent, Source};
use crate::telemetry::Metrics;

/// Notices that are read at a time.
const BATCH: usize = 256;
/// How long nothing is tried after the queue could not take an event, or the outbox not be read.
const PAUSE: Duration = Duration::from_millis(500);
/// The version of an address that is written.
const VERSION: u32 = 1;

/// Whom a notice is for, as it is stored with it.
#[derive(Serialize, Deserialize)]
struct Address {
    v: u32,
    function: FunctionKey,
    qualifier: Qualifier,
    depth: u32,
}

impl Listeners for ObjectTriggers {
    fn hear(&self, change: &Change) -> Vec<Notice> {
        let request = |_: &FunctionKey| clock::new_request_id();
        let event = self.event(change, request);
        event.into_iter().map(notice).collect()
    }
}

fn notice(event: NewEvent) -> Notice {
    let address = Address {
        v: VERSION,
        function: event.function,
        qualifier: event.qualifier,
        depth: event.depth.0,
    };
    Notice {
        id: event.request.to_string(),
        // Names and numbers can be written.
        to: serde_json::to_string(&address).unwrap_or_default(),
        body: event.event,
    }
}

fn event(notice: Notice) -> Result<NewEvent, String> {
    let address: Address = serde_json::from_str(&notice.to).map_err(|e| e.to_string())?;
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
        source: Source::Cos,
        depth: Depth(address.depth),
        event: notice.body,
    })
}

/// The running relay.
#[derive(Debug)]
pub(crate) struct Relay {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Goes on where an earlier run was.
    pub(crate) fn start(outbox: Outbox, ingest: Ingest, metrics: Arc<Metrics>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let carrier = Carrier {
            changes: outbox.clone(),
            outbox,
            ingest,
            metrics,
            reached: 0,
            held_up: false,
        };
        let task = tokio::spawn(carrier.run(stopped));
        Self { stop, task }
    }

    /// Hands nothing over any more. What is left goes on at the next start.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        if self.task.await.is_err() {
            error!("the relay of buckets' events has ended badly");
        }
    }
}

struct Carrier {
    outbox: Outbox,
    /// The same, for waiting.
    changes: Outbox,
    ingest: Ingest,
    metrics: Arc<Metrics>,
    /// The number of the last notice that is in the queue.
    reached: u64,
    /// Whether the last try failed.
    held_up: bool,
}

impl Carrier {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut forgotten = 0;
        loop {
            let reached = self.reached;
            // What is in the queue is forgotten while the next ones are waited for.
            let forget = async {
                let forgot = match reached > forgotten {
                    true => self.outbox.done(reached).await,
                    false => Ok(()),
                };
                self.metrics.notices(self.outbox.len());
                forgot
            };
            let fetch = next(&self.outbox, &mut self.changes, reached);
            let both = async { tokio::join!(forget, fetch) };
            let (forgot, batch) = tokio::select! {
                both = both => both,
                _ = &mut stopped => break,
            };
            match &forgot {
                Ok(()) => forgotten = reached,
                Err(error) => {
                    warn!(%error, "buckets' events that are in the queue cannot be forgotten; it is tried again");
                }
            }
            let whole = match batch {
                Ok(batch) => self.hand_over(batch).await,
                Err(error) => {
                    self.held_up(&error);
                    false
                }
            };
            if !whole || forgot.is_err() {
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    _ = &mut stopped => break,
                }
            }
        }
        if self.reached > forgotten
            && let Err(error) = self.outbox.done(self.reached).await
        {
            warn!(%error, "buckets' events are handed over again at the next start, and known to the queue");
        }
    }

    /// Hands notices over until the queue takes no more. They are sent one after another, and waited for together.
    async fn hand_over(&mut self, batch: Vec<(u64, Notice)>) -> bool {
        let ingest = self.ingest.clone();
        let mut sent = Vec::new();
        let mut refused = None;
        for (number, notice) in batch {
            let id = notice.id.clone();
            let event = match event(notice) {
                Ok(event) => event,
                Err(error) => {
                    error!(
                        notice = id,
                        error, "a bucket's event cannot be read, and is left out"
                    );
                    sent.push((number, None));
                    continue;
                }
            };
            let mut accepted = Box::pin(ingest.accept_done(event));
            // A full queue says so at once, and then no later one may go before.
            let at_once = tokio::select! {
                biased;
                result = &mut accepted => Some(result),
                () = ready(()) => None,
            };
            match at_once {
                Some(Err(IngestError::Queue(error))) => {
                    refused = Some(error);
                    break;
                }
                Some(Err(error)) => {
                    warn!(notice = id, %error, "a bucket's event is left out");
                    sent.push((number, None));
                }
                Some(Ok(())) => sent.push((number, None)),
                None => sent.push((number, Some(accepted))),
            }
        }
        for (number, accepted) in sent {
            let result = match accepted {
                Some(accepted) => accepted.await,
                None => Ok(()),
            };
            if let Err(error) = result {
                self.held_up(&error);
                return false;
            }
            self.reached = number;
        }
        if let Some(error) = refused {
            self.held_up(&error);
            return false;
        }
        if std::mem::take(&mut self.held_up) {
            info!("events of buckets go on");
        }
        true
    }

    fn held_up(&mut self, error: &dyn Display) {
        if !std::mem::replace(&mut self.held_up, true) {
            warn!(%error, "events of buckets wait until they can be handed over");
        }
    }
}

/// The next notices, once there are some.
async fn next(
    outbox: &Outbox,
    changes: &mut Outbox,
    after: u64,
) -> Result<Vec<(u64, Notice)>, StoreError> {
    loop {
        let batch = outbox.next(after, BATCH).await?;
        if !batch.is_empty() {
            return Ok(batch);
        }
        changes.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use model::{AccountId, FunctionName, Namespace};

    use super::*;

    #[test]
    fn what_is_written_beside_a_change_is_read_again() {
        let sent = NewEvent {
            request: RequestId::from_bytes([7; 16]),
            function: FunctionKey {
                account: AccountId(7),
                namespace: Namespace::default(),
                name: FunctionName::parse("fn").expect("a name"),
            },
            qualifier: Qualifier::Version(3),
            routing_key: BTreeMap::new(),
            source: Source::Cos,
            depth: Depth(5),
            event: Bytes::from_static(b"{}"),
        };
        let written = notice(sent.clone());
        let read = event(written.clone()).expect("read");
        assert_eq!(
            (read.request, read.function, read.qualifier, read.depth),
            (sent.request, sent.function, sent.qualifier, sent.depth)
        );
        assert_eq!((read.source, read.event), (Source::Cos, sent.event));
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
