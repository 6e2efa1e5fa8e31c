//! One instance: a sandbox with a loaded handler. It serves one request at a time, or several if it is a web function's.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use hyper::Response;

use model::{Outcome, RequestId, StatusCode, Usage};
use sandbox::cgroup::{CgroupSlot, Limits};
use sandbox::guest::ExitStatus;
use sandbox::wire::{self, Kind};
use serde::Deserialize;
use tokio::net::unix::pipe;
use tokio::sync::Mutex;
use tracing::{debug, warn};

use crate::assignment::{Assignment, LaunchMode};
use crate::disks::DiskLease;
use crate::frame::{Frames, GuestFrame};
use crate::log::Log;
use crate::outcome::{Failure, Reported};
use crate::private_trees::PrivateTrees;
use crate::process::{Exit, Process};
use crate::request::{RequestMetadata, SharedMetadata};
use crate::sandbox_pool::PrewarmedSandbox;
use crate::short_requests::ShortRequestDetector;
use crate::web::{Connections, Head, NoReply, Outgoing, PORT, StreamedReply};
use crate::{Credentials, Error, InstanceSpec};

/// How long to wait for an instance that seems to be exiting by itself.
const END_GRACE: Duration = Duration::from_millis(50);
/// The same after an out-of-memory kill, which takes longer on a busy machine.
const KILL_GRACE: Duration = Duration::from_secs(2);
/// How long a request runs at full CPU weight. Longer requests yield to new ones when processors are short. Most
/// requests and starts are shorter, so a busy neighbour hardly slows them down.
const FULL_WEIGHT_FOR: Duration = Duration::from_millis(100);
/// Longest interval between checks of a long request.
const CHECK_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// Age of a request at its first check. Further checks come at twice the age each, at most [`CHECK_INTERVAL_MAX`] apart.
const FIRST_CHECK: Duration = Duration::from_millis(25);

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

/// The result of an invocation.
#[derive(Debug)]
pub struct InvocationResult {
    /// The outcome for the caller.
    pub outcome: Outcome,
    /// Whether the user's code got the event. If the instance ended before, another one can run the event.
    pub started: bool,
    /// Whether the instance can serve another request.
    pub reusable: bool,
    /// Whether its last requests were short; `None` if there is no new sample.
    pub short_requests: Option<bool>,
}

/// How an exchange with a guest ended.
enum ExchangeEnd {
    Frame(std::io::Result<GuestFrame>),
    TimedOut,
}

impl Instance {
    /// Assigns a function to a pre-warmed sandbox and waits until the handler is loaded.
    pub(crate) async fn start(
        prewarmed: PrewarmedSandbox,
        spec: Arc<InstanceSpec>,
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
            &spec,
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
            Ok((status, body)) if status == StatusCode::Ok.as_u16() => {
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
                let failure = report.error.into_failure(load_status(status));
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

    /// Returns the specification that it was started with.
    pub fn spec(&self) -> &InstanceSpec {
        &self.spec
    }

    /// Returns its address, which no other running instance has. `None` without a network.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.process.address()
    }

    /// Runs one request. The caller ensures that no other runs at the same time.
    pub async fn invoke(&self, metadata: &RequestMetadata, event: &[u8]) -> InvocationResult {
        let (request, started_at) = (metadata.request, Instant::now());
        let (answer, log) = self
            .exchange(Some((metadata, event)), Kind::Answer, self.spec.timeout)
            .await;
        let answer = match answer {
            Ok((status, body)) => self.checked_answer(request, status, body).await,
            lost => lost,
        };
        let mut usage = Usage {
            duration_us: started_at.elapsed().as_micros() as u64,
            memory_peak: self.memory_peak(),
        };
        let started = !matches!(answer, Err(ExchangeError::NotStarted(_)));
        let (status, answer, reusable) = match answer {
            Ok((status, body)) if status == StatusCode::Ok.as_u16() => (StatusCode::Ok, body, true),
            Ok((status, body)) => {
                let reported: Reported = serde_json::from_slice(&body).unwrap_or_default();
                let failure = reported.into_failure(run_status(status));
                (failure.status, failure.document(request), true)
            }
            Err(lost) => {
                let failure = lost.into_failure();
                if failure.status == StatusCode::TimeLimitReached {
                    usage.duration_us = self.spec.timeout.as_micros() as u64;
                }
                (failure.status, failure.document(request), false)
            }
        };
        InvocationResult {
            outcome: Outcome {
                status,
                answer,
                log,
                usage,
            },
            started,
            reusable: reusable && !self.is_stale(),
            short_requests: self
                .short_requests
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .count(started_at, || self.process.sole_process()),
        }
    }

    /// Collects the output of a web function's server from now on, also between requests. Otherwise the server would
    /// block on a full pipe.
    fn collect_server_output(&mut self) {
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

    /// Returns whether its credentials are too old for another request.
    pub fn is_stale(&self) -> bool {
        self.credentials_valid_until
            .is_some_and(|until| until <= Instant::now())
    }

    /// Accepts an answer only if it names its request. A wrong one was left by an earlier request's background work, and
    /// later frames of this instance could not be attributed either, so the instance is ended.
    async fn checked_answer(
        &self,
        request: RequestId,
        status: u16,
        mut body: Vec<u8>,
    ) -> Result<(u16, Vec<u8>), ExchangeError> {
        if body.starts_with(request.as_bytes()) {
            body.drain(..request.as_bytes().len());
            return Ok((status, body));
        }
        self.end().await;
        let message = "the function answered for another request than its own";
        let failure = Failure::new(StatusCode::UserProcessExit, message);
        let channel = self.channel.lock().await;
        Err(ExchangeError::of(failure, &channel.frames))
    }

    /// Sends a request, if there is one, and waits for the guest's frame while collecting the log. After a failure the
    /// instance has ended when this returns.
    async fn exchange(
        &self,
        request: Option<(&RequestMetadata, &[u8])>,
        expected: Kind,
        timeout: Duration,
    ) -> (Result<(u16, Vec<u8>), ExchangeError>, Vec<u8>) {
        let mut channel = self.channel.lock().await;
        let Channel { frames, log: pipe } = &mut *channel;
        let mut log = Log::new(self.instance_limits.log_bytes);
        let limit = self.instance_limits.response_bytes as usize;
        // The request id precedes the answer.
        let read_max = limit + size_of::<RequestId>();
        let frame = request.map(|(metadata, event)| {
            let sequence = frames.next_sequence();
            self.metadata.frame(metadata, sequence, timeout, event)
        });
        let mut deprioritized = false;
        let exchanged = {
            let exchange = async {
                if let Some(frame) = &frame {
                    frames.write(frame).await?;
                }
                frames.read(expected, read_max).await
            };
            // One timer serves checks and timeout, since almost none fires.
            let started_at = tokio::time::Instant::now();
            let deadline = tokio::time::sleep_until(started_at + timeout.min(FIRST_CHECK));
            tokio::pin!(exchange, deadline);
            let mut log_open = true;
            loop {
                tokio::select! {
                    biased;
                    frame = &mut exchange => break ExchangeEnd::Frame(frame),
                    () = &mut deadline => {
                        let age = started_at.elapsed();
                        if age >= timeout {
                            break ExchangeEnd::TimedOut;
                        }
                        self.deprioritize(age);
                        deprioritized = true;
                        deadline.as_mut().reset(started_at + (age * 2).min(age + CHECK_INTERVAL_MAX).min(timeout));
                    }
                    ready = readable(pipe, log.is_full()), if log_open => log_open = ready.is_ok() && collect(|buffer| pipe.try_read(buffer), &mut log),
                }
            }
        };
        let result = match exchanged {
            ExchangeEnd::Frame(Ok(GuestFrame::Answer { status, body })) => {
                if deprioritized {
                    self.control("let go", CgroupSlot::reset_scheduling);
                }
                Ok((status, body))
            }
            ExchangeEnd::Frame(Ok(GuestFrame::TooLarge)) => {
                self.end().await;
                Err(ExchangeError::User(Failure::new(
                    StatusCode::ResponseTooLarge,
                    format!("response exceeds the limit of {limit} bytes"),
                )))
            }
            ExchangeEnd::Frame(Err(_)) => Err(match self.lost(expected).await {
                ExchangeError::User(failure) if frame.is_some() => {
                    ExchangeError::of(failure, frames)
                }
                lost => lost,
            }),
            ExchangeEnd::TimedOut => {
                self.end().await;
                Err(ExchangeError::User(timed_out(
                    expected,
                    timeout,
                    &self.launch_mode,
                )))
            }
        };
        // All output before the answer is in the pipe by now, even if the reactor has no event for it yet.
        collect(|buffer| sandbox::read_now(pipe.as_fd(), buffer), &mut log);
        (result, log.finish())
    }

    /// Lowers the priority of a request of this age, so that it does not slow down others.
    fn deprioritize(&self, age: Duration) {
        self.control("confine to some processors", CgroupSlot::confine_processors);
        if age >= FULL_WEIGHT_FOR {
            self.control("lower the weight of", CgroupSlot::lower_priority);
        }
    }

    /// Changes its control groups. A failure is only logged.
    fn control(&self, what: &str, run: impl FnOnce(&mut CgroupSlot) -> sandbox::Result<()>) {
        if let Some(Err(e)) = self.process.with_slot(run) {
            debug!(error = %e, "cannot {what} an instance");
        }
    }

    /// Ends the instance after the guest closed its pipe or wrote an invalid frame, and returns the reason.
    async fn lost(&self, expected: Kind) -> ExchangeError {
        let Exit {
            status,
            out_of_memory,
        } = self.end().await;
        if out_of_memory {
            let message = format!("memory limit of {} MB reached", self.spec.memory.mb());
            return ExchangeError::User(Failure::new(StatusCode::MemoryLimitReached, message));
        }
        let how = match status {
            ExitStatus::Exited(code) => format!("with code {code}"),
            ExitStatus::Signaled(signal) => format!("by signal {signal}"),
            ExitStatus::Failed(why) => return ExchangeError::Platform(Error::Setup(why)),
        };
        let during = if expected == Kind::Ready {
            if let Some(program_file) = self.launch_mode.program_file() {
                let message = format!("{program_file} ended before it was ready, {how}");
                return ExchangeError::User(Failure::new(
                    StatusCode::ContainerStateExited,
                    message,
                ));
            }
            "initializing"
        } else {
            "running"
        };
        ExchangeError::User(Failure::new(
            StatusCode::UserProcessExit,
            format!("user process exit when {during}, {how}"),
        ))
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

/// Why no frame was received.
enum ExchangeError {
    User(Failure),
    /// The instance ended before the user's code got the request.
    NotStarted(Failure),
    Platform(Error),
}

impl ExchangeError {
    /// The failure of an instance that has ended without an answer to its last request.
    fn of(failure: Failure, frames: &Frames) -> Self {
        if frames.has_started() {
            Self::User(failure)
        } else {
            Self::NotStarted(failure)
        }
    }

    fn into_failure(self) -> Failure {
        match self {
            Self::User(failure) | Self::NotStarted(failure) => failure,
            Self::Platform(error) => Failure::new(StatusCode::InternalError, error.to_string()),
        }
    }
}

/// The guest's report when its handler is loaded, or failed to.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReadyReport {
    import_us: u64,
    error: Reported,
}

fn assign(
    prewarmed: &PrewarmedSandbox,
    spec: &InstanceSpec,
    credentials: Option<&Credentials>,
    instance_limits: &InstanceLimits,
    private_trees: &Arc<PrivateTrees>,
    tmp: Option<OwnedFd>,
) -> Result<(LaunchMode, Frames), Error> {
    let work_directory = prewarmed.process.work_directory();
    let launch_mode = LaunchMode::of(spec, &prewarmed.shims, prewarmed.is_copy);
    let mut assignment = Assignment::of(
        spec,
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
    let mut trees = vec![tree(&spec.code).map_err(Error::io("mount the code"))?];
    if let Some(layers) = &spec.layers {
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

/// Waits until the log pipe is readable. Once the log is full, the pipe is drained only every few milliseconds:
/// backpressure slows down a function that prints endlessly, instead of its output using the processor time of others.
async fn readable(pipe: &pipe::Receiver, full: bool) -> std::io::Result<()> {
    const PAUSE: Duration = Duration::from_millis(2);
    if full {
        tokio::time::sleep(PAUSE).await;
    }
    pipe.readable().await
}

/// Drains the log pipe without waiting, up to a bound. Returns whether the pipe is still open.
fn collect(mut read: impl FnMut(&mut [u8]) -> std::io::Result<usize>, log: &mut Log) -> bool {
    // Twice the size of a pipe's buffer: a background process that keeps printing cannot occupy the reader.
    const ROUNDS: usize = 32;
    // It is zeroed on every call, mostly for nothing, so it is small.
    let mut buffer = [0; 4 << 10];
    for _ in 0..ROUNDS {
        match read(&mut buffer) {
            Ok(0) => return false,
            Ok(length) => log.push(&buffer[..length]),
            Err(e) => return e.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
    true
}

fn timed_out(expected: Kind, timeout: Duration, launch_mode: &LaunchMode) -> Failure {
    let seconds = timeout.as_secs();
    if expected == Kind::Ready && *launch_mode == LaunchMode::Server {
        let message = format!(
            "port {PORT} was not listened on within {seconds} seconds; the server must listen on 0.0.0.0:{PORT}"
        );
        Failure::new(StatusCode::PortBindingFailed, message)
    } else if expected == Kind::Ready {
        let message = format!("Initialization timed out after {seconds} seconds");
        Failure::new(StatusCode::InitContainerTimeout, message)
    } else {
        let message = format!("Invoking task timed out after {seconds} seconds");
        Failure::new(StatusCode::TimeLimitReached, message)
    }
}

/// Maps a status that a shim reports for a load. Any other value counts as an exception.
fn load_status(status: u16) -> StatusCode {
    let known = [
        StatusCode::ContainerStateExited,
        StatusCode::HandlerNotFound,
        StatusCode::UserCodeError,
    ];
    known
        .into_iter()
        .find(|known| known.as_u16() == status)
        .unwrap_or(StatusCode::UserCodeException)
}

/// Maps a status that a shim reports for a run.
fn run_status(status: u16) -> StatusCode {
    if status == StatusCode::ResponseTooLarge.as_u16() {
        StatusCode::ResponseTooLarge
    } else {
        StatusCode::UserCodeException
    }
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
