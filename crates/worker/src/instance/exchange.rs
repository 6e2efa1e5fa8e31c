//! One exchange with the guest: a request, if there is one, and the frame that answers it.

use std::os::fd::AsFd;
use std::time::Duration;

use model::{Failure, FailureKind, RequestId};
use sandbox::cgroup::CgroupSlot;
use sandbox::guest::ExitStatus;
use sandbox::wire::Kind;
use tracing::debug;

use super::output::{collect, readable};
use super::{Channel, Instance};
use crate::Error;
use crate::frame::{Frames, GuestFrame};
use crate::launch_mode::LaunchMode;
use crate::log::Log;
use crate::process::Exit;
use crate::request::RequestMetadata;
use crate::web::PORT;

/// How long a request runs at full CPU weight. Longer requests yield to new ones when processors are short. Most
/// requests and starts are shorter, so a busy neighbour hardly slows them down.
const FULL_WEIGHT_FOR: Duration = Duration::from_millis(100);

/// Longest interval between checks of a long request.
const CHECK_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Age of a request at its first check. Further checks come at twice the age each, at most [`CHECK_INTERVAL_MAX`] apart.
const FIRST_CHECK: Duration = Duration::from_millis(25);

/// How an exchange with a guest ended.
enum ExchangeEnd {
    Frame(std::io::Result<GuestFrame>),
    TimedOut,
}

/// Why no frame was received.
pub(super) enum ExchangeError {
    User(Failure),
    /// The instance ended before the user's code got the request.
    NotStarted(Failure),
    Platform(Error),
}

impl ExchangeError {
    /// The failure of an instance that has ended without an answer to its last request.
    pub(super) fn of(failure: Failure, frames: &Frames) -> Self {
        if frames.has_started() {
            Self::User(failure)
        } else {
            Self::NotStarted(failure)
        }
    }

    pub(super) fn into_failure(self) -> Failure {
        match self {
            Self::User(failure) | Self::NotStarted(failure) => failure,
            Self::Platform(error) => Failure::new(FailureKind::PlatformFault, error.to_string()),
        }
    }
}

impl Instance {
    /// Sends a request, if there is one, and waits for the guest's frame while collecting the log. After a failure the
    /// instance has ended when this returns.
    pub(super) async fn exchange(
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
                    FailureKind::ResponseTooLarge,
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

    /// Accepts an answer only if it names its request. A wrong one was left by an earlier request's background work, and
    /// later frames of this instance could not be attributed either, so the instance is ended.
    pub(super) async fn checked_answer(
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
        let failure = Failure::new(FailureKind::Exited, message);
        let channel = self.channel.lock().await;
        Err(ExchangeError::of(failure, &channel.frames))
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
    pub(super) async fn lost(&self, expected: Kind) -> ExchangeError {
        let Exit {
            status,
            out_of_memory,
        } = self.end().await;
        if out_of_memory {
            let message = format!("memory limit of {} MB reached", self.spec.memory.mb());
            return ExchangeError::User(Failure::new(FailureKind::OutOfMemory, message));
        }
        let how = match status {
            ExitStatus::Exited(code) => format!("with code {code}"),
            ExitStatus::Signaled(signal) => format!("by signal {signal}"),
            ExitStatus::Failed(why) => return ExchangeError::Platform(Error::Setup(why)),
        };
        let during = if expected == Kind::Ready {
            if let Some(program_file) = self.launch_mode.program_file() {
                let message = format!("{program_file} ended before it was ready, {how}");
                return ExchangeError::User(Failure::new(FailureKind::ProgramNotStarted, message));
            }
            "initializing"
        } else {
            "running"
        };
        ExchangeError::User(Failure::new(
            FailureKind::Exited,
            format!("user process exit when {during}, {how}"),
        ))
    }
}

fn timed_out(expected: Kind, timeout: Duration, launch_mode: &LaunchMode) -> Failure {
    let seconds = timeout.as_secs();
    if expected == Kind::Ready && *launch_mode == LaunchMode::Server {
        let message = format!(
            "port {PORT} was not listened on within {seconds} seconds; the server must listen on 0.0.0.0:{PORT}"
        );
        Failure::new(FailureKind::NotListening, message)
    } else if expected == Kind::Ready {
        let message = format!("Initialization timed out after {seconds} seconds");
        Failure::new(FailureKind::InitTimedOut, message)
    } else {
        let message = format!("Invoking task timed out after {seconds} seconds");
        Failure::new(FailureKind::TimedOut, message)
    }
}
