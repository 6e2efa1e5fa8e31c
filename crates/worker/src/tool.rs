//! Runs a tool of the platform (pip, npm, the compiler) in a sandbox of its own.
//!
//! A tool has a user id, a network namespace and control groups, like an instance. All its processes end with the
//! [`RunningTool`]: when the tool exits, at its timeout, on cancellation, and when virga ends.

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use model::AccountId;
use sandbox::cgroup::{CgroupSlot, Limits};
use sandbox::run::{self, RunFailure, RunSpec};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tracing::warn;

use crate::host_resources::HostResources;
use crate::identity::InstanceIdentity;
use crate::{Error, Worker};

/// Bytes that are kept of the end of a tool's output, where it reports its result.
const LOG_TAIL_BYTES: usize = 16 << 10;
/// How long to wait for killed processes to end.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Polling interval while a control group empties.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The resources of a tool, reserved before it runs.
#[derive(Debug)]
pub(crate) struct ToolSandbox {
    pub(crate) identity: InstanceIdentity,
    memory_bytes: u64,
    slot: Option<CgroupSlot>,
    resources: Arc<HostResources>,
}

/// A tool that runs or has run.
#[derive(Debug)]
pub(crate) struct RunningTool {
    child: Child,
    /// The supervisor ends the tool when this is closed.
    input: Option<ChildStdin>,
    /// `None` once it has ended.
    tool_sandbox: Option<ToolSandbox>,
}

/// How a tool ended.
#[derive(Debug)]
pub(crate) struct ToolExit {
    pub(crate) status: ExitStatus,
    /// The end of its output.
    pub(crate) log: String,
    pub(crate) out_of_memory: bool,
    /// Its memory limit, bytes.
    pub(crate) memory_bytes: u64,
}

impl ToolExit {
    /// Returns the verdict of the supervisor, if there is one beside the tool's exit code.
    pub(crate) fn failure(&self) -> Option<RunFailure> {
        RunFailure::of(self.status.code())
    }
}

impl ToolSandbox {
    /// Reserves a user id, a network namespace if `network` is set, and control groups with the limits of a build.
    pub(crate) fn take(
        worker: &Worker,
        account: AccountId,
        network: bool,
        memory_bytes: u64,
    ) -> Result<Self, Error> {
        let resources = worker.resources().clone();
        let identity = worker.identity(network)?;
        let tree = resources.tree.as_ref();
        let mut slot = tree.map(|tree| tree.acquire(Some(account.0))).transpose()?;
        if let Some(slot) = &mut slot {
            slot.begin();
            slot.set(&Limits {
                memory_bytes,
                pids: worker.limits().pids,
                // The weight of a small function: requests have priority over builds.
                cpu_weight: 125,
                cpu_milli: 1000,
            })?;
        }
        Ok(Self {
            identity,
            memory_bytes,
            slot,
            resources,
        })
    }

    /// Returns the files by which the tool enters its control groups.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        self.slot
            .as_ref()
            .map(CgroupSlot::attach_paths)
            .unwrap_or_default()
    }

    fn out_of_memory(&self) -> bool {
        self.slot.as_ref().is_some_and(CgroupSlot::out_of_memory)
    }

    /// Releases everything once the control groups are empty.
    async fn release(mut self) {
        let empty = async {
            while self
                .slot
                .as_ref()
                .is_some_and(|slot| slot.processes().is_ok_and(|left| !left.is_empty()))
            {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        if tokio::time::timeout(EXIT_TIMEOUT, empty).await.is_err() {
            warn!("processes of a build do not end; its user id and control groups are not reused");
            // The user id may still be in use, so it is not reused.
            self.identity.into_user();
            return;
        }
        if let (Some(slot), Some(tree)) = (self.slot.take(), &self.resources.tree) {
            tree.release(slot);
        }
    }
}

impl RunningTool {
    /// Starts a tool with an empty environment.
    pub(crate) async fn start(
        worker: &Worker,
        spec: &RunSpec,
        tool_sandbox: ToolSandbox,
    ) -> io::Result<Self> {
        let mut child = Command::new(worker.virga())
            .arg(run::RUN)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Without namespaces, killing the child alone would leave its descendants; the supervisor ends them.
            .kill_on_drop(worker.isolated())
            .spawn()?;
        let input = child.stdin.take();
        let mut running = Self {
            child,
            input,
            tool_sandbox: Some(tool_sandbox),
        };
        let mut line = serde_json::to_vec(spec).map_err(io::Error::other)?;
        line.push(b'\n');
        if let Some(input) = &mut running.input {
            input.write_all(&line).await?;
        }
        Ok(running)
    }

    /// Waits until the tool has ended.
    pub(crate) async fn wait(mut self) -> io::Result<ToolExit> {
        let (output, errors) = (self.child.stdout.take(), self.child.stderr.take());
        let closing = self
            .tool_sandbox
            .as_ref()
            .map(|tool_sandbox| tool_sandbox.resources.clone());
        let closing = async {
            match &closing {
                Some(resources) => resources.closing().await,
                None => std::future::pending().await,
            }
        };
        let reading = async { tokio::join!(read_tail(output), read_tail(errors)) };
        let ended = async {
            let (output, errors) = reading.await;
            (self.child.wait().await, output + &errors)
        };
        let (status, log) = tokio::select! {
            ended = ended => ended,
            () = closing => {
                drop(self);
                // Shutdown is no failure of the build: it is repeated after the next start.
                return std::future::pending().await;
            }
        };
        let status = status?;
        let Some(tool_sandbox) = self.tool_sandbox.take() else {
            return Err(io::Error::other("the tool has ended already"));
        };
        let (out_of_memory, memory_bytes) =
            (tool_sandbox.out_of_memory(), tool_sandbox.memory_bytes);
        tool_sandbox.release().await;
        Ok(ToolExit {
            status,
            log,
            out_of_memory,
            memory_bytes,
        })
    }
}

impl Drop for RunningTool {
    /// Ends the tool, and releases its resources once all its processes have ended.
    fn drop(&mut self) {
        let Some(tool_sandbox) = self.tool_sandbox.take() else {
            return;
        };
        // The supervisor ends the tool when its input closes, with or without isolation.
        drop(self.input.take());
        if tool_sandbox.slot.is_some()
            && let Err(error) = self.child.start_kill()
        {
            warn!(%error, "failed to end a build");
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(tool_sandbox.release())),
            // Its processes may still run, so its user id is not reused.
            Err(_) => drop(tool_sandbox.identity.into_user()),
        }
    }
}

/// Reads a stream to its end and returns the last part as text.
async fn read_tail(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    let mut buffer = vec![0; 4096];
    if let Some(mut stream) = stream {
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            kept.extend_from_slice(&buffer[..length]);
            if kept.len() > 2 * LOG_TAIL_BYTES {
                kept.drain(..kept.len() - LOG_TAIL_BYTES);
            }
        }
    }
    let from = kept.len().saturating_sub(LOG_TAIL_BYTES);
    String::from_utf8_lossy(&kept[from..]).into_owned()
}
