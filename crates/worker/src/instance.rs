//! One instance: a blank that was given a function, and then serves one request at a time, or, as a web function's, several.

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
use crate::frame::{self, Frames, GuestFrame};
use crate::log::Log;
use crate::outcome::{Failure, Reported};
use crate::private_trees::PrivateTrees;
use crate::process::{Exit, Process};
use crate::sandbox_pool::PrewarmedSandbox;
use crate::short_requests::ShortRequestDetector;
use crate::web::{Connections, Head, NoReply, Outgoing, PORT, StreamedReply};
use crate::{Credentials, Error, InstanceSpec};

/// How long an instance that seems to be ending by itself may take to do so.
const END_GRACE: Duration = Duration::from_millis(50);
/// The same for one that the kernel has ended for its memory, on a busy machine.
const KILL_GRACE: Duration = Duration::from_secs(2);
/// How long a request runs before its instance yields to those that have just begun, where the processors are short. Most
/// requests are shorter, and so are most starts: what a busy neighbour does is hardly felt by them.
const FULL_WEIGHT_FOR: Duration = Duration::from_millis(100);
/// How often what runs for longer is looked at.
const CHECK_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// When a request is looked at for the first time. The next are at twice its age, and at last as often as that.
const FIRST_CHECK: Duration = Duration::from_millis(25);

/// Bounds that hold for every instance of a worker.
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
    launch_mode: LaunchMode,
    instance_limits: InstanceLimits,
    /// Until when its credentials are good enough to begin another request.
    credentials_valid_until: Option<Instant>,
    web: Option<Web>,
}

/// What a web function's instance has beside.
#[derive(Debug)]
struct Web {
    connections: Arc<Connections>,
    /// What its server has printed since a request was told.
    printed: Arc<std::sync::Mutex<Log>>,
}

#[derive(Debug)]
struct Channel {
    frames: Frames,
    log: pipe::Receiver,
}

/// A start that succeeded, and what it cost.
#[derive(Debug)]
pub struct Started {
    /// The instance, idle.
    pub instance: Instance,
    /// What the user's code printed while it was loaded.
    pub log: Vec<u8>,
    /// From the ask to the loaded handler.
    pub total: Duration,
    /// Of it, having a sandbox.
    pub sandbox: Duration,
    /// Of it, importing the handler, as the guest measured it.
    pub import: Duration,
    /// Peak memory so far, bytes.
    pub memory_peak: u64,
}

/// A start that failed.
#[derive(Debug)]
pub enum StartError {
    /// The user's code is at fault; one waiting request is answered with this.
    User {
        /// What to answer.
        failure: Failure,
        /// What the code printed.
        log: Vec<u8>,
        /// What was used.
        usage: Usage,
    },
    /// The platform is at fault; another start may succeed.
    Platform(Error),
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        Self::Platform(error)
    }
}

/// What came of an invocation.
#[derive(Debug)]
pub struct InvocationResult {
    /// For the caller.
    pub outcome: Outcome,
    /// Whether the instance took the event. One that ended before may leave it to another: nothing was done for it.
    pub accepted: bool,
    /// Whether the instance can serve again.
    pub reusable: bool,
    /// Whether its last requests were brief, and waited for nothing but a processor; it is looked at now and then.
    pub short_requests: Option<bool>,
}

/// How an exchange with a guest ended.
enum ExchangeEnd {
    Frame(std::io::Result<GuestFrame>),
    TimedOut,
}

impl Instance {
    /// Gives a blank its function and waits until the handler is loaded.
    pub(crate) async fn start(
        prewarmed: PrewarmedSandbox,
        spec: Arc<InstanceSpec>,
        credentials: Option<Credentials>,
        instance_limits: InstanceLimits,
        private_trees: &Arc<PrivateTrees>,
        disk: Option<(DiskLease, OwnedFd)>,
        begun: Instant,
    ) -> Result<Started, StartError> {
        let sandbox = begun.elapsed();
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
            prewarmed.process.disable_network().map_err(Error::from)?;
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
            spec,
            launch_mode,
            instance_limits,
            credentials_valid_until: credentials.map(|given| begun + given.valid_for),
            web: None,
        };
        let (ready, log) = instance
            .exchange(None, Kind::Ready, instance.spec.init_timeout)
            .await;
        let usage = Usage {
            duration_us: begun.elapsed().as_micros() as u64,
            memory_peak: instance.memory_peak(),
        };
        match ready {
            Ok((status, body)) if status == StatusCode::Ok.as_u16() => {
                let report: ReadyReport = serde_json::from_slice(&body).unwrap_or_default();
                if instance.launch_mode == LaunchMode::Server {
                    instance.collect_server_output();
                }
                Ok(Started {
                    total: begun.elapsed(),
                    sandbox,
                    import: Duration::from_micros(report.import_us),
                    memory_peak: usage.memory_peak,
                    instance,
                    log,
                })
            }
            Ok((status, body)) => {
                // What it holds counts until it is gone.
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
            Err(ExchangeError::User(failure) | ExchangeError::Untouched(failure)) => {
                Err(StartError::User {
                    failure,
                    log,
                    usage,
                })
            }
        }
    }

    /// What it was made from.
    pub fn spec(&self) -> &InstanceSpec {
        &self.spec
    }

    /// Its address, which no other living instance has; none without a network.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.process.address()
    }

    /// Runs one request. The caller makes sure that there is no other at the same time.
    pub async fn invoke(&self, request: RequestId, event: &[u8]) -> InvocationResult {
        let begun = Instant::now();
        let frame = frame::invoke(request, event);
        let (answer, log) = self
            .exchange(Some(&frame), Kind::Answer, self.spec.timeout)
            .await;
        let answer = match answer {
            Ok((status, body)) => self.checked_answer(request, status, body).await,
            lost => lost,
        };
        let mut usage = Usage {
            duration_us: begun.elapsed().as_micros() as u64,
            memory_peak: self.memory_peak(),
        };
        let accepted = !matches!(answer, Err(ExchangeError::Untouched(_)));
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
            accepted,
            reusable: reusable && !self.is_stale(),
            short_requests: self
                .short_requests
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .count(begun, || self.process.sole_process()),
        }
    }

    /// A web function's server listens. What it prints is taken from now on, whether or not there are requests: it must
    /// not wait for room in the pipe.
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
            warn!("what a web function prints cannot be read");
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

    /// Passes a request on to a web function's server. Several may run at a time. Its head is made once more where a kept
    /// connection ends before any byte of a reply.
    ///
    /// # Errors
    /// What to answer when there is no reply: the server has ended, or does not speak HTTP.
    pub async fn forward(
        &self,
        head: &Head<'_>,
        body: Outgoing,
    ) -> Result<Response<StreamedReply>, Failure> {
        let Some(web) = &self.web else {
            let message = "the function serves no HTTP";
            return Err(Failure::new(StatusCode::InternalError, message));
        };
        match web.connections.send(head, body).await {
            Ok(reply) => Ok(reply),
            Err(no_reply) => Err(self.no_reply(&no_reply).await),
        }
    }

    /// Why a web function's server gave no reply, or not all of it.
    pub async fn connection_failure(&self) -> Option<Failure> {
        // Its end is on its way where that is the reason, and certainly where the kernel has ended it.
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
                format!("the function's server takes no connection on port {PORT}: {e}")
            }
            NoReply::Broken(e) => {
                format!("the function's server closed the connection before its reply: {e}")
            }
        };
        Failure::new(StatusCode::UserCodeException, message)
    }

    /// What a web function's server has printed since this was asked last.
    pub fn take_printed(&self) -> Vec<u8> {
        let Some(web) = &self.web else {
            return Vec::new();
        };
        let mut log = web.printed.lock().unwrap_or_else(PoisonError::into_inner);
        // All that was printed before a reply is in the pipe by now, even where the reactor has not heard.
        if let Ok(mut channel) = self.channel.try_lock() {
            let Channel { log: pipe, .. } = &mut *channel;
            collect(|buffer| sandbox::read_now(pipe.as_fd(), buffer), &mut log);
        }
        std::mem::replace(&mut *log, Log::new(self.instance_limits.log_bytes)).finish()
    }

    /// Whether its credentials are too old for another request.
    pub fn is_stale(&self) -> bool {
        self.credentials_valid_until
            .is_some_and(|until| until <= Instant::now())
    }

    /// Takes an answer only when it names its request. Another one was left by what an earlier request started, and
    /// whatever comes from this instance can no longer be told apart.
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
        Err(ExchangeError::User(Failure::new(
            StatusCode::UserProcessExit,
            message,
        )))
    }

    /// Sends a frame, if there is one, and waits for the guest's, collecting the log beside it. On failure
    /// the instance has ended when this returns.
    async fn exchange(
        &self,
        frame: Option<&[u8]>,
        expected: Kind,
        timeout: Duration,
    ) -> (Result<(u16, Vec<u8>), ExchangeError>, Vec<u8>) {
        let mut channel = self.channel.lock().await;
        let Channel { frames, log: pipe } = &mut *channel;
        let mut log = Log::new(self.instance_limits.log_bytes);
        let limit = self.instance_limits.response_bytes as usize;
        // The answer's text, and the id before it.
        let read_max = limit + size_of::<RequestId>();
        let mut deprioritized = false;
        let exchanged = {
            let exchange = async {
                if let Some(frame) = frame {
                    frames.write(frame).await?;
                }
                frames.read(expected, read_max).await
            };
            // One timer for both, since almost none fires.
            let begun = tokio::time::Instant::now();
            let deadline = tokio::time::sleep_until(begun + timeout.min(FIRST_CHECK));
            tokio::pin!(exchange, deadline);
            let mut log_open = true;
            loop {
                tokio::select! {
                    biased;
                    frame = &mut exchange => break ExchangeEnd::Frame(frame),
                    () = &mut deadline => {
                        let age = begun.elapsed();
                        if age >= timeout {
                            break ExchangeEnd::TimedOut;
                        }
                        self.deprioritize(age);
                        deprioritized = true;
                        deadline.as_mut().reset(begun + (age * 2).min(age + CHECK_INTERVAL_MAX).min(timeout));
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
            ExchangeEnd::Frame(Err(_)) => {
                let lost = self.lost(expected).await;
                // Nobody can read it any more, so what is unread stays so.
                Err(match lost {
                    ExchangeError::User(failure) if frame.is_some() && frames.is_untouched() => {
                        ExchangeError::Untouched(failure)
                    }
                    lost => lost,
                })
            }
            ExchangeEnd::TimedOut => {
                self.end().await;
                Err(ExchangeError::User(timed_out(
                    expected,
                    timeout,
                    &self.launch_mode,
                )))
            }
        };
        // All that was printed before the answer is in the pipe by now, even where the reactor has not heard.
        collect(|buffer| sandbox::read_now(pipe.as_fd(), buffer), &mut log);
        (result, log.finish())
    }

    /// Sees to it that a request of this age leaves others room.
    fn deprioritize(&self, age: Duration) {
        self.control("confine to some processors", CgroupSlot::confine_processors);
        if age >= FULL_WEIGHT_FOR {
            self.control("lower the weight of", CgroupSlot::lower_priority);
        }
    }

    /// Does something to its control groups, which it also does without.
    fn control(&self, what: &str, run: impl FnOnce(&mut CgroupSlot) -> sandbox::Result<()>) {
        if let Some(Err(e)) = self.process.with_slot(run) {
            debug!(error = %e, "cannot {what} an instance");
        }
    }

    /// The guest closed its pipe, or wrote something that is not a frame.
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
        // A handler's end is on its way to the init when its pipe closes; killing at once would hide its
        // exit code behind the signal, so an instance that is ending by itself gets a moment.
        let grace = tokio::time::timeout(END_GRACE, self.process.wait());
        if let Ok(exit) = grace.await {
            return exit;
        }
        self.stop();
        self.process.wait().await
    }

    /// Highest memory use since the start, bytes.
    pub fn memory_peak(&self) -> u64 {
        self.process.memory_peak()
    }

    /// Stops the instance's processes where they are, or lets them go on.
    pub fn freeze(&self, frozen: bool) {
        if let Some(web) = self.web.as_ref().filter(|_| frozen) {
            web.connections.close_idle();
        }
        self.process.freeze(frozen);
    }

    /// Ends every process of the instance. Returns at once; [`Instance::ended`] tells when it is done.
    pub fn stop(&self) {
        self.process.kill();
    }

    /// Tells the instance's processes to end (SIGTERM).
    pub fn terminate(&self) {
        self.process.terminate();
    }

    /// Waits until the instance has ended, of itself or not.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let process = self.process.clone();
        async move {
            process.wait().await;
        }
    }
}

/// Why no frame came.
enum ExchangeError {
    User(Failure),
    /// The instance ended before it read anything of the request.
    Untouched(Failure),
    Platform(Error),
}

impl ExchangeError {
    fn into_failure(self) -> Failure {
        match self {
            Self::User(failure) | Self::Untouched(failure) => failure,
            Self::Platform(error) => Failure::new(StatusCode::InternalError, error.to_string()),
        }
    }
}

/// What a guest says when its handler is, or is not, loaded.
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
        Kind::AssignOffline
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
    let pipes = [requests.as_fd(), theirs.as_fd()];
    sandbox::zygote::assign(prewarmed.socket.as_fd(), &frame, pipes, &trees)
        .map_err(Error::io("assign a sandbox"))?;
    let frames = Frames::new(ours, answers).map_err(Error::io("prepare an instance's pipes"))?;
    Ok((assignment.launch_mode, frames))
}

/// Waits until there is something in the log's pipe. Where nothing more is kept, it is emptied now and then: a function
/// that prints without end waits for its pipe, rather than all others for the processor that emptying it takes.
async fn readable(pipe: &pipe::Receiver, full: bool) -> std::io::Result<()> {
    const PAUSE: Duration = Duration::from_millis(2);
    if full {
        tokio::time::sleep(PAUSE).await;
    }
    pipe.readable().await
}

/// Reads what is in the log's pipe without waiting, within reason. Says whether the pipe is still open.
fn collect(mut read: impl FnMut(&mut [u8]) -> std::io::Result<usize>, log: &mut Log) -> bool {
    // Twice the size of a pipe's buffer: a background process that goes on printing does not hold us.
    const ROUNDS: usize = 32;
    // It is cleared each time, mostly for nothing.
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

/// Statuses that a shim may report of a load; a guest that reports another has raised an exception.
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

/// Statuses that a shim may report of a run.
fn run_status(status: u16) -> StatusCode {
    if status == StatusCode::ResponseTooLarge.as_u16() {
        StatusCode::ResponseTooLarge
    } else {
        StatusCode::UserCodeException
    }
}

/// What an instance may use. Its weight grows with its memory, and so does the most it may take: one
/// processor up to 1.5 GB, more beyond; a small function still starts at full speed on an idle machine.
fn limits(spec: &InstanceSpec, instance_limits: &InstanceLimits) -> Limits {
    let mb = spec.memory.mb();
    Limits {
        memory_bytes: spec.memory.bytes(),
        pids: instance_limits.pids,
        cpu_weight: (mb * 1000 / 1024).clamp(1, 10_000),
        cpu_milli: (mb * 1000 / 1536).max(1000),
    }
}
