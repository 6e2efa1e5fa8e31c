//! The server of a web function: requests to it, and its output.

use std::os::fd::AsFd;
use std::sync::{Arc, PoisonError};

use hyper::Response;
use model::StatusCode;
use sandbox::wire::Kind;
use tokio::net::unix::pipe;
use tracing::warn;

use super::output::{collect, readable};
use super::{Channel, END_GRACE, Instance, KILL_GRACE, Web};
use crate::log::Log;
use crate::outcome::Failure;
use crate::web::{Connections, Head, NoReply, Outgoing, PORT, StreamedReply};

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
    /// The failure to answer with: the server has ended, or does not speak HTTP.
    pub async fn forward(
        &self,
        head: &Head<'_>,
        body: Outgoing,
    ) -> Result<Response<StreamedReply>, Failure> {
        let Some(web) = &self.web else {
            let message = "the function is no web function";
            return Err(Failure::new(StatusCode::InternalError, message));
        };
        match web.connections.send(head, body).await {
            Ok(reply) => Ok(reply),
            Err(no_reply) => Err(self.no_reply(&no_reply).await),
        }
    }

    /// Returns why a web function's server sent no reply or an incomplete one, if its end is the reason.
    pub async fn connection_failure(&self) -> Option<Failure> {
        // If the server has ended, the notification is on its way; after an out-of-memory kill it certainly is.
        let killed = self.process.with_slot(|slot| slot.out_of_memory());
        let grace = if killed == Some(true) {
            KILL_GRACE
        } else {
            END_GRACE
        };
        let ended = tokio::time::timeout(grace, self.process.wait()).await;
        ended.is_ok().then_some(())?;
        Some(self.lost(Kind::Answer).await.into_failure())
    }

    async fn no_reply(&self, why: &NoReply) -> Failure {
        if let Some(failure) = self.connection_failure().await {
            return failure;
        }
        let message = match why {
            NoReply::NotConnected(e) => {
                format!("the function's server accepts no connection on port {PORT}: {e}")
            }
            NoReply::Broken(e) => {
                format!("the function's server closed the connection before its reply: {e}")
            }
        };
        Failure::new(StatusCode::UserCodeException, message)
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
