//! One instance: a sandbox with a loaded handler. It serves one request at a time, or several if it is a web function's.

mod exchange;
mod invoke;
mod output;
mod start;
mod web_server;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::unix::pipe;
use tokio::sync::Mutex;

use crate::InstanceSpec;
use crate::frame::Frames;
use crate::launch_mode::LaunchMode;
use crate::log::Log;
use crate::process::{Exit, Process};
use crate::request::SharedMetadata;
use crate::short_requests::ShortRequestDetector;
use crate::web::Connections;

pub use self::invoke::InvocationResult;
pub use self::start::{StartError, Started};
pub use self::web_server::ForwardError;

/// How long to wait for an instance that seems to be exiting by itself.
const END_GRACE: Duration = Duration::from_millis(50);
/// The same where a web function's server closed a connection before its reply: it most likely ends, and its exit status says why.
const NO_REPLY_GRACE: Duration = Duration::from_millis(500);
/// The same after an out-of-memory kill, which takes longer on a busy machine.
const KILL_GRACE: Duration = Duration::from_secs(2);
/// Limits that hold for every instance of a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InstanceLimits {
    pub(crate) response_bytes: u64,
    pub(crate) log_bytes: u64,
    pub(crate) pids: u32,
}

/// A loaded handler in its sandbox. Dropping the last handle does not end it; [`Instance::stop`] does.
#[derive(Debug)]
pub struct Instance {
    process: Arc<Process>,
    channel: Mutex<Channel>,
    short_requests: std::sync::Mutex<ShortRequestDetector>,
    spec: Arc<InstanceSpec>,
    metadata: SharedMetadata,
    launch_mode: LaunchMode,
    instance_limits: InstanceLimits,
    /// When its credentials become too old for another request.
    credentials_valid_until: Option<Instant>,
    web: Option<Web>,
}

/// The parts that only a web function's instance has.
#[derive(Debug)]
struct Web {
    connections: Arc<Connections>,
    /// Output of its server since the last [`Instance::take_printed`].
    printed: Arc<std::sync::Mutex<Log>>,
}

#[derive(Debug)]
struct Channel {
    frames: Frames,
    log: pipe::Receiver,
}

impl Instance {
    /// Returns the specification that it was started with.
    pub fn spec(&self) -> &InstanceSpec {
        &self.spec
    }

    /// Returns its address, which no other running instance has. `None` without a network.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.process.address()
    }

    /// Returns whether its credentials are too old for another request.
    pub fn is_stale(&self) -> bool {
        self.credentials_valid_until
            .is_some_and(|until| until <= Instant::now())
    }

    async fn end(&self) -> Exit {
        // When a handler exits, its pipe closes before its exit status arrives. Killing at once would replace its exit
        // code by the signal, so it gets a grace period.
        let grace = tokio::time::timeout(END_GRACE, self.process.wait());
        if let Ok(exit) = grace.await {
            return exit;
        }
        self.stop();
        self.process.wait().await
    }

    /// Returns the peak memory use since the start, bytes.
    pub fn memory_peak(&self) -> u64 {
        self.process.memory_peak()
    }

    /// Freezes the instance's processes, or thaws them.
    pub fn freeze(&self, frozen: bool) {
        if let Some(web) = self.web.as_ref().filter(|_| frozen) {
            web.connections.close_idle();
        }
        self.process.freeze(frozen);
    }

    /// Kills every process of the instance. Returns at once; [`Instance::ended`] waits for the end.
    pub fn stop(&self) {
        self.process.kill();
    }

    /// Sends SIGTERM to the instance's processes.
    pub fn terminate(&self) {
        self.process.terminate();
    }

    /// Waits until the instance has ended.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let process = self.process.clone();
        async move {
            process.wait().await;
        }
    }
}
