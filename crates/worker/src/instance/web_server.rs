//! The server of a web function: requests to it, and its output.

use std::os::fd::AsFd;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use hyper::Response;
use model::{Failure, FailureKind};
use sandbox::wire::Kind;
use tokio::net::unix::pipe;
use tracing::warn;

use super::output::{collect, readable};
use super::{Channel, END_GRACE, Instance, KILL_GRACE, NO_REPLY_GRACE, Web};
use crate::log::Log;
use crate::web::{Connections, Head, NoReply, NoReplyCause, PORT, Payload, StreamedReply};

/// A request to a web function that failed before its reply.
#[derive(Debug)]
pub struct ForwardError {
    /// The failure to answer with.
    pub failure: Failure,
    /// Whether the server may have begun to handle the request. If not, its instance has ended, and another one can serve
    /// the same request.
    pub started: bool,
}

impl ForwardError {
    fn started(failure: Failure) -> Self {
        Self {
            failure,
            started: true,
        }
    }
}

impl Instance {
    /// Collects the output of a web function's server from now on, also between requests. Otherwise the server would
    /// block on a full pipe.
    pub(super) fn collect_server_output(&mut self) {
        let printed = Arc::new(std::sync::Mutex::new(Log::new(
            self.instance_limits.log_bytes,
        )));
        self.web = Some(Web {
            connections: Connections::new(self.process.clone()),
            printed: printed.clone(),
        });
        let Channel { log, .. } = self.channel.get_mut();
        let pipe = log.as_fd().try_clone_to_owned();
        let Ok(Ok(pipe)) = pipe.map(pipe::Receiver::from_owned_fd) else {
            warn!("cannot read the output of a web function");
            return;
        };
        let process = self.process.clone();
        tokio::spawn(async move {
            let open = || {
                let mut log = printed.lock().unwrap_or_else(PoisonError::into_inner);
                collect(|buffer| pipe.try_read(buffer), &mut log)
            };
            loop {
                let full = printed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .is_full();
                tokio::select! {
                    ready = readable(&pipe, full) => if ready.is_err() || !open() { return },
                    _ = process.wait() => return,
                }
            }
        });
    }

    /// Forwards a request to a web function's server. Several may run at a time. `head` is called again if a reused
    /// connection ends before the first byte of a reply.
    ///
    /// # Errors
    /// The server has ended, or does not speak HTTP.
    pub async fn forward(
        &self,
        head: &Head<'_>,
        body: &mut Payload,
    ) -> Result<Response<StreamedReply>, ForwardError> {
        let Some(web) = &self.web else {
            let message = "the function is no web function";
            let failure = Failure::new(FailureKind::PlatformFault, message);
            return Err(ForwardError::started(failure));
        };
        match web.connections.send(head, body).await {
            Ok(reply) => Ok(reply),
            Err(no_reply) => Err(self.no_reply(&no_reply).await),
        }
    }

    /// Returns why a web function's server sent no reply or an incomplete one, if its end is the reason.
    pub async fn connection_failure(&self) -> Option<Failure> {
        self.failure_within(END_GRACE).await
    }

    async fn failure_within(&self, grace: Duration) -> Option<Failure> {
        // If the server has ended, the notification is on its way; after an out-of-memory kill it certainly is.
        let killed = self.process.with_slot(|slot| slot.out_of_memory());
        let grace = if killed == Some(true) {
            KILL_GRACE
        } else {
            grace
        };
        self.end_within(grace).await
    }

    /// Returns how the instance ended, if it does within `grace`.
    async fn end_within(&self, grace: Duration) -> Option<Failure> {
        let ended = tokio::time::timeout(grace, self.process.wait()).await;
        ended.is_ok().then_some(())?;
        Some(self.lost(Kind::Answer).await.into_failure())
    }

    async fn no_reply(&self, why: &NoReply) -> ForwardError {
        let started = why.started;
        let ended = if started {
            self.failure_within(NO_REPLY_GRACE).await
        } else {
            // A server that refuses a request, or leaves it unread, most likely exits.
            self.end_within(KILL_GRACE).await
        };
        if let Some(failure) = ended {
            return ForwardError { failure, started };
        }
        let message = match &why.cause {
            NoReplyCause::NotConnected(e) => {
                format!("the function's server accepts no connection on port {PORT}: {e}")
            }
            NoReplyCause::Broken(e) => {
                format!("the function's server closed the connection before its reply: {e}")
            }
            NoReplyCause::Closed => {
                "the function's server closed the connection before it had the request".to_owned()
            }
        };
        ForwardError::started(Failure::new(FailureKind::HandlerError, message))
    }

    /// Takes the output of a web function's server since the last call.
    pub fn take_printed(&self) -> Vec<u8> {
        let Some(web) = &self.web else {
            return Vec::new();
        };
        let mut log = web.printed.lock().unwrap_or_else(PoisonError::into_inner);
        // All output before a reply is in the pipe by now, even if the reactor has no event for it yet.
        if let Ok(mut channel) = self.channel.try_lock() {
            let Channel { log: pipe, .. } = &mut *channel;
            collect(|buffer| sandbox::read_now(pipe.as_fd(), buffer), &mut log);
        }
        std::mem::replace(&mut *log, Log::new(self.instance_limits.log_bytes)).finish()
    }
}
