//! The start of an instance: a function is assigned to a pre-warmed sandbox.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Failure, FunctionKind, Usage};
use sandbox::cgroup::Limits;
use sandbox::wire;
use sandbox::wire::Kind;
use serde::Deserialize;
use tokio::net::unix::pipe;
use tokio::sync::Mutex;

use super::exchange::ExchangeError;
use super::{Channel, Instance, InstanceLimits};
use crate::assignment::Assignment;
use crate::disks::DiskLease;
use crate::frame::Frames;
use crate::guest_report::{GuestFailure, GuestStatus};
use crate::launch_mode::LaunchMode;
use crate::local_files::LocalFiles;
use crate::private_trees::PrivateTrees;
use crate::request::SharedMetadata;
use crate::sandbox_pool::PrewarmedSandbox;
use crate::{Credentials, Error, InstanceSpec, runtime};

/// A successful start and its cost.
#[derive(Debug)]
pub struct Started {
    /// The instance, idle.
    pub instance: Instance,
    /// Output of the user's code during the load.
    pub log: Vec<u8>,
    /// Time from the call to the loaded handler.
    pub total: Duration,
    /// Part of it: obtaining a sandbox.
    pub sandbox: Duration,
    /// Part of it: importing the handler, as measured by the guest.
    pub import: Duration,
    /// Peak memory so far, bytes.
    pub memory_peak: u64,
}

/// A failed start.
#[derive(Debug)]
pub enum StartError {
    /// The user's code is at fault. One waiting request is answered with this failure.
    User {
        /// The failure to answer with.
        failure: Failure,
        /// Output of the code.
        log: Vec<u8>,
        /// Resources used.
        usage: Usage,
    },
    /// The platform is at fault. Another start may succeed.
    Platform(Error),
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        Self::Platform(error)
    }
}

impl Instance {
    /// Assigns a function to a pre-warmed sandbox and waits until the handler is loaded.
    pub(crate) async fn start(
        prewarmed: PrewarmedSandbox,
        (spec, files): (Arc<InstanceSpec>, &LocalFiles),
        credentials: Option<Credentials>,
        instance_limits: InstanceLimits,
        private_trees: &Arc<PrivateTrees>,
        disk: Option<(DiskLease, OwnedFd)>,
        started_at: Instant,
    ) -> Result<Started, StartError> {
        let sandbox = started_at.elapsed();
        let tmp = disk.map(|(lease, tmp)| {
            prewarmed.process.attach_disk(lease);
            tmp
        });
        let limits = limits(&spec, &instance_limits);
        prewarmed
            .process
            .with_slot(|slot| slot.set(&limits))
            .transpose()
            .map_err(Error::from)?;
        if !spec.public_net {
            prewarmed.process.restrict_network().map_err(Error::from)?;
        }
        let (launch_mode, frames) = assign(
            &prewarmed,
            (&spec, files),
            credentials.as_ref(),
            &instance_limits,
            private_trees,
            tmp,
        )?;
        let log =
            pipe::Receiver::from_owned_fd(prewarmed.log).map_err(Error::io("prepare the log"))?;
        let mut instance = Self {
            process: prewarmed.process,
            channel: Mutex::new(Channel { frames, log }),
            short_requests: std::sync::Mutex::default(),
            metadata: SharedMetadata::of(&spec),
            spec,
            launch_mode,
            instance_limits,
            credentials_valid_until: credentials.map(|given| started_at + given.valid_for),
            web: None,
        };
        let (ready, log) = instance
            .exchange(None, Kind::Ready, instance.spec.init_timeout)
            .await;
        let usage = Usage {
            duration_us: started_at.elapsed().as_micros() as u64,
            memory_peak: instance.memory_peak(),
        };
        match ready {
            Ok((status, body)) if GuestStatus::is_ok(status) => {
                let report: ReadyReport = serde_json::from_slice(&body).unwrap_or_default();
                if instance.launch_mode == LaunchMode::Server {
                    instance.collect_server_output();
                }
                Ok(Started {
                    total: started_at.elapsed(),
                    sandbox,
                    import: Duration::from_micros(report.import_us),
                    memory_peak: usage.memory_peak,
                    instance,
                    log,
                })
            }
            Ok((status, body)) => {
                // Its memory counts until it has ended.
                instance.end().await;
                let report: ReadyReport = serde_json::from_slice(&body).unwrap_or_default();
                let failure = report.error.into_failure(GuestStatus::load_failure(status));
                Err(StartError::User {
                    failure,
                    log,
                    usage,
                })
            }
            Err(ExchangeError::Platform(error)) => Err(error.into()),
            Err(ExchangeError::User(failure) | ExchangeError::NotStarted(failure)) => {
                Err(StartError::User {
                    failure,
                    log,
                    usage,
                })
            }
        }
    }
}

/// The guest's report when its handler is loaded, or failed to.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReadyReport {
    import_us: u64,
    error: GuestFailure,
}

fn assign(
    prewarmed: &PrewarmedSandbox,
    (spec, files): (&InstanceSpec, &LocalFiles),
    credentials: Option<&Credentials>,
    instance_limits: &InstanceLimits,
    private_trees: &Arc<PrivateTrees>,
    tmp: Option<OwnedFd>,
) -> Result<(LaunchMode, Frames), Error> {
    let work_directory = prewarmed.process.work_directory();
    let launch_mode = match spec.kind {
        FunctionKind::Http => LaunchMode::Server,
        FunctionKind::Event if prewarmed.is_copy => LaunchMode::Copy,
        FunctionKind::Event => runtime::served_by(&files.interpreter).launch(
            &files.interpreter,
            &prewarmed.shims,
            work_directory.map(|_| spec.memory.bytes()),
        ),
    };
    let mut assignment = Assignment::of(
        spec,
        files,
        launch_mode,
        &prewarmed.hostname,
        instance_limits.response_bytes,
        work_directory,
    );
    if let Some(credentials) = credentials {
        assignment.add_credentials(credentials);
    }
    let payload = serde_json::to_vec(&assignment).map_err(|e| Error::Setup(e.to_string()))?;
    if payload.len() > wire::ASSIGN_MAX {
        return Err(Error::Setup(
            "environment and context are too long for an assignment".into(),
        ));
    }
    let kind = if spec.public_net {
        Kind::Assign
    } else {
        Kind::AssignInternal
    };
    let mut frame = wire::header(kind, payload.len()).to_vec();
    frame[wire::WITH_TMP] = u8::from(tmp.is_some());
    frame.extend_from_slice(&payload);
    let tree = |path: &Path| match work_directory {
        None => {
            let account = spec.function.account;
            let empty = prewarmed.empty.as_deref();
            match empty.map(|empty| private_trees.mount(account, path, empty)) {
                Some(Ok(tree)) => Ok(tree),
                _ => sandbox::clone_tree(path, true),
            }
        }
        Some(_) => File::open(path).map(OwnedFd::from),
    };
    let mut trees = vec![tree(&files.code).map_err(Error::io("mount the code"))?];
    if let Some(layers) = &files.layers {
        trees.push(tree(layers).map_err(Error::io("mount the layers"))?);
    }
    trees.extend(tmp);
    let trees: Vec<_> = trees.iter().map(AsFd::as_fd).collect();
    let pipe = || sandbox::close_on_exec_pipe().map_err(Error::io("make an instance's pipes"));
    let ((requests, ours), (answers, theirs)) = (pipe()?, pipe()?);
    let start_mark = sandbox::start_mark().map_err(Error::io("make an instance's start mark"))?;
    let pipes = [requests.as_fd(), theirs.as_fd(), start_mark.as_fd()];
    sandbox::zygote::assign(prewarmed.socket.as_fd(), &frame, pipes, &trees)
        .map_err(Error::io("assign a sandbox"))?;
    let frames = Frames::new(ours, answers, start_mark);
    let frames = frames.map_err(Error::io("prepare an instance's pipes"))?;
    Ok((assignment.launch_mode, frames))
}

/// Returns an instance's limits. CPU weight and limit grow with the memory: one processor up to 1.5 GB, more beyond. A
/// small function still starts at full speed on an idle machine.
fn limits(spec: &InstanceSpec, instance_limits: &InstanceLimits) -> Limits {
    let mb = spec.memory.mb();
    Limits {
        memory_bytes: spec.memory.bytes(),
        pids: instance_limits.pids,
        cpu_weight: (mb * 1000 / 1024).clamp(1, 10_000),
        cpu_milli: (mb * 1000 / 1536).max(1000),
    }
}
