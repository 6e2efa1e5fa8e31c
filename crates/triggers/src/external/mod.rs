//! Object triggers for external storages, which send change notifications: S3 records from MinIO, Ceph and others, and
//! SeaweedFS's own format.
//!
//! Each server is an *event source*, identified by its token. Its buckets belong to one account, under the same or
//! mapped names, and triggers match them like virga's own.

mod notification;
mod reported;
mod s3;
mod seaweed;
mod source;

use std::pin::Pin;
use std::sync::Arc;

use engine::invoke::{Ingest, IngestError};
use model::TraceContext;
use tracing::{debug, warn};

use self::notification::Notification;
pub use self::source::{EventSource, EventSources};
use super::cos::ObjectTriggers;
use super::trigger::{Context, Receipt, Receiver, Rejection, Sender, StartError, Trigger};

/// Maximum size of a notification, bytes. SeaweedFS lists all chunks of a large file in one.
const BODY_MAX: usize = 8 << 20;

/// The external storages of this installation.
#[derive(Clone, Debug)]
pub(super) struct ExternalStorages {
    sources: EventSources,
    triggers: ObjectTriggers,
    ingest: Ingest,
}

impl Trigger for ExternalStorages {
    const NAME: &'static str = "external storages";

    /// Starts even without a source, so that senders get advice.
    async fn start(context: &Context) -> Result<Option<Self>, StartError> {
        Ok(Some(Self {
            sources: context.settings.event_sources.clone(),
            triggers: context.object_triggers.clone(),
            ingest: context.ingest.clone(),
        }))
    }

    fn receiver(&self) -> Option<Arc<dyn Receiver>> {
        Some(Arc::new(self.clone()))
    }

    /// Does nothing: notifications arrive through the gateway, which has stopped.
    async fn stop(self) {}
}

impl Receiver for ExternalStorages {
    fn path(&self) -> &'static str {
        "/events/s3"
    }

    fn max_bytes(&self) -> usize {
        BODY_MAX
    }

    fn setup_hint(&self) -> Option<&'static str> {
        let hint = "no storage may post notifications here; add it to a file and start virga with --event-sources FILE";
        self.sources.0.is_empty().then_some(hint)
    }

    fn sender(&self, token: &str) -> Option<Sender> {
        let source = self.sources.of_token(token)?;
        Some(Sender {
            name: source.name.clone(),
            account: source.account,
        })
    }

    fn receive<'a>(
        &'a self,
        sender: &'a Sender,
        body: &'a [u8],
        trace: Option<TraceContext>,
    ) -> Pin<Box<dyn Future<Output = Result<Receipt, Rejection>> + Send + 'a>> {
        Box::pin(async move {
            let mut sources = self.sources.0.iter();
            match sources.find(|source| source.name == sender.name) {
                Some(source) => self.accept(source, body, trace).await,
                None => Err(Rejection::Malformed(format!(
                    "there is no source {}",
                    sender.name
                ))),
            }
        })
    }
}

impl ExternalStorages {
    async fn accept(
        &self,
        source: &EventSource,
        body: &[u8],
        trace: Option<TraceContext>,
    ) -> Result<Receipt, Rejection> {
        let notification = Notification::read(source, body, clock::now_ms()).map_err(|unread| {
            warn!(source = source.name, %unread, "failed to parse a storage notification");
            Rejection::Malformed(unread.to_string())
        })?;
        let (events, unwanted) = notification.events(source, &self.triggers, clock::now_ms());
        let mut receipt = Receipt {
            accepted: 0,
            ignored: notification.ignored + unwanted,
        };
        for mut event in events {
            event.trace = trace.clone();
            let function = event.function.clone();
            match self.ingest.accept_unchecked(event).await {
                Ok(()) => receipt.accepted += 1,
                Err(IngestError::Queue(error)) => {
                    warn!(source = source.name, %error, "failed to enqueue events of a storage notification; the sender should retry");
                    return Err(Rejection::RetryLater(error.to_string()));
                }
                Err(error) => {
                    warn!(source = source.name, function = %function.name, %error, "rejected a change in an external storage");
                    return Err(Rejection::Malformed(error.to_string()));
                }
            }
        }
        let Receipt { accepted, ignored } = receipt;
        debug!(
            source = source.name,
            accepted, ignored, "received a storage notification"
        );
        Ok(receipt)
    }
}
